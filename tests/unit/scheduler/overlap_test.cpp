// Steps planned before the outcomes of the step before are known: random lives with unforeseen ends, cancels, pauses,
// preemption and poisoned rows, every plan checked from the outside and the books audited in between.
#include <gtest/gtest.h>

#include "support/paths.hpp"
#include "support/scheduler_driver.hpp"

namespace tokenworks::scheduler {
namespace {

using test::SchedulerDriver;

struct Met {
  std::int64_t discarded = 0, preemptions = 0, hits = 0, swapped_in = 0;
};

void random_life(std::uint64_t seed, Met& met) {
  std::mt19937_64 random(seed);
  Options options;
  options.kv_blocks = 4 + static_cast<std::int32_t>(random() % (random() % 4 == 0 ? 200 : 40));
  options.context_tokens = options.kv_blocks * 16;
  options.rows_max = 8 + static_cast<std::int32_t>(random() % 120);
  options.sequences_max = 1 + static_cast<std::int32_t>(random() % 16);
  options.prefix_cache = random() % 4 != 0;
  options.cache_secret = "secret";
  options.hash_bits = random() % 3 == 0 ? 2 : 128;
  if (random() % 2 == 0) {
    options.swap_slots = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(2 * options.kv_blocks));
    options.swap_move_ns = static_cast<double>(random() % 3) * 1e6;
  }
  SchedulerDriver driver(options);
  const auto most = static_cast<std::size_t>(options.kv_blocks * 16 / 2);
  const std::uint64_t arrivals = 5 + random() % 40;
  const bool reservations = random() % 3 == 0;
  const int stop = static_cast<int>(random() % 100), hold = static_cast<int>(random() % 300);
  std::int64_t added = 0;
  const auto audit = [&] {
    const std::string broken = driver.scheduler().audit();
    SchedulerDriver::require(broken.empty(), broken);
  };
  for (int step = 0; step < 80; ++step) {
    while (random() % 100 < arrivals) {
      const auto tenant = static_cast<std::uint32_t>(random() % 4);
      std::vector<TokenId> prompt(1 + random() % most, 3);           // most begin alike
      for (std::size_t i = random() % prompt.size(); i < prompt.size(); ++i) prompt[i] = 1 + static_cast<TokenId>(random() % 3);
      const auto output = static_cast<std::int64_t>(1 + random() % std::min<std::size_t>(most, 60));
      const std::int64_t deadline = random() % 10 == 0 ? driver.now() + static_cast<std::int64_t>(random() % 50'000'000) : 0;
      const Handle leader = driver.add(tenant, 1 + tenant, static_cast<Tier>(random() % 3), prompt, output, kNoHandle, deadline, ~0u,
                                       reservations ? tenant * static_cast<std::int64_t>(random() % 2000) : 0);
      ++added;
      for (std::uint64_t n = random() % 8; n > 5; --n, ++added) driver.add(tenant, 1 + tenant, Tier::standard, prompt, output, leader);
    }
    while (!driver.live().empty() && random() % 100 < 15) {          // also of what is under way
      auto any = driver.live().begin();
      std::advance(any, static_cast<long>(random() % driver.live().size()));
      driver.cancel(any->first);
    }
    if (random() % 3 == 0) driver.resume_all();
    driver.overlapped_step(random, stop, hold, 30, 10, random() % 5 == 0);
    if (step % 4 == 0) audit();
  }
  for (int step = 0; !driver.live().empty(); ++step) {
    driver.resume_all();
    SchedulerDriver::require(driver.overlapped_step(random, 0, hold, 0, 0, false) || driver.live().empty(),
                             "nothing was planned although sequences can run");
    if (step % 32 == 0) audit();
    SchedulerDriver::require(step < 40'000, "sequences do not end");
  }
  driver.land();
  const Stats stats = driver.scheduler().stats();
  SchedulerDriver::require(driver.finished() == added, "sequences and ends do not balance");
  SchedulerDriver::require(driver.scheduler().empty(), "not empty in the end");
  SchedulerDriver::require(stats.blocks_used == 0, "blocks stay in use after the last sequence");
  SchedulerDriver::require(stats.blocks_cached + stats.blocks_free == options.kv_blocks, "blocks were lost");
  SchedulerDriver::require(stats.swap_used == 0 && stats.swap_free == options.swap_slots, "host memory stays in use");
  SchedulerDriver::require(stats.rows_discarded == driver.discarded(), "discarded rows are miscounted");
  audit();
  met.discarded += stats.rows_discarded;
  met.preemptions += stats.preemptions;
  met.hits += stats.prefix_hit_tokens;
  met.swapped_in += stats.swapped_in;
}

TEST(SchedulerOverlap, InvariantsHoldThroughRandomLives) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::uint64_t kSeeds = 200;
#else
  constexpr std::uint64_t kSeeds = 300;
#endif
  const std::uint64_t seeds = test::long_run() ? 30'000 : kSeeds;
  Met met;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    try {
      random_life(seed, met);
    } catch (const std::exception& broken) {
      FAIL() << "seed " << seed << ": " << broken.what();
    }
  }
  EXPECT_GT(met.discarded, static_cast<std::int64_t>(seeds));
  EXPECT_GT(met.preemptions, static_cast<std::int64_t>(seeds));
  EXPECT_GT(met.hits, static_cast<std::int64_t>(seeds));
  EXPECT_GT(met.swapped_in, static_cast<std::int64_t>(seeds));
}

