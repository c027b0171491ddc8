// LastResort: counted in ticks, by hand.
#include "app/last_resort.hpp"

#include <gtest/gtest.h>

namespace tokenworks::app {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr int kTicksPerSecond = static_cast<int>(kSecond / LastResort::kTickNs);

struct Watched {
  int ended = 0;
  LastResort resort{10 * kSecond, [this] { ++ended; }};
  void run(int seconds) {
    for (int i = 0; i < seconds * kTicksPerSecond; ++i) resort.tick();
  }
};

TEST(LastResort, EndsTheProcessOnceWhenNobodySaysAnythingForItsPatience) {
  Watched w;
  w.run(10);
  EXPECT_EQ(w.ended, 0);                             // up to a tick more than asked for, never less
  w.run(1);
  EXPECT_EQ(w.ended, 1);
  w.run(100);
  EXPECT_EQ(w.ended, 1);
}

TEST(LastResort, WaitsAsLongAsSomebodyIsAlive) {
  Watched w;
  for (int i = 0; i < 100; ++i) {
    w.run(9);
    w.resort.alive();
  }
  EXPECT_EQ(w.ended, 0);
  w.run(11);
  EXPECT_EQ(w.ended, 1);
}

TEST(LastResort, GivesAnOrderlyEndTheTimeItWasPromised) {
  Watched w;
  w.run(9);
  w.resort.within(30 * kSecond);
  w.run(30);
  EXPECT_EQ(w.ended, 0);
  w.run(1);
  EXPECT_EQ(w.ended, 1);
}

TEST(LastResort, LeavesAStopThatNothingIsLostInAlone) {
  Watched w;
  w.resort.rest();
  w.run(100'000);
  EXPECT_EQ(w.ended, 0);
}

TEST(LastResort, ItsThreadTicksAndEndsWithoutBeingAsked) {
  std::atomic<bool> ended{false};
  LastResort resort(0, [&] { ended = true; ended.notify_all(); });
  const LastResortThread thread(resort);
  ended.wait(false);
}

using LastResortDeathTest = ::testing::Test;

TEST(LastResortDeathTest, LeavesWithTheCodeAndALineForTheOperator) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(leave_at_once(70), ::testing::ExitedWithCode(70), "device_lost.*exit for restart");
}

}  // namespace
}  // namespace tokenworks::app
