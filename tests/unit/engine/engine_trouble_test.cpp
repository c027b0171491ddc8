// When things go wrong: a device that is lost, numbers that are not, a step that hangs, a queue that is full, the end.
#include <gtest/gtest.h>

#include <thread>

#include "collector.hpp"

namespace tokenworks::engine {
namespace {

using test::expected_output;

TEST(EngineTrouble, ALostDeviceFailsEverySequenceAndRefusesNewOnes) {
  for (const bool throws : {false, true}) {
    Rig rig;
    rig.controls->hold_before_step(5);
    Collector a, b(2);
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), endless(prompt_of(1, 40)), a.stream()));
    auto two = endless(prompt_of(2, 40));
    two.choices = 2;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), std::move(two), b.stream()));
    rig.controls->wait_inside();
    (throws ? rig.controls->throws : rig.controls->fail) = true;
    Collector late;                                  // accepted while nobody knows yet
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(3)), endless(prompt_of(3, 40)), late.stream()));
    rig.controls->hold(false);
    a.wait(), b.wait(), late.wait();
    EXPECT_EQ(a.finish(), Finish::failed);
    EXPECT_EQ(b.finish(0), Finish::failed);
    EXPECT_EQ(b.finish(1), Finish::failed);
    EXPECT_EQ(late.finish(), Finish::failed);
    const auto refused = rig.engine->submit(TicketForTest::make(request_id(4)), endless(prompt_of(3, 40)), late.stream());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::engine_failed);
    const EngineStatus status = rig.engine->status();
    EXPECT_TRUE(status.failed);
    EXPECT_FALSE(status.healthy);
    EXPECT_EQ(status.running + status.waiting, 0);
  }
}

TEST(EngineTrouble, ARowWithoutANumberEndsItsSequenceAlone) {
  Rig rig;
  Collector bad, good;
  std::vector<TokenId> poisoned = prompt_of(4, 80);
  poisoned[0] = test::kNanPrompt;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), endless(poisoned), bad.stream()));
  const auto prompt = prompt_of(5, 80);
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), sequence(prompt, 30), good.stream()));
  bad.wait(), good.wait();
  EXPECT_EQ(bad.finish(), Finish::failed);
  EXPECT_TRUE(bad.tokens().empty());
  EXPECT_EQ(good.tokens(), expected_output(prompt, 30));
  EXPECT_TRUE(rig.engine->status().healthy);
  // And nothing of it is found in the prefix cache.
  Collector again;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(3)), endless(poisoned), again.stream()));
  again.wait();
  EXPECT_EQ(again.finish(), Finish::failed);
  EXPECT_EQ(again.stream()->cached_tokens(), 0);
}

// Many requests of one tenant or of many: what nothing has a number between is the device's doing.
TEST(EngineTrouble, EightRequestsWithoutANumberAndNoneBetweenThemAreALostDevice) {
  std::vector<TokenId> poisoned = prompt_of(4, 40);
  poisoned[0] = test::kNanPrompt;
  for (const bool good_between : {true, false}) {
    Rig rig;
    for (std::uint64_t i = 1; i <= 12; ++i) {
      if (i > 8 && !good_between) break;
      EXPECT_FALSE(rig.engine->status().failed);
      Collector bad(3);                              // choices of one request count once
      auto one = endless(poisoned);
      one.choices = 3;
      ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2 * i)), std::move(one), bad.stream()));
      bad.wait();
      EXPECT_EQ(bad.finish(2), Finish::failed);
      if (!good_between || i % 4 != 0) continue;
      Collector good;
      const auto prompt = prompt_of(static_cast<int>(i), 20);
      ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2 * i + 1)), sequence(prompt, 3), good.stream()));
      good.wait();
      EXPECT_EQ(good.tokens(), expected_output(prompt, 3));
    }
    Collector last;
    while (!good_between && !rig.engine->status().failed) std::this_thread::yield();   // told after the streams were
    const auto after = rig.engine->submit(TicketForTest::make(request_id(99)), sequence(prompt_of(1, 20), 3), last.stream());
    EXPECT_EQ(static_cast<bool>(after), good_between);
    if (after) last.wait();
    else EXPECT_EQ(after.error().code, Errc::engine_failed);
  }
}

TEST(EngineTrouble, AStuckStepDropsHealthAndAFinishedOneRestoresIt) {
  EngineOptions options;
  options.stuck_after_ns = 2'000'000'000;
  Rig rig({}, options);
  rig.clock.advance_ns(3'600'000'000'000);           // an idle hour is no reason
  EXPECT_TRUE(rig.engine->status().healthy);
  EXPECT_EQ(rig.engine->status().last_step_age_ns, 0);
  rig.controls->hold_before_step(3);
  Collector c;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), endless(prompt_of(6, 20)), c.stream()));
  rig.controls->wait_inside();
  rig.clock.advance_ns(1'900'000'000);
  EXPECT_TRUE(rig.engine->status().healthy);
  rig.clock.advance_ns(200'000'000);
  EXPECT_FALSE(rig.engine->status().healthy);
  EXPECT_FALSE(rig.engine->status().failed);
  EXPECT_EQ(rig.engine->status().last_step_age_ns, 2'100'000'000);
  rig.controls->hold(false);
  c.wait();
  rig.settle();
  EXPECT_TRUE(rig.engine->status().healthy);
}

TEST(EngineTrouble, WaitingForAnExtensionIsNotBeingStuck) {
  Rig rig;
  Collector c;
  auto s = endless(prompt_of(6, 20));
  s.extendable = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1), 0, 3), std::move(s), c.stream()));
  c.wait(3);
  rig.until([](const EngineStatus& status) { return status.steps >= 3; });
  rig.clock.advance_ns(1);                           // from here on only an idle engine has a step of no age
  rig.until([](const EngineStatus& status) { return status.last_step_age_ns == 0; });
  rig.clock.advance_ns(60'000'000'000);
  EXPECT_TRUE(rig.engine->status().healthy);
  rig.engine->extend(request_id(1), 3, true);
  c.wait();
  EXPECT_EQ(c.finish(), Finish::budget);
}

