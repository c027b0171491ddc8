#include "engine/retry_pacer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace tokenworks::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

TEST(RetryPacer, EachIsToldATimeOfHisOwnAsFarFromTheLastAsThePlacesAre) {
  RetryPacer pacer;
  EXPECT_EQ(pacer.refuse(3 * kSecond, kSecond / 2, 0), 3 * kSecond);
  EXPECT_EQ(pacer.refuse(3 * kSecond, kSecond / 2, 0), 3 * kSecond + kSecond / 2);
  EXPECT_EQ(pacer.refuse(3 * kSecond, kSecond / 2, kSecond), 3 * kSecond);   // the third place is four seconds from the start
  EXPECT_EQ(pacer.refuse(3 * kSecond, kSecond / 2, 20 * kSecond), 3 * kSecond);   // and long gone
  EXPECT_EQ(pacer.refuse(0, 0, 40 * kSecond), kSecond);                    // what Retry-After can say
}

TEST(RetryPacer, BeyondTheHorizonTheyAreSpreadOverAllOfIt) {
  RetryPacer pacer;
  std::vector<std::int64_t> told;
  for (int i = 0; i < 300; ++i) told.push_back(pacer.refuse(2 * kSecond, kSecond, 0));
  EXPECT_EQ(*std::max_element(told.begin(), told.end()), RetryPacer::kHorizonNs);
  EXPECT_GE(*std::min_element(told.begin(), told.end()), 2 * kSecond);
  std::vector<int> in_tenth(10);
  for (const std::int64_t t : told) ++in_tenth[static_cast<std::size_t>(std::min<std::int64_t>((t - 2 * kSecond) / (58 * kSecond / 10), 9))];
  for (const int n : in_tenth) EXPECT_NEAR(n, 30, 3);
  EXPECT_GE(std::set<std::int64_t>(told.begin(), told.end()).size(), 299u);
}

TEST(RetryPacer, WhileFewGetInTheTimesAreFurtherApartAndComeBackTogetherAfterwards) {
  RetryPacer pacer;
  std::int64_t now = 0;
  const auto apart = [&] {                           // of two who are refused at the same time, by nobody's before
    now += 1000 * kSecond;
    const std::int64_t first = pacer.refuse(kSecond, kSecond / 10, now);
    return pacer.refuse(kSecond, kSecond / 10, now) - first;
  };
  const auto attempts = [&](int in, int out) {
    for (int i = 0; i < 20; ++i) {
      for (int n = 0; n < in; ++n) pacer.accept();
      for (int n = 0; n < out; ++n) pacer.refuse(kSecond, kSecond / 10, now += kSecond);
    }
  };
  EXPECT_EQ(apart(), kSecond / 10);
  attempts(5, 5);
  const std::int64_t wide = apart();
  EXPECT_GT(wide, 3 * kSecond / 10);
  EXPECT_LE(wide, 8 * kSecond / 10);
  attempts(40, 1);
  EXPECT_EQ(apart(), kSecond / 10);
}

}  // namespace
}  // namespace tokenworks::engine
