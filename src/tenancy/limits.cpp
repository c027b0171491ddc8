#include "tokenworks/tenancy/limits.hpp"

#include <algorithm>
#include <cassert>

namespace tokenworks::tenancy {
namespace {

Units limit_of(std::int64_t configured) { return configured == config::kUnlimited ? kNoLimit : std::max<Units>(0, configured); }

}  // namespace

Limits::Node::Node(std::string of) : scope(std::move(of)), requests(kNoLimit), tokens(kNoLimit) {}

// The windows exist without a limit as well: a limit that a reload brings counts what was taken in the minute before it.
void Limits::Node::set(const LimitSpec& spec) {
  requests.set_limit(limit_of(spec.requests_per_minute));
  tokens.set_limit(limit_of(spec.tokens_per_minute));
  places = limit_of(spec.concurrent_requests);
}

Limits::Limits(std::string organization) : organization_(std::move(organization)) {
  nodes_.emplace_back("organization " + organization_);
}

Limits::Node& Limits::node(std::map<std::string, std::uint32_t, std::less<>>& names, const std::string& name,
                           const std::string& scope) {
  const auto [it, added] = names.try_emplace(name, static_cast<std::uint32_t>(nodes_.size()));
  return added ? nodes_.emplace_back(scope) : nodes_[it->second];
}

void Limits::configure(const LimitSpec& organization, const std::map<std::string, LimitSpec>& projects) {
  nodes_[0].set(organization);
  for (const auto& [name, index] : projects_) nodes_[index].set(LimitSpec{});
  for (const auto& [name, spec] : projects) node(projects_, name, "project " + organization_ + "/" + name).set(spec);
}

void Limits::narrow_key(const std::string& key, const LimitSpec& spec) { node(keys_, key, "key " + key).set(spec); }

Limits::Path Limits::path(std::string_view project, std::string_view key) {
  Path path;
  path.nodes[path.size++] = 0;
  if (const auto it = projects_.find(project); it != projects_.end()) path.nodes[path.size++] = it->second;
  if (const auto it = keys_.find(key); it != keys_.end()) path.nodes[path.size++] = it->second;
  return path;
}

std::optional<Limits::Refusal> Limits::enter(const Path& path, std::int64_t now_ms) {
  using What = Refusal::What;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    const Node& n = nodes_[path.nodes[i]];
    if (n.running >= n.places) return Refusal{What::concurrency, n.scope, n.places, n.running, -1};
  }
  std::optional<Refusal> refusal;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    const auto wait = n.requests.wait_ms(1, now_ms);
    if (wait == 0) continue;
    if (!refusal) refusal = Refusal{What::requests, n.scope, n.requests.limit(), n.requests.used(now_ms), 0};
    // Room must be found in all of them: the longest wait, and never if one of them can never give it.
    refusal->retry_after_ms = wait && refusal->retry_after_ms >= 0 ? std::max(refusal->retry_after_ms, *wait) : -1;
  }
  if (refusal) return refusal;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    ++n.running;
    [[maybe_unused]] const auto taken = n.requests.take(1, now_ms);
    assert(taken);
  }
  return std::nullopt;
}

void Limits::leave(const Path& path) {
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    --n.running;
    assert(n.running >= 0);
  }
}

std::optional<Limits::Refusal> Limits::take_tokens(const Path& path, Units units, std::int64_t now_ms, TokensTaken& taken) {
  std::optional<Refusal> refusal;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    const auto wait = n.tokens.wait_ms(units, now_ms);
    if (wait == 0) continue;
    if (!refusal) refusal = Refusal{Refusal::What::tokens, n.scope, n.tokens.limit(), n.tokens.used(now_ms), 0};
    refusal->retry_after_ms = wait && refusal->retry_after_ms >= 0 ? std::max(refusal->retry_after_ms, *wait) : -1;
  }
  if (refusal) return refusal;
  taken.units = units;
  for (std::uint32_t i = 0; i < path.size; ++i) taken.at[i] = *nodes_[path.nodes[i]].tokens.take(units, now_ms);
  return std::nullopt;
}

void Limits::give_back(const Path& path, TokensTaken& taken, Units units) {
  assert(units >= 0 && units <= taken.units);
  for (std::uint32_t i = 0; i < path.size; ++i) {
    nodes_[path.nodes[i]].tokens.give_back(taken.at[i], units);
    taken.at[i].units -= units;
  }
  taken.units -= units;
}

Units Limits::free_tokens(const Path& path, std::int64_t now_ms) {
  Units least = kNoLimit;
  for (std::uint32_t i = 0; i < path.size; ++i) least = std::min(least, nodes_[path.nodes[i]].tokens.free(now_ms));
  return least;
}

Units Limits::most_tokens(const Path& path) const {
  Units least = kNoLimit;
  for (std::uint32_t i = 0; i < path.size; ++i) least = std::min(least, nodes_[path.nodes[i]].tokens.limit());
  return least;
}

Limits::State Limits::state(const Path& path, std::int64_t now_ms) {
  State state;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    const auto tightest = [now_ms](RateWindow& window, Units& limit, Units& remaining, std::int64_t& reset_ms) {
      if (window.limit() == kNoLimit) return;
      const Units free = window.free(now_ms);
      if (limit >= 0 && remaining <= free) return;
      limit = window.limit();
      remaining = free;
      reset_ms = window.reset_ms(now_ms);
    };
    tightest(n.requests, state.limit_requests, state.remaining_requests, state.reset_requests_ms);
    tightest(n.tokens, state.limit_tokens, state.remaining_tokens, state.reset_tokens_ms);
  }
  return state;
}

}  // namespace tokenworks::tenancy
