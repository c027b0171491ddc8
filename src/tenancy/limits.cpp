#include "tokenworks/tenancy/limits.hpp"

#include <algorithm>
#include <cassert>

namespace tokenworks::tenancy {
namespace {

constexpr std::size_t kRequests = 0, kTokens = 1, kInput = 2, kOutput = 3;

// Where a limit stands among the windows: as config::LimitSpec names them.
constexpr std::int64_t LimitSpec::*kFields[kCounted][Limits::kIntervals] = {
    {&LimitSpec::requests_per_minute, &LimitSpec::requests_per_hour, &LimitSpec::requests_per_day},
    {&LimitSpec::tokens_per_minute, &LimitSpec::tokens_per_hour, &LimitSpec::tokens_per_day},
    {&LimitSpec::input_tokens_per_minute, &LimitSpec::input_tokens_per_hour, &LimitSpec::input_tokens_per_day},
    {&LimitSpec::output_tokens_per_minute, &LimitSpec::output_tokens_per_hour, &LimitSpec::output_tokens_per_day}};

Units limit_of(std::int64_t configured) { return configured == config::kUnlimited ? kNoLimit : std::max<Units>(0, configured); }

Units of(const Limits::Tokens& tokens, std::size_t counted) {
  return counted == kTokens ? tokens.input + tokens.output : counted == kInput ? tokens.input : tokens.output;
}

unsigned bit(std::size_t counted, std::size_t interval) { return 1u << (counted * Limits::kIntervals + interval); }

}  // namespace

const char* name(Counted counted) {
  switch (counted) {
    case Counted::requests: return "requests";
    case Counted::tokens: return "tokens";
    case Counted::input_tokens: return "input tokens";
    case Counted::output_tokens: return "output tokens";
    case Counted::concurrency: return "concurrent requests";
  }
  return "";
}

const char* interval_name(std::int64_t seconds) {
  return seconds == kIntervalSeconds[0] ? "minute" : seconds == kIntervalSeconds[1] ? "hour" : "day";
}

// Requests and tokens of the last minute are counted without a limit as well: one that a reload brings counts what was
// taken before it. Longer windows learn that from the books (recover).
Limits::Node::Node(std::string of) : scope(std::move(of)) {
  for (const std::size_t counted : {kRequests, kTokens}) windows[counted][0].window = std::make_unique<RateWindow>(kNoLimit);
}

void Limits::Node::set(const LimitSpec& spec) {
  for (std::size_t counted = 0; counted < kCounted; ++counted) {
    for (std::size_t interval = 0; interval < kIntervals; ++interval) {
      const Units limit = limit_of(spec.*kFields[counted][interval]);
      Window& w = windows[counted][interval];
      if (w.window == nullptr && limit == kNoLimit) continue;
      if (w.window == nullptr) {
        w.window = std::make_unique<RateWindow>(kNoLimit, kIntervalSeconds[interval] * 1000);
        w.fresh = interval > 0;
      }
      w.window->set_limit(limit);
    }
  }
  places = limit_of(spec.concurrent_requests);
}

Limits::Limits(std::string organization) : organization_(std::move(organization)) {
  nodes_.emplace_back("organization " + organization_);
}

Limits::Node& Limits::node(Names& names, const std::string& name, const std::string& scope) {
  const auto [it, added] = names.try_emplace(name, static_cast<std::uint32_t>(nodes_.size()));
  return added ? nodes_.emplace_back(scope) : nodes_[it->second];
}

void Limits::set_all(Names& names, const std::map<std::string, LimitSpec>& specs, const std::string& scope) {
  for (const auto& [name, index] : names) {
    if (!specs.contains(name)) nodes_[index].set(LimitSpec{});
  }
  for (const auto& [name, spec] : specs) node(names, name, scope + name).set(spec);
}

void Limits::configure(const LimitSpec& organization, const std::map<std::string, LimitSpec>& projects,
                       const std::map<std::string, LimitSpec>& models) {
  nodes_[0].set(organization);
  set_all(projects_, projects, "project " + organization_ + "/");
  set_all(models_, models, "organization " + organization_ + " on model ");
}

void Limits::narrow_key(const std::string& key, const LimitSpec& spec) { node(keys_, key, "key " + key).set(spec); }

bool Limits::lacks_history(std::size_t interval) const {
  return std::ranges::any_of(nodes_, [interval](const Node& n) {
    return std::ranges::any_of(n.windows, [interval](const auto& windows) { return windows[interval].fresh; });
  });
}

void Limits::recover(std::size_t interval, const Path& path, Units requests, Tokens tokens, std::int64_t at_ms, std::int64_t now_ms) {
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    for (std::size_t counted = 0; counted < kCounted; ++counted) {
      if (!n.windows[counted][interval].fresh) continue;
      n.window(counted, interval)->recover(counted == kRequests ? requests : of(tokens, counted), at_ms, now_ms);
    }
  }
}

void Limits::history_known() {
  for (Node& n : nodes_) {
    for (auto& windows : n.windows) {
      for (Window& w : windows) w.fresh = false;
    }
  }
}

Limits::Path Limits::path(std::string_view project, std::string_view key, std::string_view model) const {
  Path path;
  path.nodes[path.size++] = 0;
  const auto add = [&path](const Names& names, std::string_view name) {
    if (const auto it = names.find(name); it != names.end()) path.nodes[path.size++] = it->second;
  };
  add(models_, model);
  add(projects_, project);
  add(keys_, key);
  return path;
}

