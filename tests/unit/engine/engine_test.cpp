#include "tokenworks/engine/engine.hpp"

#include <gtest/gtest.h>

#include <random>

#include "collector.hpp"

namespace tokenworks::engine {
namespace {

using test::expected_output;
using test::kStopToken;
using test::kVocab;

TEST(Engine, ThePromptsOwnTokensComeBack) {
  Rig rig;
  Collector c;
  const auto prompt = prompt_of(1, 100);
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), sequence(prompt, 64), c.stream()));
  c.wait();
  const auto expected = expected_output(prompt, 64);
  EXPECT_EQ(c.tokens(), expected);
  EXPECT_EQ(c.finish(), expected.back() == kStopToken ? Finish::stop : Finish::length);
  EXPECT_EQ(rig.controls->violations, 0);
}

TEST(Engine, TheSamePromptAloneAndAmong31OthersGivesIdenticalTokens) {
  const auto prompt = prompt_of(2, 150);
  std::vector<TokenId> alone;
  {
    Rig rig;
    Collector c;
    auto s = sequence(prompt, 80, 5);
    s.ignore_eos = true;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
    c.wait();
    alone = c.tokens();
  }
  EXPECT_EQ(alone, expected_output(prompt, 80, 5, 0, true));
  EngineOptions options;
  options.step_target_ns = 10'000'000'000;
  Rig rig({.kv_blocks = 1024, .context_tokens = 1024, .rows_max = 512}, options);
  std::vector<std::unique_ptr<Collector>> collectors;
  rig.controls->hold(true);
  for (std::uint64_t i = 0; i < 32; ++i) {
    auto s = sequence(i == 17 ? prompt : prompt_of(100 + i, 20 + 13 * i), 80, i == 17 ? 5 : i);
    s.ignore_eos = true;
    collectors.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(i), static_cast<std::uint32_t>(i % 3)), std::move(s),
                                   collectors.back()->stream()));
  }
  rig.controls->hold(false);
  for (auto& c : collectors) c->wait();
  EXPECT_EQ(collectors[17]->tokens(), alone);
  EXPECT_EQ(rig.controls->largest_batch, 32);
  EXPECT_EQ(rig.controls->violations, 0);
}

TEST(Engine, ChoicesShareThePromptAndDifferInTheirDraws) {
  for (const bool cache : {true, false}) {
    EngineOptions options;
    options.prefix_cache = cache;
    Rig rig({}, options);
    Collector c(4);
    const auto prompt = prompt_of(3, 100);
    auto s = sequence(prompt, 20, 9);
    s.choices = 4;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
    c.wait();
    for (std::uint32_t i = 0; i < 4; ++i) EXPECT_EQ(c.tokens(i), expected_output(prompt, 20, 9, i)) << i;
    EXPECT_EQ(c.stream()->cached_tokens(), 0);
    // The prompt once, and of its 100 tokens the 4 after the last full block once more per further choice.
    EXPECT_EQ(rig.engine->status().prefill_tokens, 100 + 3 * 4);
    EXPECT_EQ(rig.controls->violations, 0);
  }
}

TEST(Engine, ASecondRequestFindsItsPrefixInTheCacheAndAnotherTenantDoesNot) {
  Rig rig;
  const auto prompt = prompt_of(4, 200);
  const auto run = [&](std::uint64_t id, std::uint32_t tenant) {
    Collector c;
    EXPECT_TRUE(rig.engine->submit(TicketForTest::make(request_id(id), tenant), sequence(prompt, 8), c.stream()));
    c.wait();
    EXPECT_EQ(c.tokens(), expected_output(prompt, 8));
    return c.stream()->cached_tokens();
  };
  EXPECT_EQ(run(1, 0), 0);
  EXPECT_EQ(run(2, 0), 192);                         // 12 full blocks; the tail is computed for its logits
  EXPECT_EQ(run(3, 1), 0);
  EXPECT_EQ(run(4, 1), 192);
  EXPECT_EQ(rig.engine->status().prefix_hit_tokens, 2 * 192);
  EXPECT_EQ(rig.controls->violations, 0);
}