// A sequence that stops unforeseen has one row more computed and charged, and no token more counted.
TEST(SchedulerOverlap, TheRowBehindAnUnforeseenEndIsChargedAndNotCounted) {
  Scheduler scheduler({.kv_blocks = 16, .context_tokens = 256});
  SequenceSpec spec;
  spec.prompt = std::make_shared<Prompt>(std::vector<TokenId>(5, 9));
  spec.max_tokens = 50;
  const auto h = scheduler.add(spec, 1);
  ASSERT_TRUE(h);
  ASSERT_EQ(scheduler.plan(1).items.size(), 1u);
  scheduler.assume(std::vector<std::uint8_t>{1});
  const StepPlan& second = scheduler.plan(2);
  ASSERT_EQ(second.items.size(), 1u);
  EXPECT_EQ(second.tokens, std::vector<TokenId>{drawn_by(0)});
  EXPECT_EQ(second.positions, std::vector<std::int32_t>{5});
  const std::vector<Outcome> stops{{.token = 4, .then = Outcome::Then::ends}}, nobody(1);
  scheduler.commit(stops, 3, 0);
  EXPECT_TRUE(scheduler.empty());
  scheduler.assume(std::vector<std::uint8_t>{0});
  EXPECT_TRUE(scheduler.plan(4).items.empty());
  scheduler.commit(nobody, 5, 0);
  const Stats stats = scheduler.stats();
  EXPECT_EQ(stats.steps, 2);
  EXPECT_EQ(stats.prefill_tokens, 5);
  EXPECT_EQ(stats.decode_tokens, 0);
  EXPECT_EQ(stats.rows_discarded, 1);
  EXPECT_EQ(stats.blocks_used, 0);
  EXPECT_EQ(scheduler.audit(), "");
}

// What is known to end gets no row behind its last one.
TEST(SchedulerOverlap, WhatDoesNotGoOnIsNotPlannedBeforeItsOutcome) {
  Scheduler scheduler({.kv_blocks = 16, .context_tokens = 256});
  SequenceSpec spec;
  spec.prompt = std::make_shared<Prompt>(std::vector<TokenId>(5, 9));
  spec.max_tokens = 2;
  ASSERT_TRUE(scheduler.add(spec, 1));
  ASSERT_EQ(scheduler.plan(1).items.size(), 1u);
  scheduler.assume(std::vector<std::uint8_t>{0});
  EXPECT_TRUE(scheduler.plan(2).items.empty());
  const std::vector<Outcome> goes_on{{.token = 4}};
  scheduler.commit(goes_on, 3, 0);
  const StepPlan& next = scheduler.plan(4);
  ASSERT_EQ(next.items.size(), 1u);
  EXPECT_EQ(next.tokens, std::vector<TokenId>{4});
}

}  // namespace
}  // namespace tokenworks::scheduler
