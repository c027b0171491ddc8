// A step that does not return, in injected time: readiness, the ends of its sequences, the way back or out.
#include <gtest/gtest.h>

#include <thread>

#include "collector.hpp"

namespace tokenworks::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

TEST(EngineWatchdog, AStuckStepDropsReadinessInTwoSecondsAndFailsItsSequencesWithWhatTheyGot) {
  Rig rig;
  rig.controls->hold_before_step(5);
  Collector runs, two(2);
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), endless(prompt_of(1, 40)), runs.stream()));
  auto choices = endless(prompt_of(2, 40));
  choices.choices = 2;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), std::move(choices), two.stream()));
  rig.controls->wait_inside();
  Collector inbox;                                   // the engine thread has not even seen this one
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(3)), endless(prompt_of(3, 40)), inbox.stream()));
  rig.engine->watch();
  EXPECT_TRUE(rig.engine->status().healthy);
  rig.clock.advance_ns(2 * kSecond + 1);
  EXPECT_FALSE(rig.engine->status().healthy);        // not ready, and nobody is failed for a slow step yet
  rig.engine->watch();
  runs.drain();
  EXPECT_EQ(runs.finish(), Finish::running);
  rig.clock.advance_ns(8 * kSecond);
  rig.engine->watch();
  runs.wait(), two.wait(), inbox.wait();             // the engine thread still hangs
  EXPECT_EQ(runs.finish(), Finish::failed);
  EXPECT_EQ(two.finish(0), Finish::failed);
  EXPECT_EQ(two.finish(1), Finish::failed);
  EXPECT_EQ(inbox.finish(), Finish::failed);
  const auto counted = runs.tokens().size();
  EXPECT_GT(counted, 0u);
  EXPECT_EQ(runs.tokens(), test::expected_output(prompt_of(1, 40), static_cast<std::int64_t>(counted), 0, 0, true));
  Collector late;
  const auto refused = rig.engine->submit(TicketForTest::make(request_id(4)), endless(prompt_of(4, 40)), late.stream());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::server_is_overloaded);
  EXPECT_FALSE(rig.engine->status().failed);

  rig.controls->hold(false);                         // it comes back: the engine starts anew
  rig.until([](const EngineStatus& status) { return status.healthy; });
  rig.settle();
  EXPECT_TRUE(rig.engine->status().healthy);
  runs.drain(), two.drain(), inbox.drain();          // the Collector itself refuses an event after a finish
  EXPECT_EQ(runs.tokens().size(), counted);          // what the late step made is nobody's
  EXPECT_EQ(rig.engine->status().kv_blocks_used, 0);
  Collector again;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(5)), sequence(prompt_of(1, 40), 30), again.stream()));
  again.wait();
  EXPECT_EQ(again.tokens(), test::expected_output(prompt_of(1, 40), 30));
  EXPECT_EQ(rig.controls->violations, 0);            // no cell of the old cache was written over unzeroed
}

TEST(EngineWatchdog, AStepThatNeverReturnsLosesTheDevice) {
  Rig rig;
  rig.controls->hold_before_step(2);
  Collector c;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), endless(prompt_of(1, 40)), c.stream()));
  rig.controls->wait_inside();
  rig.clock.advance_ns(30 * kSecond + 1);
  rig.engine->watch();
  c.wait();
  EXPECT_EQ(c.finish(), Finish::failed);
  EXPECT_TRUE(rig.engine->status().failed);
  EXPECT_TRUE(rig.engine->status().hung);            // the daemon exits with the code of a lost device, without joining
  const auto refused = rig.engine->submit(TicketForTest::make(request_id(2)), endless(prompt_of(1, 40)), c.stream());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::engine_failed);
  rig.controls->hold(false);                         // so that this process can end
}

TEST(EngineWatchdog, AnIdleHourOrAPausedSequenceIsNoStuckStep) {
  Rig rig;
  rig.clock.advance_ns(3600 * kSecond);
  rig.engine->watch();
  auto s = endless(prompt_of(6, 20));
  s.extendable = true;
  Collector c;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1), 0, 3), std::move(s), c.stream()));
  c.wait(3);
  rig.until([](const EngineStatus& status) { return status.steps >= 3; });
  rig.clock.advance_ns(1);                           // from here on only an idle engine has a step of no age
  rig.until([](const EngineStatus& status) { return status.last_step_age_ns == 0; });
  rig.clock.advance_ns(60 * kSecond);
  rig.engine->watch();
  rig.engine->extend(request_id(1), 3, true);
  c.wait();
  EXPECT_EQ(c.finish(), Finish::budget);
  EXPECT_TRUE(rig.engine->status().healthy);
}

}  // namespace
}  // namespace tokenworks::engine
