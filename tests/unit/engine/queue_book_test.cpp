#include "engine/queue_book.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "collector.hpp"

namespace tokenworks::engine {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

scheduler::Forecast busy() {                         // a thousand prompt tokens a second, ten slots, all taken
  scheduler::Forecast f;
  f.step_ns = 20e6;
  f.prompt_token_ns = 1e6;
  f.output_token_ns = 1e5;
  f.hold_ns = 2e9;
  f.answer_tokens = 50, f.long_answer_tokens = 80;
  f.slots = 10, f.running = 10, f.waiting = 20;
  f.prompt_tokens = 20'000;
  f.tier_weight = {304, 76, 20};
  f.active_weight = {0, 2, 0};
  return f;
}

QueueEntry request(std::uint32_t tenant, std::int64_t prompt = 100, std::int64_t deadline_ns = 0, Tier tier = Tier::standard) {
  return {tenant, 1, tier, 0, 1, prompt, 100, deadline_ns};
}

TEST(QueueBook, ATenantsQueueInATierIsBoundedAndNobodyElsesIs) {
  QueueBook book(3);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(book.enter(request(1), 0));
  const auto refused = book.enter(request(1), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::rate_limit_exceeded);
  EXPECT_GE(refused.error().retry_after_ms, 1000);
  EXPECT_TRUE(book.enter(request(2), 0));
  EXPECT_TRUE(book.enter(request(1, 100, 0, Tier::batch), 0));
  book.began(request(1), 1);                         // one runs: a place is free
  EXPECT_TRUE(book.enter(request(1), 0));
  EXPECT_FALSE(book.enter(request(1), 0));
  book.ended(request(1), 1, 2, QueueBook::End::complete);
  EXPECT_FALSE(book.enter(request(1), 0));           // one that ran held no place
}

// Ten tenants that flood, any of whom may have half of all places: the eleventh is let in, again and again.
TEST(QueueBook, ManyThatFloodDoNotFillThePlantsQueueForWhoHasNothingWaiting) {
  constexpr std::int64_t kAll = 200;
  QueueBook book(100, kAll);
  std::vector<std::int64_t> waiting(11);
  const auto flood = [&] {
    for (bool any = true; any;) {
      any = false;
      for (std::uint32_t t = 0; t < 10; ++t) {
        const auto r = book.enter(request(t), 0);
        if (r) ++waiting[t], any = true;
        else EXPECT_EQ(r.error().code, Errc::rate_limit_exceeded);
      }
    }
  };
  flood();
  std::int64_t all = std::accumulate(waiting.begin(), waiting.end(), std::int64_t{0});
  EXPECT_LT(all, kAll);
  EXPECT_GT(all, kAll * 9 / 10);
  for (std::uint32_t t = 0; t < 10; ++t) EXPECT_GE(waiting[t], 15);
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(book.enter(request(10), 0)) << "round " << round;
    flood();
    ASSERT_LE(std::accumulate(waiting.begin(), waiting.end(), std::int64_t{0}) + 1, kAll);   // which the caller holds to
    book.began(request(10), 1);
    book.ended(request(10), 1, 2, QueueBook::End::complete);
    for (std::uint32_t t = 0; t < 10; t += 3) {
      book.began(request(t), 1);
      book.ended(request(t), 1, 2, QueueBook::End::complete);
      --waiting[t];
    }
  }
  QueueBook alone(300, kAll);                        // who is alone has nearly all
  std::int64_t own = 0;
  while (alone.enter(request(1), 0)) ++own;
  EXPECT_GE(own, kAll * 85 / 100);
}

