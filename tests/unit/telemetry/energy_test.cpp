// Joules told to those they were spent on: exact sums over random batches, and who gets what by the rule.
#include "tokenworks/telemetry/energy.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace tokenworks::telemetry {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000, kSecond = 1'000'000'000;

EnergyModel eight_b(std::vector<std::string> cards) {
  return {.cards = std::move(cards), .flop_per_row = 14'000'000'000, .flop_per_pair = 524'288, .weight_bytes = 15'000'000'000,
          .bytes_per_position = 131'072};
}

std::uint64_t of(const EnergyBook& book, const std::string& organization, const std::string& phase = "", const std::string& model = "") {
  std::uint64_t sum = 0;
  for (const EnergySpent& e : book.spent())
    if (e.organization == organization && (phase.empty() || e.phase == phase) && (model.empty() || e.model == model)) sum += e.millijoules;
  return sum;
}
std::uint64_t sum_of(const EnergyBook& book) {
  std::uint64_t sum = 0;
  for (const EnergySpent& e : book.spent()) sum += e.millijoules;
  return sum;
}

TEST(DivideExactly, PartsAreWholeAndTheirSumIsWhatWasDivided) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 5000; ++round) {
    std::vector<std::uint64_t> weights(random() % 20);
    for (auto& w : weights) w = random() % 4 == 0 ? 0 : random() >> (random() % 60);
    const std::uint64_t whole = random() >> (random() % 64);
    const auto parts = divide_exactly(whole, weights);
    ASSERT_EQ(parts.size(), weights.size());
    unsigned __int128 all = 0, told = 0;
    for (const std::uint64_t w : weights) all += w;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      told += parts[i];
      if (all == 0) continue;
      const auto exact = static_cast<unsigned __int128>(whole) * weights[i];      // of `all`
      ASSERT_LT(static_cast<unsigned __int128>(parts[i]) * all, exact + all);     // less than one more than its due
      ASSERT_GT(static_cast<unsigned __int128>(parts[i]) * all + all, exact);     // and less than one less
    }
    ASSERT_TRUE(told == (all == 0 ? 0 : whole));
  }
}

// Random steps of two models over three cards, readings at random times, tenants that come, counters that start anew.
TEST(EnergyBook, WhatEverybodyWasToldIsWhatTheCountersMovedBy) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n)); };
    EnergyBook book;
    book.set_model("one", eight_b({"0"}));
    book.set_model("two", eight_b({"0", "2"}));
    book.set_model("on the processor", {});
    std::map<std::uint32_t, EnergyTenant> tenants;
    for (std::uint32_t t = 0; t < 5; ++t) tenants[t] = {"org" + std::to_string(t), seed % 3 == 0 ? below(3) * 100 : 0};
    book.set_tenants(tenants);
    std::uint64_t counter[3] = {random() % 1000, random() % 1000, random() % 1000}, moved = 0;
    std::int64_t now = 5;
    bool begun[3] = {};
    for (int event = 0; event < 400; ++event) {
      now += below(30 * kMillisecond);
      if (below(10) != 0) {
        std::vector<TenantWork> work;
        for (std::uint32_t t = 0; t < 7; ++t)        // two of them have no name yet
          if (below(2) == 0) work.push_back({t, {below(512), below(4096), below(1 << 20)}, {below(64), below(9000), below(9000)}});
        const char* const models[] = {"one", "two", "on the processor", "unheard of"};
        book.step(models[below(4)], below(20 * kMillisecond), work);
        continue;
      }
      const auto card = static_cast<std::size_t>(below(3));
      if (below(20) == 0) {
        counter[card] = 0;                           // the driver was loaded anew
      } else {
        const std::uint64_t more = below(4) == 0 ? 0 : random() % 50'000;
        counter[card] += more;
        if (begun[card] && card != 1) moved += more; // no model stands on card 1
      }
      begun[card] = true;
      book.reading(std::to_string(card), counter[card], now);
    }
    EXPECT_EQ(sum_of(book), moved) << "seed " << seed;
    EXPECT_TRUE(book.watches("2"));
    EXPECT_FALSE(book.watches("1"));
  }
}

