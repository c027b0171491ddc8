#include "ledger/segments.hpp"

#include <algorithm>

#include "ledger/rollup.hpp"

namespace tokenworks::ledger {
namespace {

struct Cover {
  std::int64_t bucket_seconds, minute_from;
  std::vector<Segment> made;

  void between(std::int64_t from_ns, std::int64_t to_ns, std::size_t at) {
    if (from_ns >= to_ns) return;
    if (at == kLevels.size()) {
      made.push_back({0, from_ns, to_ns});
      return;
    }
    const std::int64_t level = kLevels[at];
    const std::int64_t width = level * kSecondNs;
    std::int64_t first = from_ns / width + (from_ns % width != 0 ? 1 : 0);
    const std::int64_t last = to_ns / width;
    if (level == 60) first = std::max(first, (minute_from + 59) / 60);
    const bool usable = bucket_seconds == 0 || bucket_seconds % level == 0;
    if (!usable || first >= last) return between(from_ns, to_ns, at + 1);
    between(from_ns, first * width, at + 1);
    made.push_back({level, first * level, last * level});
    between(last * width, to_ns, at + 1);
  }
};

}  // namespace

std::vector<Segment> segments(std::int64_t from_ns, std::int64_t to_ns, std::int64_t bucket_seconds,
                              std::int64_t minute_from) {
  Cover cover{bucket_seconds, minute_from, {}};
  cover.between(std::max<std::int64_t>(from_ns, 0), to_ns, 0);
  return cover.made;
}

}  // namespace tokenworks::ledger
