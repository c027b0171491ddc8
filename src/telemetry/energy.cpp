#include "tokenworks/telemetry/energy.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace tokenworks::telemetry {
namespace {

// Modelled energy, of a card of the Hopper kind: 700 W less 100 at rest do some 0.8 PFLOP a second, or read some 4 TB. Only
// their ratio to each other and to the power at rest matters: every window is rescaled to the counter.
constexpr std::uint64_t kFemtojoulesPerFlop = 700, kPicojoulesPerByte = 80;
constexpr std::int64_t kRestMilliwatts = 100'000;    // until a window without a step has shown it
constexpr std::int64_t kRestWindow = 500'000'000;    // the shortest that shows it

std::uint64_t positive(std::int64_t n) { return n > 0 ? static_cast<std::uint64_t>(n) : 0; }

std::uint64_t share(std::uint64_t of, std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<std::uint64_t>(static_cast<unsigned __int128>(of) * part / whole);
}

std::uint64_t at_power(std::int64_t milliwatts, std::int64_t ns) {   // nanojoules
  return static_cast<std::uint64_t>(static_cast<unsigned __int128>(positive(milliwatts)) * positive(ns) / 1000);
}

std::uint64_t own(const EnergyModel& m, const PhaseWork& w) {
  const auto flop = static_cast<unsigned __int128>(positive(m.flop_per_row)) * positive(w.rows) +
                    static_cast<unsigned __int128>(positive(m.flop_per_pair)) * positive(w.pairs);
  const auto bytes = static_cast<unsigned __int128>(positive(m.bytes_per_position)) * positive(w.context);
  return static_cast<std::uint64_t>(flop * kFemtojoulesPerFlop / 1'000'000 + bytes * kPicojoulesPerByte / 1000);
}

}  // namespace

std::vector<std::uint64_t> divide_exactly(std::uint64_t whole, std::span<const std::uint64_t> weights) {
  std::vector<std::uint64_t> parts(weights.size());
  unsigned __int128 all = 0;
  for (const std::uint64_t w : weights) all += w;
  if (all == 0) return parts;
  std::vector<std::pair<unsigned __int128, std::size_t>> remainders;
  std::uint64_t told = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const unsigned __int128 product = static_cast<unsigned __int128>(whole) * weights[i];
    parts[i] = static_cast<std::uint64_t>(product / all);
    told += parts[i];
    remainders.emplace_back(product % all, i);
  }
  std::ranges::stable_sort(remainders, [](const auto& a, const auto& b) { return a.first > b.first; });
  for (std::size_t i = 0; told < whole; ++i, ++told) ++parts[remainders[i].second];
  return parts;
}

EnergyBook::Card& EnergyBook::card(const std::string& name) {
  return cards_.try_emplace(name, Card{.rest_milliwatts = kRestMilliwatts}).first->second;
}

void EnergyBook::set_model(const std::string& id, EnergyModel model) {
  const std::lock_guard lock(mutex_);
  for (const std::string& name : model.cards) (void)card(name);
  models_[id] = std::move(model);
}

void EnergyBook::set_tenants(std::map<std::uint32_t, EnergyTenant> tenants) {
  const std::lock_guard lock(mutex_);
  for (auto& [number, tenant] : tenants) tenants_[number] = std::move(tenant);   // work of one that left is still in a window
}

bool EnergyBook::watches(const std::string& card) const {
  const std::lock_guard lock(mutex_);
  return cards_.contains(card);
}

void EnergyBook::step(std::string_view id, std::int64_t duration_ns, std::span<const TenantWork> work) {
  const std::lock_guard lock(mutex_);
  const auto model = models_.find(id);
  if (model == models_.end() || model->second.cards.empty()) return;
  const EnergyModel& m = model->second;
  std::uint64_t rows = 0;
  for (const TenantWork& t : work) rows += positive(t.prefill.rows) + positive(t.decode.rows);
  for (const std::string& name : m.cards) {          // ranks share the work evenly: as weights, each card counts all of it
    Card& c = card(name);
    c.busy_ns += duration_ns;
    const std::uint64_t shared = positive(m.weight_bytes) * kPicojoulesPerByte / 1000 + at_power(c.rest_milliwatts, duration_ns);
    for (const TenantWork& t : work) {
      Work& w = c.work[{model->first, t.tenant}];
      w.prefill += own(m, t.prefill) + share(shared, positive(t.prefill.rows), rows);
      w.decode += own(m, t.decode) + share(shared, positive(t.decode.rows), rows);
    }
  }
}

std::vector<std::pair<EnergyBook::Key, std::uint64_t>> EnergyBook::at_rest(std::uint64_t nanojoules) const {
  std::vector<std::pair<Key, std::uint64_t>> all;
  std::vector<std::uint64_t> reserved;
  for (const auto& [number, tenant] : tenants_) {
    if (tenant.reserved <= 0) continue;
    all.push_back({{tenant.name, "", "idle"}, 0});
    reserved.push_back(positive(tenant.reserved));
  }
  if (all.empty()) return {{{"_idle", "", "idle"}, nanojoules}};
  const auto parts = divide_exactly(nanojoules, reserved);
  for (std::size_t i = 0; i < parts.size(); ++i) all[i].second = parts[i];
  return all;
}

std::vector<std::pair<EnergyBook::Key, std::uint64_t>> EnergyBook::weights(const Card& c, std::int64_t window_ns) const {
  auto all = at_rest(c.work.empty() ? 1 + at_power(c.rest_milliwatts, window_ns) : at_power(c.rest_milliwatts, window_ns - c.busy_ns));
  for (const auto& [who, work] : c.work) {
    const auto tenant = tenants_.find(who.second);
    const std::string name = tenant == tenants_.end() ? "other" : tenant->second.name;
    all.push_back({{name, who.first, "prefill"}, work.prefill});
    all.push_back({{name, who.first, "decode"}, work.decode});
  }
  return all;
}

void EnergyBook::reading(const std::string& name, std::uint64_t millijoules, std::int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  const auto found = cards_.find(name);
  if (found == cards_.end()) return;
  Card& c = found->second;
  const bool counts = c.begun && millijoules > c.last;
  if (c.begun && millijoules == c.last) return;
  if (counts) {
    const std::uint64_t moved = millijoules - c.last;
    const std::int64_t window = now_ns - c.since_ns;
    auto all = weights(c, window);
    std::vector<std::uint64_t> each;
    for (const auto& [key, weight] : all) each.push_back(weight);
    if (std::ranges::all_of(each, [](std::uint64_t w) { return w == 0; })) all = {{{"_idle", "", "idle"}, 1}}, each = {1};
    const auto parts = divide_exactly(moved, each);
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (parts[i] > 0) spent_[all[i].first] += parts[i];
    if (c.work.empty() && window >= kRestWindow)
      c.rest_milliwatts = static_cast<std::int64_t>(static_cast<unsigned __int128>(moved) * 1'000'000'000 / positive(window));
  }
  spent_.try_emplace({"_idle", "", "idle"});         // the series exists from the first reading on
  c.begun = true;
  c.last = millijoules;
  c.since_ns = now_ns;
  c.busy_ns = 0;
  c.work.clear();
}

std::vector<EnergySpent> EnergyBook::spent() const {
  const std::lock_guard lock(mutex_);
  std::vector<EnergySpent> all;
  for (const auto& [key, millijoules] : spent_) all.push_back({key.organization, key.model, key.phase, millijoules});
  return all;
}

}  // namespace tokenworks::telemetry