TEST(QueueBook, ARequestThatCannotBeInTimeIsToldWhenToComeAgain) {
  QueueBook book(1000);
  book.publish(busy());
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(book.enter(request(1, 1000), 0));
  // Tenant 1 has twenty seconds of prompt work before it, or forty at its half of the plant.
  const auto late = book.enter(request(1, 100, 10 * kSecond), 0);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::server_is_overloaded);
  EXPECT_GE(late.error().retry_after_ms, 10'000);
  EXPECT_LE(late.error().retry_after_ms, 25'000);
  EXPECT_TRUE(book.enter(request(1, 100, 60 * kSecond), 0));
  EXPECT_TRUE(book.enter(request(1), 0));            // no deadline: it may wait
  EXPECT_TRUE(book.enter(request(2, 100, 5 * kSecond), 0));   // another tenant does not wait behind it
}

TEST(QueueBook, WithoutAForecastNobodyIsRefusedForTime) {
  QueueBook book(1000);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(book.enter(request(1, 1000, 1), 0));
}

// Promises of about three seconds: how late they turn out decides what is promised next, and is forgotten when it is over.
TEST(QueueBook, WhatPromisesTurnOutLateIsAddedToTheNextAndFades) {
  scheduler::Forecast f = busy();
  f.prompt_tokens = 0, f.waiting = 1;
  QueueBook book(1000);
  book.publish(f);
  const std::int64_t allowed = 4 * kSecond;
  const auto enters = [&](std::int64_t now) {
    QueueEntry e = request(1, 100, now + allowed);
    const auto promise = book.enter(e, now);
    if (!promise) return std::int64_t{0};
    e.promise = *promise;
    book.ended(e, 0, now, QueueBook::End::other);    // asked only
    return promise->takes_ns;
  };
  const std::int64_t takes = enters(0);
  ASSERT_GT(takes, allowed / 4);
  ASSERT_LT(2 * takes, allowed);
  QueueEntry e = request(1, 100, allowed);
  e.promise = *book.enter(e, 0);
  book.began(e, 1);
  book.ended(e, 1, static_cast<std::int64_t>(2.2 * static_cast<double>(takes)), QueueBook::End::complete);   // in time, but barely
  EXPECT_EQ(enters(5 * kSecond), 0) << "a machine that slow cannot keep it";
  EXPECT_GT(enters(100 * kSecond), 0) << "that was long ago";
}

TEST(QueueBook, WithoutAWaitARunThatTakesTooLongIsRefusedWhileMuchRuns) {
  scheduler::Forecast f = busy();
  f.waiting = 0, f.prompt_tokens = 0, f.running = 9, f.step_ns = 60e6;   // a slot is free; eighty tokens take five seconds
  QueueBook book(1000);
  book.publish(f);
  const auto refused = book.enter(request(1, 100, 4 * kSecond), 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::server_is_overloaded);
  EXPECT_TRUE(book.enter(request(1, 100, 20 * kSecond), 0));
  f.running = 2;                                     // hardly anything runs: to come later would not help it
  QueueBook quiet(1000);
  quiet.publish(f);
  EXPECT_TRUE(quiet.enter(request(1, 100, 4 * kSecond), 0));
}

TEST(QueueBook, WhoComesAgainAsToldStandsBeforeANewcomer) {
  QueueBook book(4);
  QueueEntry waits = request(1);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(book.enter(waits, 0));
  QueueEntry returns = request(1), fresh = request(1);
  returns.fingerprint = 7;
  const auto told = book.enter(returns, 0);
  ASSERT_FALSE(told);
  const std::int64_t then = told.error().retry_after_ms * 1'000'000;
  book.began(waits, then);                           // one place is free
  fresh.fingerprint = 8;
  EXPECT_FALSE(book.enter(fresh, then)) << "it is kept";
  EXPECT_TRUE(book.enter(returns, then));
  book.began(waits, then);
  EXPECT_TRUE(book.enter(request(1), then)) << "nobody else was told to come now";
}

TEST(QueueBook, AFingerprintIsTheRequestsOwn) {
  const std::vector<TokenId> prompt(1000, 5), other = [&] { auto p = prompt; p[999] = 6; return p; }();
  EXPECT_EQ(fingerprint(prompt, 10), fingerprint(prompt, 10));
  EXPECT_NE(fingerprint(prompt, 10), fingerprint(prompt, 11));
  EXPECT_NE(fingerprint(prompt, 10), fingerprint(other, 10));
  EXPECT_NE(fingerprint(std::span(prompt).first(300), 10), fingerprint(std::span(prompt).first(301), 10));
  EXPECT_NE(fingerprint({}, 1), 0u);
}

TEST(EngineQueue, TheBoundPerTenantAndTierHoldsThroughTheEngine) {
  EngineOptions options;
  options.queue_per_tenant = 3;
  Rig rig({}, options);
  rig.controls->hold(true);
  std::vector<std::unique_ptr<Collector>> accepted;
  int refused = 0;
  const auto submit = [&](std::uint64_t id, std::uint32_t tenant, Tier tier) {
    auto c = std::make_unique<Collector>();
    const auto r = rig.engine->submit(TicketForTest::make(request_id(id), tenant, 5, 1, tier), sequence({10, 11, 12}, 5), c->stream());
    if (r) {
      accepted.push_back(std::move(c));
    } else {
      EXPECT_EQ(r.error().code, Errc::rate_limit_exceeded);
      EXPECT_GE(r.error().retry_after_ms, 1000);
      ++refused;
    }
  };
  submit(0, 1, Tier::standard);
  rig.controls->wait_inside();                       // its step is held: what comes now waits
  for (std::uint64_t i = 1; i <= 8; ++i) submit(i, 1, Tier::standard);
  EXPECT_EQ(refused, 5);
  submit(20, 2, Tier::standard);
  submit(21, 1, Tier::batch);
  EXPECT_EQ(refused, 5);
  rig.controls->hold(false);
  for (auto& c : accepted) c->wait();
  rig.settle();
  for (std::uint64_t i = 100; i < 103; ++i) submit(i, 1, Tier::standard);
  EXPECT_EQ(refused, 5);
  for (auto& c : accepted) c->wait();
}

}  // namespace
}  // namespace tokenworks::engine
