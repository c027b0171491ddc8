#include "tokenworks/tenancy/rate_window.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace tokenworks::tenancy {
namespace {

constexpr std::int64_t kStart = 1'000'000'000;       // ms

TEST(RateWindow, ATakingThatDoesNotFitTakesNothing) {
  RateWindow window(10);
  EXPECT_TRUE(window.take(7, kStart));
  EXPECT_FALSE(window.take(4, kStart));
  EXPECT_EQ(window.used(kStart), 7);
  EXPECT_EQ(window.free(kStart), 3);
}

TEST(RateWindow, WhatWasNotUsedComesBackUntilItsSlotIsForgotten) {
  RateWindow window(100);
  const auto early = window.take(60, kStart);
  const auto late = window.take(40, kStart + 30'000);
  window.give_back(*early, 20);
  EXPECT_EQ(window.used(kStart + 30'000), 80);
  EXPECT_EQ(window.used(kStart + 61'000), 40);
  window.give_back(*early, 40);                      // long gone: nothing changes
  window.give_back(*late, 40);
  EXPECT_EQ(window.used(kStart + 61'000), 0);
}

TEST(RateWindow, AClockThatStepsBackStandsStill) {
  RateWindow window(10);
  window.take(10, kStart);
  EXPECT_FALSE(window.take(1, kStart - 3'600'000));
  EXPECT_EQ(window.used(-5), 10);
}

TEST(RateWindow, ALoweredLimitCountsWhatIsTakenAlreadyAndItsWaitIsStillTrue) {
  RateWindow window(10);
  window.take(4, kStart);
  window.take(4, kStart + 10'000);
  window.set_limit(5);
  EXPECT_EQ(window.free(kStart + 10'000), 0);
  EXPECT_FALSE(window.take(0, kStart + 10'000)) << "8 are taken of 5";
  EXPECT_EQ(window.wait_ms(1, kStart + 10'500), 50'500);
  EXPECT_FALSE(window.wait_ms(6, kStart));
  window.set_limit(0);
  EXPECT_FALSE(window.take(1, kStart + 500'000));
}

// In the first minutes after a boot slot numbers are small; in the first hour of an hour window they still are.
TEST(RateWindow, TheWaitItNamesIsEnoughAndNotAMillisecondMore) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const std::int64_t interval = seed % 3 == 0 ? 3'600'000 : 60'000;
    RateWindow window(10, interval);
    std::int64_t now = static_cast<std::int64_t>(random() % 3000);
    for (int i = 0; i < 60; ++i) {
      now += static_cast<std::int64_t>(random() % (interval / 8));
      const auto units = static_cast<Units>(1 + random() % 10);
      const auto wait = window.wait_ms(units, now);
      ASSERT_TRUE(wait);
      if (*wait == 0) {
        ASSERT_TRUE(window.take(units, now));
        continue;
      }
      ASSERT_LE(*wait, interval + interval / 60);
      RateWindow early = window, there = window;     // what would happen
      ASSERT_FALSE(early.take(units, now + *wait - 1));
      ASSERT_TRUE(there.take(units, now + *wait));
    }
    const std::int64_t reset = window.reset_ms(now);
    RateWindow early = window, there = window;
    EXPECT_EQ(there.used(now + reset), 0);
    if (reset > 0) {
      EXPECT_GT(early.used(now + reset - 1), 0);
    }
  }
}

// The promise itself, against a plain list of everything that was ever taken: at millisecond starts, over random traffic
// with silences longer than the ring, clocks that step back and limits that change.
TEST(RateWindow, NoSixtySecondsHoldMoreThanTheLimit) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    Units limit = 1 + static_cast<Units>(random() % 50);
    RateWindow window(limit);
    struct Taking {
      std::int64_t at_ms;
      Units units;
    };
    std::vector<Taking> takings;
    std::int64_t now_ms = static_cast<std::int64_t>(random() % 100'000);
    std::int64_t seen_ms = 0;                        // a clock that stepped back stands still here
    int taken_count = 0;
    for (int i = 0; i < 2000; ++i) {
      now_ms += static_cast<std::int64_t>(random() % (random() % 50 == 0 ? 200'000 : 1500));
      if (random() % 300 == 0) window.set_limit(limit = 1 + static_cast<Units>(random() % 50));
      const auto units = static_cast<Units>(random() % 8);
      const std::int64_t clock_ms = random() % 10 == 0 ? now_ms - 30'000 : now_ms;
      seen_ms = std::max(seen_ms, clock_ms);
      const auto taken = window.take(units, clock_ms);
      if (!taken) continue;
      ++taken_count;
      const auto unused = static_cast<Units>(random() % static_cast<std::uint64_t>(units + 1));
      window.give_back(*taken, unused);
      takings.push_back({seen_ms, units - unused});
      Units in_interval = 0;
      for (auto t = takings.rbegin(); t != takings.rend() && t->at_ms > seen_ms - 60'000; ++t) in_interval += t->units;
      ASSERT_LE(in_interval, limit);
    }
    EXPECT_GT(taken_count, 50);
  }
}

}  // namespace
}  // namespace tokenworks::tenancy