TEST(EnergyBook, OwnCostsGoToTheTenantAndSharedOnesByRows) {
  EnergyBook book;
  book.set_model("m", eight_b({"0"}));
  book.set_tenants({{0, {"long", 0}}, {1, {"short", 0}}, {2, {"prompt", 0}}});
  book.reading("0", 0, 0);
  for (int i = 0; i < 100; ++i)
    book.step("m", 10 * kMillisecond, std::vector<TenantWork>{{0, {}, {8, 8 * 8192, 8 * 8192}}, {1, {}, {8, 8 * 128, 8 * 128}}});
  book.reading("0", 500'000, kSecond);               // no moment without a step
  EXPECT_EQ(of(book, "_idle"), 0u);
  EXPECT_EQ(sum_of(book), 500'000u);
  // As many rows: the shared part is one and the same; beside it reading 64 times the context.
  const double shared = 15e9 * 80e-12 + 100 * 0.010, rows = 8 * 14e9 * 700e-15, context = 8 * 131072 * 80e-12, pairs = 8 * 524288 * 700e-15;
  const double more = shared / 2 + rows + (context + pairs) * 8192, less = shared / 2 + rows + (context + pairs) * 128;
  EXPECT_NEAR(static_cast<double>(of(book, "long", "decode")) / 500'000, more / (more + less), 1e-4);
  EXPECT_NEAR(static_cast<double>(of(book, "short", "decode")) / 500'000, less / (more + less), 1e-4);
  // A prompt is arithmetic; weights are read once for all its rows.
  book.step("m", 50 * kMillisecond, std::vector<TenantWork>{{2, {2048, 2048, 2048 * 1024}, {}}, {1, {}, {1, 128, 128}}});
  book.reading("0", 500'000 + 40'000, kSecond + 50 * kMillisecond);
  EXPECT_GT(of(book, "prompt", "prefill"), 39'000u);
  EXPECT_EQ(of(book, "prompt", "decode"), 0u);
  EXPECT_EQ(of(book, "prompt", "", "m"), of(book, "prompt"));
}

TEST(EnergyBook, TimeWithoutAStepIsAtRestForReservationsElseForNobody) {
  EnergyBook book;
  book.set_model("m", eight_b({"0"}));
  book.set_tenants({{0, {"acme", 0}}});
  book.reading("0", 1000, 0);
  book.reading("0", 1000 + 150'000, kSecond);        // a second at 150 W
  EXPECT_EQ(of(book, "_idle"), 150'000u);
  // Half a second of work, half at the 150 W that the card was seen to draw: about half of the model's own estimate.
  const std::vector<TenantWork> work{{0, {}, {1, 100, 100}}};
  for (int i = 0; i < 125; ++i) book.step("m", 4 * kMillisecond, work);
  const std::uint64_t own = 125 * (15'000'000 * 80 / 1'000'000) + 75'000 + 125 * 9;        // weights; at rest while it worked; arithmetic
  book.reading("0", 151'000 + 75'000 + own, 2 * kSecond);
  EXPECT_NEAR(static_cast<double>(of(book, "_idle")), 150'000 + 75'000, 200);
  EXPECT_NEAR(static_cast<double>(of(book, "acme")), static_cast<double>(own), 200);
  const std::uint64_t idle = of(book, "_idle");
  book.set_tenants({{0, {"acme", 100}}, {1, {"globex", 300}}});
  book.reading("0", 151'000 + 75'000 + own + 100'001, 3 * kSecond);
  EXPECT_EQ(of(book, "_idle"), idle);
  EXPECT_EQ(of(book, "globex", "idle"), 75'001u);    // three quarters, rounded by the largest remainder
  EXPECT_EQ(of(book, "acme", "idle"), 25'000u);
}

TEST(EnergyBook, ACounterThatHasNotMovedEndsNoWindow) {
  EnergyBook book;
  book.set_model("m", eight_b({"0"}));
  book.set_tenants({{0, {"acme", 0}}});
  book.reading("0", 10, 0);
  book.step("m", 10 * kMillisecond, std::vector<TenantWork>{{0, {}, {1, 1, 1}}});
  book.reading("0", 10, 10 * kMillisecond);          // it is renewed ten times a second
  book.reading("0", 5'010, 10 * kMillisecond);
  EXPECT_EQ(of(book, "acme"), 5'000u) << "the step before the reading that told nothing still counts";
}

}  // namespace
}  // namespace tokenworks::telemetry