TEST(Engine, StopTokensOfModelAndRequestEndAChoiceAndAreDelivered) {
  Rig rig;
  const auto prompt = prompt_of(5, 40);
  const auto free_run = expected_output(prompt, 300, 0, 0, true);
  const auto first_stop = std::find(free_run.begin(), free_run.end(), kStopToken) - free_run.begin();
  ASSERT_LT(first_stop, 290);
  Collector model, ignored, own;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), sequence(prompt, 300), model.stream()));
  auto s = sequence(prompt, 300);
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), std::move(s), ignored.stream()));
  s = sequence(prompt, 300);
  s.stop_tokens = {free_run[3]};
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(3)), std::move(s), own.stream()));
  model.wait(), ignored.wait(), own.wait();
  EXPECT_EQ(model.finish(), Finish::stop);
  EXPECT_EQ(model.tokens(), expected_output(prompt, 300));
  EXPECT_EQ(model.tokens().back(), kStopToken);
  EXPECT_EQ(ignored.finish(), Finish::length);
  EXPECT_EQ(ignored.tokens(), free_run);
  EXPECT_EQ(own.finish(), Finish::stop);
  EXPECT_EQ(own.tokens(), std::vector<TokenId>(free_run.begin(), free_run.begin() + 4));
}

TEST(Engine, TheContextEndsASequenceAsLength) {
  Rig rig({.kv_blocks = 16, .context_tokens = 64});
  Collector c;
  auto s = sequence(prompt_of(6, 50), 1000);
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  c.wait();
  EXPECT_EQ(c.tokens().size(), 14u);
  EXPECT_EQ(c.finish(), Finish::length);
}

TEST(Engine, AtTheTicketsLimitASequenceEndsAsBudgetOrWaitsForItsExtension) {
  Rig rig;
  const auto prompt = prompt_of(7, 33);
  const auto all = expected_output(prompt, 50, 0, 0, true);
  const auto first = [&](std::size_t n) { return std::vector<TokenId>(all.begin(), all.begin() + static_cast<long>(n)); };
  const auto start = [&](std::uint64_t id, bool extendable, Collector& c) {
    auto s = sequence(prompt, 50);
    s.ignore_eos = true;
    s.extendable = extendable;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(id), 0, 10), std::move(s), c.stream()));
  };
  Collector fixed, extended, refused, refused_early;
  start(1, false, fixed);
  fixed.wait();
  EXPECT_EQ(fixed.tokens(), first(10));
  EXPECT_EQ(fixed.finish(), Finish::budget);

  start(2, true, extended);
  extended.wait(10);
  EXPECT_EQ(extended.tokens(), first(10));
  rig.engine->extend(request_id(2), 25, false);
  extended.wait(25);
  EXPECT_EQ(extended.tokens(), first(25));
  EXPECT_EQ(extended.finish(), Finish::running);
  rig.engine->extend(request_id(2), 60, true);
  extended.wait();
  EXPECT_EQ(extended.tokens(), all);
  EXPECT_EQ(extended.finish(), Finish::length);

  start(3, true, refused);
  refused.wait(10);
  rig.engine->extend(request_id(3), 10, true);
  refused.wait();
  EXPECT_EQ(refused.tokens(), first(10));
  EXPECT_EQ(refused.finish(), Finish::budget);

  rig.controls->hold(true);                          // the refusal comes before the limit is reached
  start(4, true, refused_early);
  rig.engine->extend(request_id(4), 12, true);
  rig.controls->hold(false);
  refused_early.wait();
  EXPECT_EQ(refused_early.tokens(), first(12));
  EXPECT_EQ(refused_early.finish(), Finish::budget);
}

