// Who of a tenant goes first, whose deadline is hopeless, and that a step in steady state asks nothing of the heap.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <numeric>

#include "support/scheduler_driver.hpp"

namespace {
std::atomic<std::int64_t> allocations{0};
}
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace tokenworks::scheduler {
namespace {

using test::SchedulerDriver;

Options options_with(std::int32_t slots, std::int32_t rows) {
  Options o;
  o.kv_blocks = 4096;
  o.context_tokens = 4096;
  o.rows_max = rows;
  o.sequences_max = slots;
  o.cache_secret = "secret";
  o.step_target_ns = 1'000'000'000;
  return o;
}

std::vector<TokenId> counted(std::size_t length, TokenId first) {
  std::vector<TokenId> p(length);
  std::iota(p.begin(), p.end(), first);
  return p;
}

bool running(SchedulerDriver& driver, Handle h) { return driver.live().count(h) != 0 && driver.live().at(h).running; }

TEST(SchedulerOrder, WhatIsCachedFurtherGoesFirstWithinTheQuantumAndNoFurther) {
  SchedulerDriver driver(options_with(1, 512));
  std::mt19937_64 random(1);
  driver.add(0, 1, Tier::standard, counted(160, 1), 1);
  driver.step(random);                               // cached now
  const Handle blocks = driver.add(0, 1, Tier::standard, counted(20, 9000), 2);
  driver.step(random);
  ASSERT_TRUE(running(driver, blocks));              // the one slot is taken while these arrive
  const Handle first = driver.add(0, 1, Tier::standard, counted(100, 20'000), 2);
  auto similar = counted(160, 1);
  similar.push_back(77);
  const Handle cached = driver.add(0, 1, Tier::standard, similar, 2);
  const Handle other = driver.add(1, 1, Tier::standard, similar, 50);   // another tenant's cache says nothing to it
  driver.step(random);
  while (running(driver, blocks)) driver.step(random);
  while (!running(driver, cached) && !running(driver, first)) driver.step(random);
  EXPECT_TRUE(running(driver, cached));
  EXPECT_FALSE(running(driver, first));
  while (driver.live().count(first) != 0) driver.step(random);
  (void)other;
}

TEST(SchedulerOrder, AHeadIsOvertakenByAQuantumOfRowsAtMost) {
  Options o = options_with(1, 512);
  o.gap_units = 100;                                 // the quantum is at least 512 rows
  SchedulerDriver driver(o);
  std::mt19937_64 random(1);
  driver.add(0, 1, Tier::standard, counted(320, 1), 1);
  driver.step(random);
  const Handle blocks = driver.add(0, 1, Tier::standard, counted(20, 9000), 2);
  driver.step(random);
  ASSERT_TRUE(running(driver, blocks));
  const Handle first = driver.add(0, 1, Tier::standard, counted(100, 20'000), 1);
  int overtook = 0;
  TokenId fresh = 30'000;
  for (int steps = 0; driver.live().count(first) != 0; ++steps) {
    ASSERT_LT(steps, 200);
    while (driver.live().size() < 6) {               // a stream of prompts that begin with what is cached
      auto p = counted(320, 1);
      const auto own = counted(100, fresh += 200);
      p.insert(p.end(), own.begin(), own.end());
      driver.add(0, 1, Tier::standard, p, 1);
    }
    const auto before = driver.live();
    driver.step(random);
    for (const auto& [h, live] : before) overtook += driver.live().count(h) == 0 && h != first && h != blocks;
  }
  EXPECT_GE(overtook, 3);                            // it is a preference
  EXPECT_LE(overtook, 6);                            // and has an end: 512 rows are five times 100
}

TEST(SchedulerOrder, WorkThatCannotGiveATokenBeforeItsDeadlineIsDroppedBeforeIt) {
  Options o = options_with(1, 512);
  o.step_target_ns = 25'000'000;
  SchedulerDriver driver(o, false);
  std::mt19937_64 random(1);
  const auto takes = [](const StepPlan& p) { return static_cast<std::int64_t>(1e6 + 1e5 * p.prefill_tokens + 2e5 * p.decode_tokens); };
  for (TokenId i = 0; i < 40; ++i) {                 // the cost model learns
    driver.add(0, 1, Tier::standard, counted(100 + static_cast<std::size_t>(i), 1 + 1000 * i), 3);
    while (!driver.live().empty()) driver.step(random, takes);
  }
  const Handle runs = driver.add(0, 1, Tier::standard, counted(10, 500'000), 300);
  // A second and a half of prompt work, with two seconds to go: hopeless from half a second on.
  const std::int64_t deadline = driver.now() + 600'000'000;
  const Handle waits = driver.add(0, 1, Tier::standard, counted(4000, 600'000), 5, kNoHandle, deadline);
  const Handle small = driver.add(0, 1, Tier::standard, counted(20, 700'000), 5, kNoHandle, deadline);
  std::int64_t dropped = 0, small_dropped = 0;
  while (driver.live().count(small) != 0) {
    driver.step(random, takes);
    for (const Handle h : driver.plan().expired) (h == waits ? dropped : small_dropped) = driver.now();
  }
  EXPECT_TRUE(running(driver, runs) || driver.live().count(runs) == 0);
  ASSERT_NE(dropped, 0);
  EXPECT_LT(dropped, deadline - 200'000'000);        // 4,000 rows take at least 0.4 s, and it was known
  EXPECT_TRUE(small_dropped == 0 || small_dropped > deadline - 50'000'000);
}

TEST(SchedulerOrder, AStepInSteadyStateAllocatesNothing) {
  Options o = options_with(64, 512);
  o.step_target_ns = 25'000'000;
  Scheduler s(o);
  std::mt19937_64 random(1);
  std::int64_t now = 1'000'000'000;
  std::vector<std::int64_t> left;                    // [handle] output tokens to go
  const auto arrive = [&] {
    SequenceSpec spec;
    spec.prompt = std::make_shared<Prompt>(counted(100 + random() % 200, static_cast<TokenId>(random() % 1'000'000)));
    spec.tenant = static_cast<std::uint32_t>(random() % 20);
    spec.max_tokens = 64;
    spec.deadline_ns = random() % 2 == 0 ? now + 3'600'000'000'000 : 0;
    spec.reserved_tokens_per_second = spec.tenant < 3 ? 100 : 0;
    const Handle h = s.add(spec, now).value();
    if (left.size() <= h) left.resize(h + 1);
    left[h] = 64;
  };
  for (int i = 0; i < 200; ++i) arrive();
  std::vector<Outcome> outcomes;
  outcomes.reserve(64);
  std::int64_t in_steps = 0, steps = 0, ended = 0;
  for (int i = 0; i < 6000; ++i) {
    int ends = 0;
    const std::int64_t before = allocations;
    const StepPlan& plan = s.plan(now);
    outcomes.clear();
    for (const PlannedRows& item : plan.items) {
      if (!item.samples) continue;
      const bool last = --left[item.handle] == 0;
      ends += last;
      outcomes.push_back({static_cast<TokenId>(now % 1000), last ? Outcome::Then::ends : Outcome::Then::goes_on});
    }
    now += 20'000'000;
    s.commit(outcomes, now, 20'000'000);
    (void)s.forecast();
    if (i >= 4000) in_steps += allocations - before, ++steps, ended += ends;
    for (; ends > 0; --ends) arrive();               // not part of a step
  }
  EXPECT_EQ(in_steps, 0) << "in " << steps << " steps, in which " << ended << " sequences ended and as many began";
  EXPECT_GT(ended, 500);
}

}  // namespace
}  // namespace tokenworks::scheduler
