#include "energy.hpp"

#include <algorithm>

namespace tokenworks::telemetry {
namespace {

constexpr std::uint64_t kUncached = 10, kCached = 1, kOutput = 20;

}  // namespace

void EnergyBook::work(const std::string& organization, const Usage& usage) {
  const auto count = [](std::int64_t n) { return static_cast<std::uint64_t>(std::max<std::int64_t>(0, n)); };
  const std::uint64_t units =
      kUncached * count(usage.input - usage.cached_input) + kCached * count(usage.cached_input) + kOutput * count(usage.output);
  if (units == 0) return;
  const std::lock_guard lock(mutex_);
  units_[organization] += units;
}

void EnergyBook::reading(const std::string& card, std::uint64_t millijoules) {
  const std::lock_guard lock(mutex_);
  spent_.try_emplace("_idle");                       // the series exists from the first reading on
  const auto [last, first] = last_.try_emplace(card, millijoules);
  if (!first && millijoules > last->second) open_ += millijoules - last->second;
  last->second = millijoules;
}

void EnergyBook::settle() {
  const std::lock_guard lock(mutex_);
  if (open_ == 0) return;
  unsigned __int128 all = 0;
  for (const auto& [organization, units] : units_) all += units;
  if (all == 0) {
    spent_["_idle"] += open_;
  } else {
    std::uint64_t told = 0;
    const auto most = std::max_element(units_.begin(), units_.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    for (const auto& [organization, units] : units_) {
      const auto share = static_cast<std::uint64_t>(static_cast<unsigned __int128>(open_) * units / all);
      spent_[organization] += share;
      told += share;
    }
    spent_[most->first] += open_ - told;
  }
  open_ = 0;
  units_.clear();
}

std::map<std::string, std::uint64_t> EnergyBook::millijoules() const {
  const std::lock_guard lock(mutex_);
  return spent_;
}

}  // namespace tokenworks::telemetry
