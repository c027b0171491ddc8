#include "ledger/segments.hpp"

#include <gtest/gtest.h>

#include <random>

#include "ledger/rollup.hpp"

namespace tokenworks::ledger {
namespace {

TEST(Segments, AWholeMonthIsOneRangeOfDays) {
  const std::int64_t from = 1000 * kDaySeconds, to = 1030 * kDaySeconds;
  EXPECT_EQ(segments(from * kSecondNs, to * kSecondNs, 0, 0), (std::vector<Segment>{{kDaySeconds, from, to}}));
}

TEST(Segments, RaggedEndsGoDownToTheEntries) {
  const std::int64_t day = 1000 * kDaySeconds;
  const std::int64_t from = (day - 3600 - 60) * kSecondNs - 1, to = (day + kDaySeconds) * kSecondNs + 5;
  EXPECT_EQ(segments(from, to, 0, 0),
            (std::vector<Segment>{{0, from, from + 1},
                                  {60, day - 3660, day - 3600},
                                  {3600, day - 3600, day},
                                  {kDaySeconds, day, day + kDaySeconds},
                                  {0, to - 5, to}}));
}

TEST(Segments, MinutesThatAreNoLongerKeptComeFromTheEntries) {
  const std::int64_t hour = 500'000 * 3600;
  EXPECT_EQ(segments(hour * kSecondNs, (hour + 3600) * kSecondNs, 60, hour + 600),
            (std::vector<Segment>{{0, hour * kSecondNs, (hour + 600) * kSecondNs}, {60, hour + 600, hour + 3600}}));
}

// Against the definition: in order, without gap or overlap, aligned, and never coarser than the buckets asked for.
TEST(Segments, CoverAnySpanExactly) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    SCOPED_TRACE(i);
    const auto pick = [&](std::int64_t n) {
      return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
    };
    const std::int64_t unit =
        std::array<std::int64_t, 4>{1, kSecondNs, 3600 * kSecondNs, kDaySeconds * kSecondNs}[random() % 4];
    const std::int64_t from = pick(400 * kDaySeconds * kSecondNs / unit) * unit;
    const std::int64_t to = random() % 9 == 0 ? INT64_MAX : from + pick(90 * kDaySeconds) * kSecondNs / 7;
    const std::int64_t bucket = std::array<std::int64_t, 5>{0, 60, 300, 3600, kDaySeconds}[random() % 5];
    const std::int64_t minute_from = pick(2) == 0 ? 0 : pick(400) * kDaySeconds;
    std::int64_t at = from;
    for (const Segment& s : segments(from, to, bucket, minute_from)) {
      const std::int64_t scale = s.level == 0 ? 1 : kSecondNs;
      ASSERT_EQ(s.from * scale, at);
      ASSERT_LT(s.from, s.to);
      at = s.to * scale;
      if (s.level == 0) continue;
      ASSERT_EQ(s.from % s.level, 0);
      ASSERT_EQ(s.to % s.level, 0);
      ASSERT_TRUE(bucket == 0 || bucket % s.level == 0);
      ASSERT_TRUE(s.level != 60 || s.from >= minute_from);
    }
    ASSERT_EQ(at, std::max(from, to));
  }
}

}  // namespace
}  // namespace tokenworks::ledger
