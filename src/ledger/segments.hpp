#pragma once
// How a span of time is covered exactly: whole days, hours and minutes come from rollups, ragged ends and minutes that
// are no longer kept from the entries themselves. Pure.
#include <cstdint>
#include <vector>

namespace tokenworks::ledger {

struct Segment {
  std::int64_t level = 0;                            // seconds of the rollup's buckets; 0: read the entries
  std::int64_t from = 0, to = 0;                     // [from, to): Unix seconds with a level, nanoseconds without
  bool operator==(const Segment&) const = default;
};

// Covers [from_ns, to_ns), in order of time, without overlap. `bucket_seconds`: no rollup coarser than the buckets
// asked for is used (0: any). `minute_from`: minutes before it (Unix seconds) are not kept.
std::vector<Segment> segments(std::int64_t from_ns, std::int64_t to_ns, std::int64_t bucket_seconds,
                              std::int64_t minute_from);

}  // namespace tokenworks::ledger
