#pragma once
// Rollups: sums of SETTLE entries by minute, hour and day (UTC) and series (organization, project, key, model, tier,
// currency), so that usage and spend never scan the entries. They are stored with the entry they reach
// (state.rolled, parts.hpp) in one transaction; a reader adds the few entries behind it in the same snapshot. Minutes are
// kept for kMinuteDays; older minutes are read from the entries.
#include <array>
#include <cstdint>
#include <functional>

#include "tokenworks/base/usage.hpp"

namespace tokenworks::ledger {

inline constexpr std::int64_t kSecondNs = 1'000'000'000;
inline constexpr std::int64_t kDaySeconds = 86400;
inline constexpr std::array<std::int64_t, 3> kLevels = {kDaySeconds, 3600, 60};   // seconds, coarse to fine
inline constexpr std::int64_t kMinuteDays = 8;

struct Cell {
  std::int64_t requests = 0;
  Usage usage;
  std::int64_t cost = 0;
  bool operator==(const Cell&) const = default;

  // False when a sum would overflow; the cell is then unusable.
  bool add(const Cell& other) {
    return !__builtin_add_overflow(requests, other.requests, &requests) &&
           !__builtin_add_overflow(usage.input, other.usage.input, &usage.input) &&
           !__builtin_add_overflow(usage.cached_input, other.usage.cached_input, &usage.cached_input) &&
           !__builtin_add_overflow(usage.output, other.usage.output, &usage.output) &&
           !__builtin_add_overflow(usage.reasoning, other.usage.reasoning, &usage.reasoning) &&
           !__builtin_add_overflow(cost, other.cost, &cost);
  }
};

struct CellKey {
  std::int64_t level = 0, bucket = 0, series = 0;    // bucket: Unix seconds of its beginning
  auto operator<=>(const CellKey&) const = default;
};
struct CellKeyHash {
  std::size_t operator()(const CellKey& key) const noexcept {
    const auto mixed = static_cast<std::uint64_t>(key.bucket + key.level) * 0x9e3779b97f4a7c15u +
                       static_cast<std::uint64_t>(key.series) * 0xc2b2ae3d27d4eb4fu;
    return static_cast<std::size_t>(mixed ^ mixed >> 29);
  }
};

constexpr std::int64_t bucket_of(std::int64_t unix_ns, std::int64_t level_seconds) {
  return unix_ns / kSecondNs / level_seconds * level_seconds;
}

// The first minute that is kept at `unix_ns`.
constexpr std::int64_t minutes_kept_from(std::int64_t unix_ns) {
  return bucket_of(unix_ns, kDaySeconds) - kMinuteDays * kDaySeconds;
}

}  // namespace tokenworks::ledger