TEST(Engine, ACancelledChoiceEndsAloneAndItsRequestWhole) {
  Rig rig;
  Collector c(3), whole(2);
  rig.controls->hold_before_step(10);
  auto s = sequence(prompt_of(8, 64), 400);
  s.choices = 3;
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  rig.controls->wait_inside();
  rig.engine->cancel(request_id(1), 1);
  rig.controls->hold(false);
  c.wait();
  EXPECT_EQ(c.finish(0), Finish::length);
  EXPECT_EQ(c.finish(1), Finish::cancelled);
  EXPECT_EQ(c.finish(2), Finish::length);
  EXPECT_EQ(c.tokens(0), expected_output(prompt_of(8, 64), 400, 0, 0, true));
  // What the step under way made still arrives; then it is over.
  const auto partial = expected_output(prompt_of(8, 64), static_cast<std::int64_t>(c.tokens(1).size()), 0, 1, true);
  EXPECT_EQ(c.tokens(1), partial);
  EXPECT_LE(c.tokens(1).size(), 10u);

  rig.controls->hold_before_step(rig.controls->steps + 10);
  s = sequence(prompt_of(9, 64), 400);
  s.choices = 2;
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), std::move(s), whole.stream()));
  rig.controls->wait_inside();
  rig.engine->cancel(request_id(2));
  rig.controls->hold(false);
  whole.wait();
  EXPECT_EQ(whole.finish(0), Finish::cancelled);
  EXPECT_EQ(whole.finish(1), Finish::cancelled);
  rig.engine->cancel(request_id(77));                // unknown: ignored
  rig.settle();
  EXPECT_EQ(rig.engine->status().kv_blocks_used, 0);
}

TEST(Engine, TwoHundredThatComeAndGoLeaveNothingBehind) {
  Rig rig({.kv_blocks = 64, .context_tokens = 512});
  for (std::uint64_t i = 0; i < 200; ++i) {
    Collector c;
    auto s = sequence(prompt_of(1000 + i % 7, 40 + i % 90), 200);
    s.ignore_eos = true;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(i), static_cast<std::uint32_t>(i % 4)), std::move(s), c.stream()));
    if (i % 3 != 0) c.wait(1);
    rig.engine->cancel(request_id(i));
    if (i % 2 == 0) c.wait();
  }
  rig.settle();
  const EngineStatus status = rig.engine->status();
  EXPECT_EQ(status.running, 0);
  EXPECT_EQ(status.waiting, 0);
  EXPECT_EQ(status.kv_blocks_used, 0);
  EXPECT_EQ(status.kv_blocks_cached + status.kv_blocks_free, 64);
  Collector c;
  const auto prompt = prompt_of(1, 300);
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1000)), sequence(prompt, 30), c.stream()));
  c.wait();
  EXPECT_EQ(c.tokens(), expected_output(prompt, 30));
  EXPECT_EQ(rig.controls->violations, 0);
}

TEST(Engine, WhatCouldBreakAStepIsRefusedAtTheDoor) {
  Rig rig({.kv_blocks = 8, .context_tokens = 256});
  const auto code = [&](Sequence s) {
    Collector c;
    const auto r = rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream());
    return r ? Errc::internal : r.error().code;
  };
  EXPECT_EQ(code(sequence({}, 5)), Errc::invalid_request);
  EXPECT_EQ(code(sequence({1, 2, kVocab}, 5)), Errc::invalid_request);
  EXPECT_EQ(code(sequence({1, -1}, 5)), Errc::invalid_request);
  EXPECT_EQ(code(sequence(prompt_of(1, 256), 5)), Errc::context_length_exceeded);
  EXPECT_EQ(code(sequence(prompt_of(1, 100), 29)), Errc::context_length_exceeded);   // 129 tokens, the cache has 128
  Sequence s = sequence({1, 2}, 5);
  s.bias = {{kVocab, 1.0f}};
  EXPECT_EQ(code(std::move(s)), Errc::invalid_request);
  s = sequence({1, 2}, 5);
  s.choices = 0;
  EXPECT_EQ(code(std::move(s)), Errc::invalid_request);
}

}  // namespace
}  // namespace tokenworks::engine
