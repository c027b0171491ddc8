// Preempted sequences in host memory: when they go there, that they come back as they were, and that nothing stays behind.
#include <gtest/gtest.h>

#include <numeric>

#include "support/scheduler_driver.hpp"

namespace tokenworks::scheduler {
namespace {

using test::SchedulerDriver;

// Two of three sequences fit the cache: growing ones push each other out.
Options tight(std::int32_t slots, double move_ns = 1000) {
  Options o;
  o.kv_blocks = 10;
  o.context_tokens = 160;
  o.rows_max = 64;
  o.sequences_max = 4;
  o.cache_secret = "secret";
  o.prefix_cache = false;                            // nothing is found again but in host memory
  o.step_target_ns = 1'000'000'000;
  o.swap_slots = slots;
  o.swap_move_ns = move_ns;
  return o;
}

std::vector<TokenId> prompt(std::size_t length, TokenId first) {
  std::vector<TokenId> p(length);
  std::iota(p.begin(), p.end(), first);
  return p;
}

Stats run_to_the_end(SchedulerDriver& driver) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 3; ++i) driver.add(0, 1, Tier::standard, prompt(50, 1000 * (i + 1)), 50);
  for (int step = 0; !driver.live().empty(); ++step) {
    SchedulerDriver::require(step < 1000, "sequences do not end");
    driver.step(random);
    const std::string broken = driver.scheduler().audit();
    SchedulerDriver::require(broken.empty(), broken);
  }
  driver.step(random);                               // zeroes what the last one left
  return driver.scheduler().stats();
}

TEST(SchedulerSwapping, WhatWasSwappedIsNotComputedAnew) {
  SchedulerDriver without(tight(0)), with(tight(32));
  const Stats anew = run_to_the_end(without), swapped = run_to_the_end(with);
  EXPECT_GT(anew.preemptions, 0);
  EXPECT_GT(anew.recomputed_tokens, 0);
  EXPECT_EQ(anew.swapped_out, 0);
  EXPECT_GT(swapped.preemptions, 0);
  EXPECT_EQ(swapped.recomputed_tokens, 0);
  EXPECT_GT(swapped.swapped_in, 0);
  EXPECT_EQ(swapped.swapped_in, swapped.swapped_out);
  EXPECT_EQ(swapped.swap_used, 0);
  EXPECT_EQ(swapped.swap_free, 32);
  EXPECT_TRUE(with.host_is_clean());
}

TEST(SchedulerSwapping, WhatIsQuickerComputedIsComputed) {
  SchedulerDriver driver(tight(32, 1e9));            // a second a block
  const Stats stats = run_to_the_end(driver);
  EXPECT_GT(stats.preemptions, 0);
  EXPECT_EQ(stats.swapped_out, 0);
  EXPECT_GT(stats.recomputed_tokens, 0);
}

TEST(SchedulerSwapping, WithoutRoomForAllOfASequenceItIsComputedAnew) {
  SchedulerDriver driver(tight(2));                  // the victims have four blocks and more
  const Stats stats = run_to_the_end(driver);
  EXPECT_GT(stats.preemptions, 0);
  EXPECT_EQ(stats.swapped_out, 0);
  EXPECT_GT(stats.recomputed_tokens, 0);
}

// The first victim fills the pool; the second, of another tenant, finds no room.
TEST(SchedulerSwapping, AFullPoolFallsBackAndRecovers) {
  SchedulerDriver driver(tight(6));
  std::mt19937_64 random(1);
  for (int i = 0; i < 5; ++i) driver.add(static_cast<std::uint32_t>(i % 2), 1, Tier::standard, prompt(40, 1000 * (i + 1)), 60);
  for (int step = 0; !driver.live().empty(); ++step) {
    ASSERT_LT(step, 2000);
    driver.step(random);
    ASSERT_EQ(driver.scheduler().audit(), "");
  }
  const Stats stats = driver.scheduler().stats();
  EXPECT_GT(stats.swapped_in, 0);
  EXPECT_GT(stats.recomputed_tokens, 0);
  EXPECT_EQ(stats.swap_used, 0);
}

TEST(SchedulerSwapping, ACancelledSequenceLeavesNothingInHostMemory) {
  SchedulerDriver driver(tight(32));
  std::mt19937_64 random(1);
  std::vector<Handle> handles;
  for (int i = 0; i < 3; ++i) handles.push_back(driver.add(0, 1, Tier::standard, prompt(50, 1000 * (i + 1)), 50));
  Handle victim = kNoHandle;
  for (int step = 0; step < 200 && victim == kNoHandle; ++step) {
    driver.step(random);
    if (!driver.plan().preempted.empty()) victim = driver.plan().preempted.front();
  }
  ASSERT_NE(victim, kNoHandle);
  EXPECT_FALSE(driver.host_is_clean());
  EXPECT_GT(driver.scheduler().stats().swap_used, 0);
  driver.cancel(victim);
  EXPECT_EQ(driver.scheduler().stats().swap_used, 0);
  EXPECT_EQ(driver.scheduler().audit(), "");
  driver.step(random);
  EXPECT_FALSE(driver.plan().swap_freed.empty());
  EXPECT_TRUE(driver.host_is_clean());
}

// Of what it had, a paused victim keeps everything in host memory until it is resumed.
TEST(SchedulerSwapping, APausedVictimComesBackAsItWas) {
  SchedulerDriver driver(tight(32));
  std::mt19937_64 random(1);
  const Handle paused = driver.add(0, 1, Tier::standard, prompt(50, 1000), 50);
  driver.step(random, 1000);                         // pauses after its first token
  ASSERT_TRUE(driver.live().at(paused).paused);
  for (int i = 0; i < 2; ++i) driver.add(0, 1, Tier::standard, prompt(50, 2000 * (i + 1)), 50);
  for (int step = 0; step < 300 && driver.scheduler().stats().parked == 0; ++step) driver.step(random);
  ASSERT_EQ(driver.scheduler().stats().parked, 1);
  EXPECT_GT(driver.scheduler().stats().swap_used, 0);
  driver.resume_all();
  for (int step = 0; step < 1000 && !driver.live().empty(); ++step) driver.step(random);
  EXPECT_TRUE(driver.live().empty());
  EXPECT_EQ(driver.scheduler().stats().recomputed_tokens, 0);
}

}  // namespace
}  // namespace tokenworks::scheduler