// Room must be found in all of them: the longest wait, and never if one of them can never give it.
void Limits::check(Node& n, std::size_t counted, std::size_t interval, Units units, std::int64_t now_ms,
                   std::optional<Refusal>& refusal) {
  RateWindow* window = n.window(counted, interval);
  if (window == nullptr) return;
  const auto wait = window->wait_ms(units, now_ms);
  if (wait == 0) return;
  if (!refusal) {
    refusal = Refusal{static_cast<Counted>(counted), kIntervalSeconds[interval], n.scope, window->limit(), window->used(now_ms), units, 0};
  }
  refusal->retry_after_ms = wait && refusal->retry_after_ms >= 0 ? std::max(refusal->retry_after_ms, *wait) : -1;
}

std::optional<Limits::Refusal> Limits::enter(const Path& path, std::int64_t now_ms) {
  for (std::uint32_t i = 0; i < path.size; ++i) {
    const Node& n = nodes_[path.nodes[i]];
    if (n.running >= n.places) {
      return Refusal{Counted::concurrency, 0, n.scope, n.places, n.running, 1, n.places == 0 ? -1 : 0};
    }
  }
  std::optional<Refusal> refusal;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    for (std::size_t interval = 0; interval < kIntervals; ++interval) check(nodes_[path.nodes[i]], kRequests, interval, 1, now_ms, refusal);
  }
  if (refusal) return refusal;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    ++n.running;
    for (std::size_t interval = 0; interval < kIntervals; ++interval) {
      if (RateWindow* window = n.window(kRequests, interval)) {
        [[maybe_unused]] const auto taken = window->take(1, now_ms);
        assert(taken);
      }
    }
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

std::optional<Limits::Refusal> Limits::take_tokens(const Path& path, Tokens tokens, std::int64_t now_ms, TokensTaken& taken) {
  std::optional<Refusal> refusal;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    for (std::size_t counted = kTokens; counted < kCounted; ++counted) {
      for (std::size_t interval = 0; interval < kIntervals; ++interval) {
        check(nodes_[path.nodes[i]], counted, interval, of(tokens, counted), now_ms, refusal);
      }
    }
  }
  if (refusal) return refusal;
  static_cast<Tokens&>(taken) = tokens;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    for (std::size_t counted = kTokens; counted < kCounted; ++counted) {
      for (std::size_t interval = 0; interval < kIntervals; ++interval) {
        RateWindow* window = n.window(counted, interval);
        if (window == nullptr) continue;
        taken.slots[i][interval] = window->take(of(tokens, counted), now_ms)->slot;
        taken.windows[i] = static_cast<std::uint16_t>(taken.windows[i] | bit(counted, interval));
      }
    }
  }
  return std::nullopt;
}

void Limits::give_back(const Path& path, TokensTaken& taken, Tokens part) {
  assert(part.input >= 0 && part.input <= taken.input && part.output >= 0 && part.output <= taken.output);
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    for (std::size_t counted = kTokens; counted < kCounted; ++counted) {
      for (std::size_t interval = 0; interval < kIntervals; ++interval) {
        if ((taken.windows[i] & bit(counted, interval)) == 0) continue;
        n.window(counted, interval)->give_back({taken.slots[i][interval], of(taken, counted)}, of(part, counted));
      }
    }
  }
  taken.input -= part.input;
  taken.output -= part.output;
}

Units Limits::free_output(const Path& path, std::int64_t now_ms) {
  Units least = kNoLimit;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    for (const std::size_t counted : {kTokens, kOutput}) {
      for (std::size_t interval = 0; interval < kIntervals; ++interval) {
        if (RateWindow* window = nodes_[path.nodes[i]].window(counted, interval)) least = std::min(least, window->free(now_ms));
      }
    }
  }
  return least;
}

Units Limits::most_output(const Path& path, Units input) const {
  Units least = kNoLimit;
  for (std::uint32_t i = 0; i < path.size; ++i) {
    for (std::size_t interval = 0; interval < kIntervals; ++interval) {
      const Node& n = nodes_[path.nodes[i]];
      if (const RateWindow* window = n.window(kTokens, interval)) least = std::min(least, window->limit() - input);
      if (const RateWindow* window = n.window(kOutput, interval)) least = std::min(least, window->limit());
    }
  }
  return least;
}

Limits::State Limits::state(const Path& path, std::int64_t now_ms) {
  State state;
  const auto tell = [&state](const Policy& policy) {
    for (std::uint32_t p = 0; p < state.size; ++p) {
      Policy& known = state.policies[p];
      if (known.what != policy.what || known.interval_s != policy.interval_s) continue;
      if (policy.remaining < known.remaining) known = policy;
      return;
    }
    state.policies[state.size++] = policy;
  };
  for (std::uint32_t i = 0; i < path.size; ++i) {
    Node& n = nodes_[path.nodes[i]];
    for (std::size_t counted = 0; counted < kCounted; ++counted) {
      for (std::size_t interval = 0; interval < kIntervals; ++interval) {
        RateWindow* window = n.window(counted, interval);
        if (window == nullptr || window->limit() == kNoLimit) continue;
        const Units free = window->free(now_ms);
        tell({static_cast<Counted>(counted), kIntervalSeconds[interval], window->limit(), free, window->reset_ms(now_ms)});
      }
    }
    if (n.places != kNoLimit) tell({Counted::concurrency, 0, n.places, std::max<Units>(0, n.places - n.running), 0});
  }
  return state;
}

}  // namespace tokenworks::tenancy
