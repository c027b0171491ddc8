#include "engine/retry_pacer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace tokenworks::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

// All who were told come: then the line moves as fast as there are places.
void teach_that_all_come(RetryPacer& pacer, std::int64_t& now) {
  for (std::uint64_t who = 1000; who < 1200; ++who) {
    now += pacer.refuse(who, kSecond, kSecond / 10, now);
    ASSERT_TRUE(pacer.expected(who, now));
    pacer.accept(who, now);
  }
}

// As told: of `in + out` each, `in` get in and `out` are refused once at the time they were told.
void come(RetryPacer& pacer, std::int64_t& now, std::uint64_t& who, int in, int out) {
  for (int i = 0; i < 20 * (in + out); ++i) {
    now += pacer.refuse(++who, kSecond, kSecond / 10, now);
    if (i % (in + out) >= in) now += pacer.refuse(who, kSecond, kSecond / 10, now);
    pacer.accept(who, now);
  }
}

TEST(RetryPacer, EachIsToldATimeOfHisOwnAsFarFromTheLastAsThePlacesAre) {
  RetryPacer pacer;
  std::int64_t now = 0;
  teach_that_all_come(pacer, now);
  now += 100 * kSecond;
  EXPECT_EQ(pacer.refuse(1, 3 * kSecond, kSecond / 2, now), 3 * kSecond);
  EXPECT_NEAR(static_cast<double>(pacer.refuse(2, 3 * kSecond, kSecond / 2, now)), 3.5e9, 1e7);
  EXPECT_NEAR(static_cast<double>(pacer.refuse(3, 3 * kSecond, kSecond / 2, now + kSecond)), 3e9, 1e7);   // four seconds from the start
  EXPECT_EQ(pacer.refuse(4, 3 * kSecond, kSecond / 2, now + 20 * kSecond), 3 * kSecond);   // and long gone
  EXPECT_EQ(pacer.refuse(5, 0, 0, now + 40 * kSecond), kSecond);                           // what Retry-After can say
}

TEST(RetryPacer, WhoComesTooEarlyKeepsHisTimeAndWhoComesAsToldIsExpected) {
  RetryPacer pacer;
  EXPECT_FALSE(pacer.expected(7, 0));
  ASSERT_EQ(pacer.refuse(7, 5 * kSecond, kSecond, 0), 5 * kSecond);
  EXPECT_FALSE(pacer.expected(7, 2 * kSecond));
  EXPECT_EQ(pacer.refuse(7, 9 * kSecond, kSecond, 2 * kSecond), 3 * kSecond);
  EXPECT_TRUE(pacer.expected(7, 5 * kSecond - kSecond / 10));
  EXPECT_TRUE(pacer.expected(7, 6 * kSecond));       // Retry-After is rounded up
  EXPECT_FALSE(pacer.expected(7, 8 * kSecond));
  EXPECT_FALSE(pacer.expected(8, 5 * kSecond));
  EXPECT_FALSE(pacer.expected(0, 5 * kSecond));
  EXPECT_EQ(pacer.refuse(7, 9 * kSecond, kSecond, 5 * kSecond), kSecond);   // there was none after all: not to the end of the line
  EXPECT_TRUE(pacer.expected(7, 6 * kSecond));
  pacer.accept(7, 6 * kSecond);
  EXPECT_FALSE(pacer.expected(7, 6 * kSecond));
  EXPECT_TRUE(pacer.empty(6 * kSecond));
}

TEST(RetryPacer, PlacesAreKeptForThoseWhoComeAndNotForThoseWhoNeverDo) {
  RetryPacer come, stay_away;
  std::int64_t now = 0;
  teach_that_all_come(come, now);
  for (std::uint64_t who = 1; who <= 4; ++who) come.refuse(who, kSecond, 0, now);
  EXPECT_EQ(come.kept(kSecond / 10, now), 0);        // not yet
  EXPECT_EQ(come.kept(kSecond / 10, now + kSecond), 4);
  EXPECT_EQ(come.kept(kSecond / 10, now + 10 * kSecond), 0);   // they did not come
  now = 0;
  for (std::uint64_t who = 1; who <= 200; ++who) stay_away.refuse(who, kSecond, kSecond / 10, now), now += kSecond;
  stay_away.refuse(1001, kSecond, 0, now + 100 * kSecond);
  EXPECT_EQ(stay_away.kept(kSecond / 10, now + 101 * kSecond), 0);
}

TEST(RetryPacer, BeyondTheHorizonTheyAreSpreadOverAllOfIt) {
  RetryPacer pacer;
  std::vector<std::int64_t> told;
  for (std::uint64_t who = 1; who <= 300; ++who) told.push_back(pacer.refuse(who, 2 * kSecond, 4 * kSecond, 0));
  EXPECT_LE(*std::max_element(told.begin(), told.end()), RetryPacer::kHorizonNs);
  EXPECT_GE(*std::min_element(told.begin(), told.end()), 2 * kSecond);
  std::vector<int> in_tenth(10);
  for (const std::int64_t t : told) ++in_tenth[static_cast<std::size_t>(std::min<std::int64_t>((t - 2 * kSecond) / (58 * kSecond / 10), 9))];
  for (const int n : in_tenth) EXPECT_NEAR(n, 30, 6);
  EXPECT_GE(std::set<std::int64_t>(told.begin(), told.end()).size(), 299u);
}

TEST(RetryPacer, WhileFewOfThoseWhoComeGetInTheTimesAreFurtherApartAndComeBackTogetherAfterwards) {
  RetryPacer pacer;
  std::int64_t now = 0;
  std::uint64_t who = 0;
  const auto apart = [&] {                           // of two who are refused at the same time, by nobody's before
    now += 1000 * kSecond;
    const std::int64_t first = pacer.refuse(++who, kSecond, kSecond / 10, now), second = pacer.refuse(++who, kSecond, kSecond / 10, now);
    now += first;
    pacer.accept(who - 1, now);
    now += second - first;
    pacer.accept(who, now);
    return second - first;
  };
  come(pacer, now, who, 9, 0);
  EXPECT_NEAR(static_cast<double>(apart()), 1e8, 2e6);
  come(pacer, now, who, 0, 9);
  const std::int64_t wide = apart();
  EXPECT_GT(wide, 3 * kSecond / 10);
  EXPECT_LE(wide, 8 * kSecond / 10);
  come(pacer, now, who, 40, 0);
  EXPECT_NEAR(static_cast<double>(apart()), 1e8, 2e6);
}

TEST(RetryPacer, WhileFewOfThoseWhoComeGetInPlacesAreKeptForLonger) {
  RetryPacer pacer;
  std::int64_t now = 0;
  std::uint64_t who = 0;
  const auto kept_a_second_before = [&] {            // that is ten paces
    now += 1000 * kSecond;
    const std::int64_t told = pacer.refuse(++who, 3 * kSecond, kSecond / 10, now);
    const std::int64_t kept = pacer.kept(kSecond / 10, now + told - kSecond);
    EXPECT_EQ(pacer.kept(kSecond / 10, now + told - kSecond / 10), 1) << "but always just before";
    now += told;
    pacer.accept(who, now);
    return kept;
  };
  come(pacer, now, who, 9, 0);
  EXPECT_EQ(kept_a_second_before(), 0);
  come(pacer, now, who, 0, 9);
  EXPECT_EQ(kept_a_second_before(), 1);
  come(pacer, now, who, 40, 0);
  EXPECT_EQ(kept_a_second_before(), 0);
}

}  // namespace
}  // namespace tokenworks::engine