TEST(EngineTrouble, AFullQueueIsRefusedWithAWaitAndHasRoomAgainLater) {
  EngineOptions options;
  options.inbox = 4;
  Rig rig({}, options);
  rig.controls->hold(true);
  std::vector<std::unique_ptr<Collector>> accepted;
  int refused = 0;
  for (std::uint64_t i = 0; i < 12; ++i) {
    auto c = std::make_unique<Collector>();
    const auto r = rig.engine->submit(TicketForTest::make(request_id(i), static_cast<std::uint32_t>(i)), sequence(prompt_of(7, 30), 5), c->stream());
    if (r) {
      accepted.push_back(std::move(c));
      continue;
    }
    ++refused;
    EXPECT_EQ(r.error().code, Errc::server_is_overloaded);
    EXPECT_GE(r.error().retry_after_ms, 1000);
  }
  EXPECT_GE(refused, 4);
  EXPECT_GE(accepted.size(), 4u);
  rig.controls->hold(false);
  for (auto& c : accepted) c->wait();
  Collector c;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(99)), sequence(prompt_of(7, 30), 5), c.stream()));
  c.wait();
  EXPECT_EQ(c.tokens(), expected_output(prompt_of(7, 30), 5));
}

TEST(EngineTrouble, StoppingEndsEverythingAsCancelledAndRefusesWhatComesLater) {
  Rig rig({.kv_blocks = 64, .context_tokens = 1000, .sequences_max = 2});
  rig.controls->hold_before_step(4);
  std::vector<std::unique_ptr<Collector>> all;
  for (std::uint64_t i = 0; i < 6; ++i) {
    all.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(i)), endless(prompt_of(8, 30)), all.back()->stream()));
  }
  rig.controls->wait_inside();
  std::thread stopping([&] { rig.engine->stop(); });
  Collector late;
  for (std::uint64_t i = 100;; ++i) {                // until the door is closed
    all.push_back(std::make_unique<Collector>());
    const auto r = rig.engine->submit(TicketForTest::make(request_id(i)), endless(prompt_of(8, 30)), all.back()->stream());
    if (r) continue;
    all.pop_back();
    if (r.error().code == Errc::server_draining) break;
    // The thread that stops may come late: until then this tenant can fill its own queue (429), or everybody's (503).
    if (r.error().code != Errc::rate_limit_exceeded && r.error().code != Errc::server_is_overloaded) {
      ADD_FAILURE() << r.error().message;
      break;
    }
    std::this_thread::yield();
  }
  rig.controls->hold(false);
  stopping.join();
  for (auto& c : all) {
    c->wait();
    EXPECT_EQ(c->finish(), Finish::cancelled);
  }
  const auto r = rig.engine->submit(TicketForTest::make(request_id(1)), endless(prompt_of(8, 30)), late.stream());
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().code, Errc::server_draining);
}

// Of a deadline: more than the engine can expect two requests to take. When the second one comes it may have seen steps by then,
// on a machine where this thread waits for a core, and would refuse what it predicts to be late.
constexpr std::int64_t kAllowed = 3'600'000'000'000;

TEST(EngineTrouble, ADeadlineEndsASequenceThatRunsAndOneThatWaits) {
  Rig rig({.kv_blocks = 256, .context_tokens = 1000, .sequences_max = 1});
  rig.controls->hold_before_step(5);
  Collector runs, waits;
  auto s = endless(prompt_of(9, 30));
  s.deadline_ns = rig.clock.steady_ns() + kAllowed;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), s, runs.stream()));
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), s, waits.stream()));
  rig.controls->wait_inside();
  rig.clock.advance_ns(kAllowed);
  rig.controls->hold(false);
  runs.wait(), waits.wait();
  EXPECT_EQ(runs.finish(), Finish::deadline);
  EXPECT_EQ(runs.tokens(), expected_output(prompt_of(9, 30), static_cast<std::int64_t>(runs.tokens().size()), 0, 0, true));
  EXPECT_EQ(waits.finish(), Finish::deadline);
  EXPECT_TRUE(waits.tokens().empty());
}

// Who waits for nothing any more is told before the next step begins, not when it is over.
TEST(EngineTrouble, WhatIsDroppedIsToldBeforeTheStepThatFollows) {
  Rig rig({.kv_blocks = 256, .context_tokens = 1000, .sequences_max = 1});
  rig.controls->hold_before_step(5);
  Collector runs, waits;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), endless(prompt_of(9, 30)), runs.stream()));
  auto s = endless(prompt_of(9, 30));
  s.deadline_ns = rig.clock.steady_ns() + kAllowed;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), s, waits.stream()));
  rig.controls->wait_inside();                       // of step 5, that is: the plan of the next one finds the deadline passed
  rig.clock.advance_ns(kAllowed);
  rig.controls->hold_before_step(6);
  rig.controls->hold(false);
  waits.wait();                                      // while step 6 stands still
  EXPECT_EQ(waits.finish(), Finish::deadline);
  EXPECT_EQ(rig.engine->status().waiting, 0);        // and the status knows
  rig.engine->cancel(request_id(1));
  rig.controls->hold_before_step(-1);
  rig.controls->hold(false);
  runs.wait();
  EXPECT_EQ(runs.finish(), Finish::cancelled);
}

}  // namespace
}  // namespace tokenworks::engine
