#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <numeric>

#include "support/scheduler_driver.hpp"

namespace tokenworks::scheduler {
namespace {

using test::SchedulerDriver;

Options options_with(std::int32_t blocks, std::int32_t slots = 64, std::int32_t rows = 128) {
  Options o;
  o.kv_blocks = blocks;
  o.context_tokens = blocks * 16;
  o.rows_max = rows;
  o.sequences_max = slots;
  o.cache_secret = "secret";
  o.step_target_ns = 1'000'000'000;                  // rows, not time, bound a step
  return o;
}

std::vector<TokenId> prompt(std::size_t length, TokenId first = 1) {
  std::vector<TokenId> p(length);
  std::iota(p.begin(), p.end(), first);
  return p;
}

std::size_t rows_of(const StepPlan& plan, Handle h) {
  for (const PlannedRows& item : plan.items) {
    if (item.handle == h) return static_cast<std::size_t>(item.count);
  }
  return 0;
}

TEST(Scheduler, WhatCanNeverFitIsRefused) {
  Options o = options_with(4);
  o.context_tokens = 100;
  EXPECT_TRUE(check_fits(o, 60, 4));
  EXPECT_EQ(check_fits(o, 60, 5).error().code, Errc::context_length_exceeded);    // 65 tokens, four blocks hold 64
  EXPECT_EQ(check_fits(o, 100, 1).error().code, Errc::context_length_exceeded);
  EXPECT_EQ(check_fits(o, 0, 1).error().code, Errc::invalid_request);
  o.kv_blocks = 7;                                   // now the context is the limit: output stops there
  EXPECT_TRUE(check_fits(o, 60, 5000));
}

TEST(Scheduler, DecodesGoFirstAndPromptChunksFillTheStep) {
  SchedulerDriver driver(options_with(64, 64, 32));
  std::mt19937_64 random(1);
  const Handle chat = driver.add(0, 1, Tier::standard, prompt(5), 50);
  driver.step(random);
  const Handle big = driver.add(0, 1, Tier::standard, prompt(100, 1000), 5);
  driver.step(random);
  EXPECT_EQ(driver.plan().items.front().handle, chat);
  EXPECT_EQ(rows_of(driver.plan(), chat), 1u);
  EXPECT_EQ(rows_of(driver.plan(), big), 31u);
  EXPECT_EQ(driver.plan().decode_tokens, 1);
  EXPECT_EQ(driver.plan().prefill_tokens, 31);
}

TEST(Scheduler, AStepTakesAboutItsTargetOnceTheCostIsLearnt) {
  for (const double per_row : {20e3, 100e3, 1e6}) {
    Options o = options_with(4096, 64, 4096);
    o.step_target_ns = 25'000'000;
    SchedulerDriver driver(o, false);
    std::mt19937_64 random(7);
    double last = 0;
    const auto takes = [&](const StepPlan& plan) {
      last = 1e6 + per_row * plan.prefill_tokens + 2e5 * plan.decode_tokens;
      return static_cast<std::int64_t>(last);
    };
    for (int i = 0; i < 400; ++i) {
      if (i % 3 == 0) driver.add(0, 1, Tier::standard, prompt(300 + random() % 900, static_cast<TokenId>(random() % 100'000)), 40);
      driver.step(random, takes);
      if (i < 100 || driver.plan().decode_tokens == 0 || driver.plan().decode_tokens > 60) continue;
      EXPECT_LT(last, 25e6 * 1.3) << per_row << " ns a row, step " << i;
    }
    EXPECT_GT(driver.scheduler().stats().prefill_tokens, 5'000);
  }
}

TEST(Scheduler, APreemptedSequenceKeepsItsPlaceAndFinishesFirst) {
  SchedulerDriver driver(options_with(8, 4));
  std::mt19937_64 random(1);
  const Handle first = driver.add(0, 1, Tier::standard, prompt(40), 60);
  const Handle second = driver.add(0, 1, Tier::standard, prompt(40, 500), 60);
  const Handle third = driver.add(0, 1, Tier::standard, prompt(10, 900), 3);
  std::vector<Handle> ends;
  for (int i = 0; i < 300 && !driver.live().empty(); ++i) {
    const auto before = driver.live();
    driver.step(random);
    for (const auto& [h, live] : before) {
      if (driver.live().count(h) == 0) ends.push_back(h);
    }
  }
  EXPECT_GT(driver.scheduler().stats().preemptions, 0);
  ASSERT_EQ(ends.size(), 3u);
  EXPECT_LT(std::find(ends.begin(), ends.end(), first), std::find(ends.begin(), ends.end(), second));
  EXPECT_NE(std::find(ends.begin(), ends.end(), third), ends.end());
}

TEST(Scheduler, ANewTenantGetsItsSlotsBackFromOneThatBorrowedThem) {
  SchedulerDriver driver(options_with(512, 8));
  std::mt19937_64 random(1);
  for (int i = 0; i < 40; ++i) driver.add(0, 1, Tier::standard, prompt(8, 100 * i), 200);
  for (int i = 0; i < 5; ++i) driver.step(random);
  EXPECT_EQ(driver.scheduler().stats().running, 8);
  std::vector<Handle> mine;
  for (int i = 0; i < 10; ++i) mine.push_back(driver.add(1, 1, Tier::standard, prompt(8, 10'000 + 100 * i), 200));
  for (int i = 0; i < 5; ++i) driver.step(random);
  const auto running = std::count_if(mine.begin(), mine.end(), [&](Handle h) { return driver.live().at(h).running; });
  EXPECT_EQ(running, 4);                             // half of the slots, no more
  EXPECT_EQ(driver.scheduler().stats().preemptions, 4);
}

// A sequence larger than its tenant's share, against a tenant that never stops: it is put off once, then finishes. In its
// own tier the counters see to that; below a busier tier it is the time it has waited.
TEST(Scheduler, ALargeSequenceIsNotStarvedByAStreamOfSmallOnes) {
  for (const bool same_tier : {true, false}) {
    SchedulerDriver driver(options_with(32, 8));
    std::mt19937_64 random(1);
    driver.add(0, 1, same_tier ? Tier::priority : Tier::batch, prompt(400), 100);
    bool done = false;
    for (int steps = 0; steps < (same_tier ? 3'000 : 20'000) && !done; ++steps) {
      for (std::size_t waiting = driver.live().size(); waiting < 12; ++waiting) {
        driver.add(1, 4, Tier::priority, prompt(20 + random() % 60, static_cast<TokenId>(random() % 100'000)), 20);
      }
      driver.step(random);
      if (!same_tier) driver.pass_ns(20'000'000);
      done = true;
      for (const auto& [h, live] : driver.live()) done = done && live.tenant != 0;
    }
    EXPECT_TRUE(done) << same_tier;
    EXPECT_EQ(driver.scheduler().audit(), "");
  }
}

TEST(Scheduler, APausedSequenceKeepsItsBlocksAndIsNotPlannedUntilResumed) {
  Scheduler s(options_with(16));
  SequenceSpec spec;
  spec.prompt = std::make_shared<Prompt>(prompt(20));
  spec.max_tokens = 10;
  const Handle h = s.add(spec, 0).value();
  ASSERT_EQ(s.plan(0).items.size(), 1u);
  const Outcome pause{5, Outcome::Then::pauses};
  s.commit({&pause, 1}, 0, 0);
  EXPECT_TRUE(s.plan(0).items.empty());
  EXPECT_EQ(s.stats().paused, 1);
  EXPECT_EQ(s.stats().blocks_used, 2);
  EXPECT_FALSE(s.empty());
  s.resume(h);
  ASSERT_EQ(s.plan(0).items.size(), 1u);
  const Outcome end{6, Outcome::Then::ends};
  s.commit({&end, 1}, 0, 0);
  EXPECT_TRUE(s.empty());
}

TEST(Scheduler, CancellingFreesTheBlocksAndTheyAreZeroedBeforeTheNextStep) {
  Options o = options_with(16);
  o.prefix_cache = false;
  Scheduler s(o);
  SequenceSpec spec;
  spec.prompt = std::make_shared<Prompt>(prompt(50));
  const Handle h = s.add(spec, 0).value();
  spec.max_tokens = 3;
  const auto table = s.plan(0).block_tables;
  const Outcome go{5, Outcome::Then::goes_on};
  s.commit({&go, 1}, 0, 0);
  s.cancel(h);
  EXPECT_EQ(s.stats().blocks_free, 16);
  auto zero = s.plan(0).zero;
  std::sort(zero.begin(), zero.end());
  auto held = table;
  std::sort(held.begin(), held.end());
  EXPECT_EQ(zero, held);
}

// Long-run shares of what is computed, all of them flooding.
std::vector<double> shares(const std::vector<std::pair<std::uint32_t, Tier>>& tenants, int steps) {
  SchedulerDriver driver(options_with(4096, 64, 128), false);
  std::mt19937_64 random(1);
  std::vector<double> got(tenants.size(), 0);
  double all = 0;
  for (int step = 0; step < steps; ++step) {
    std::vector<int> live(tenants.size(), 0);
    for (const auto& [h, l] : driver.live()) ++live[l.tenant];
    for (std::uint32_t t = 0; t < tenants.size(); ++t) {
      for (; live[t] < 40; ++live[t]) {
        driver.add(t, tenants[t].first, tenants[t].second, prompt(200 + random() % 600, static_cast<TokenId>(random() % 1'000'000)), 4);
      }
    }
    driver.step(random);
    if (step < 50) continue;
    for (const auto& [t, units] : driver.work()) got[t] += units, all += units;
  }
  for (double& g : got) g /= all;
  return got;
}

TEST(Scheduler, TheLargestGapIsShownForAsLongAsAScrapeMayTakeAndNoLongerThanAMinute) {
  SchedulerDriver driver(options_with(4096, 64, 128), false);
  std::mt19937_64 random(1);
  const std::int64_t takes = 100'000'000;            // ten steps a second
  double largest = 0;
  for (int step = 0; step < 250; ++step) {
    for (std::uint32_t t = 0; t < 2; ++t) {
      if (step % 20 == 0) driver.add(t, 1 + t, Tier::standard, prompt(200 + random() % 600, static_cast<TokenId>(random() % 1'000'000)), 4);
    }
    driver.step(random, 0, 0, takes);
    const auto stats = driver.scheduler().stats();
    EXPECT_GE(stats.fairness_gap_units, largest) << "forgotten after " << step << " steps";   // all within half a minute
    EXPECT_LE(stats.fairness_gap_units, stats.fairness_bound_units);
    largest = stats.fairness_gap_units;
  }
  EXPECT_GT(largest, 0);
  driver.add(0, 1, Tier::standard, prompt(10, 1), 700);   // alone for more than a minute
  for (int step = 0; step < 650; ++step) driver.step(random, 0, 0, takes);
  EXPECT_EQ(driver.scheduler().stats().fairness_gap_units, 0);
  EXPECT_GT(driver.scheduler().stats().fairness_bound_units, 0);
}

TEST(Scheduler, TenantsOfATierShareByWeight) {
  const auto got = shares({{1, Tier::standard}, {2, Tier::standard}, {4, Tier::standard}}, 1500);
  EXPECT_NEAR(got[0], 1.0 / 7, 0.01);
  EXPECT_NEAR(got[1], 2.0 / 7, 0.01);
  EXPECT_NEAR(got[2], 4.0 / 7, 0.01);
}

TEST(Scheduler, TiersShareSixteenToFourToOneAndBatchKeepsFivePercent) {
  const auto got = shares({{1, Tier::priority}, {3, Tier::standard}, {9, Tier::batch}}, 1500);
  EXPECT_NEAR(got[0] / got[1], 4.0, 0.15);
  EXPECT_GE(got[2], 0.0495);
  EXPECT_LE(got[2], 0.06);
}

TEST(Scheduler, DeadlinesDropWhatIsLateWhetherItRunsOrWaits) {
  SchedulerDriver driver(options_with(64, 1));
  std::mt19937_64 random(1);
  const Handle runs = driver.add(0, 1, Tier::standard, prompt(10), 100, kNoHandle, driver.now() + 10'000'000);
  const Handle waits = driver.add(0, 1, Tier::standard, prompt(10, 50), 100, kNoHandle, driver.now() + 20'000'000);
  EXPECT_EQ(driver.scheduler().next_deadline_ns(), driver.now() + 10'000'000);
  driver.step(random);
  driver.pass_ns(10'000'000);
  driver.step(random);
  EXPECT_EQ(driver.plan().expired, std::vector<Handle>{runs});
  EXPECT_EQ(driver.scheduler().stats().blocks_used, 1);      // the other one's, already
  driver.pass_ns(10'000'000);
  driver.step(random);
  EXPECT_EQ(driver.plan().expired, std::vector<Handle>{waits});
  EXPECT_TRUE(driver.scheduler().empty());
}

TEST(Scheduler, ThePredictedWaitGrowsWithTheQueueAndIsNothingWithoutOne) {
  SchedulerDriver driver(options_with(1024, 64));
  EXPECT_EQ(driver.scheduler().predicted_wait_ns(), 0);
  std::int64_t last = 0;
  for (int i = 0; i < 10; ++i) {
    driver.add(0, 1, Tier::standard, prompt(1000), 5);
    EXPECT_GT(driver.scheduler().predicted_wait_ns(), last);
    last = driver.scheduler().predicted_wait_ns();
  }
}

// CPU time of the calling thread: a machine that is busy elsewhere counts little. Printed for the record: DESIGN asks for at most
// 20 us, some 6 are seen. What is asserted is ten times the limit: a step that walks all tenants or queues would be over it,
// a slow machine is not.
std::int64_t cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

TEST(Scheduler, AStepOfSixtyFourAmongTenThousandOfAThousandTenantsCostsMicroseconds) {
  Options o = options_with(8192, 64, 512);
  o.step_target_ns = 25'000'000;
  SchedulerDriver driver(o, false);
  std::mt19937_64 random(1);
  for (std::uint32_t i = 0; i < 10'064; ++i) {
    driver.add(i % 1000, 1 + i % 4, Tier::standard, prompt(200 + random() % 200, static_cast<TokenId>(random() % 1'000'000)), 100'000);
  }
  for (int i = 0; i < 600; ++i) driver.step(random);
  EXPECT_EQ(driver.scheduler().stats().running, 64);
  EXPECT_EQ(driver.scheduler().stats().waiting, 10'000);
  constexpr std::size_t kSteps = 300;
  std::vector<std::int64_t> plans, commits, steps;
  Scheduler& s = driver.scheduler();
  for (std::size_t i = 0; i < kSteps; ++i) {
    const std::int64_t begin = cpu_ns();
    const StepPlan& plan = s.plan(driver.now());
    const std::int64_t planned = cpu_ns();
    std::vector<Outcome> outcomes;
    for (const PlannedRows& item : plan.items) {
      if (item.samples) outcomes.push_back({7, Outcome::Then::goes_on});
    }
    const std::int64_t ran = cpu_ns();
    s.commit(outcomes, driver.now(), 0);
    plans.push_back(planned - begin), commits.push_back(cpu_ns() - ran);
    steps.push_back(plans.back() + commits.back());
  }
  const auto median = [](std::vector<std::int64_t>& all) {
    std::nth_element(all.begin(), all.begin() + all.size() / 2, all.end());
    return all[all.size() / 2];
  };
  std::printf("[   cost   ] plan %.1f us, commit %.1f us, a step %.1f us (median of CPU time)\n", static_cast<double>(median(plans)) / 1000,
              static_cast<double>(median(commits)) / 1000, static_cast<double>(median(steps)) / 1000);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  EXPECT_LE(median(steps), 200'000);
#endif
}

}  // namespace
}  // namespace tokenworks::scheduler
