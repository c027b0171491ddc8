#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "support/paths.hpp"
#include "tokenworks/billing/price_book.hpp"

namespace tokenworks::billing {
namespace {

// The lines of a table that tests/golden/rating.py wrote; "-" stands for "too large".
template <class Check>
int each_line(const std::string& name, const Check& check) {
  std::ifstream in(test::golden_path("rating") + "/" + name);
  EXPECT_TRUE(in.good()) << "no " << name << " in " << test::golden_path("rating") << ": run tests/run, or tests/golden/rating.py";
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    std::vector<std::int64_t> fields;
    std::stringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) fields.push_back(cell == "-" ? -1 : std::stoll(cell));
    SCOPED_TRACE(line);
    check(fields);
  }
  return lines;
}

TEST(Rating, ChargesAndLinesAreThoseOfExactFractions) {
  const int lines = each_line("rate.csv", [](const std::vector<std::int64_t>& f) {
    const auto charge = rate(Rates::of(f[0], f[1], f[2]), Usage{.input = f[3], .cached_input = f[4], .output = f[5]});
    if (f[6] < 0) {
      EXPECT_FALSE(charge);
      return;
    }
    ASSERT_TRUE(charge);
    EXPECT_EQ(charge->total.nano, f[6]);
    ASSERT_EQ(charge->lines.size(), 3u);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(charge->lines[i].amount.nano, f[7 + i]) << charge->lines[i].token_class;
    EXPECT_EQ(charge->lines[0].tokens + charge->lines[1].tokens, f[3]);
  });
  EXPECT_EQ(lines, 20'000);
}

TEST(Rating, TheWorstCaseIsTheDearestCornerAndNotMore) {
  const int lines = each_line("worst.csv", [](const std::vector<std::int64_t>& f) {
    const auto worst = worst_case(Rates::of(f[0], f[1], f[2]), f[3], f[4]);
    ASSERT_EQ(worst.has_value(), f[5] >= 0);
    if (worst) {
      EXPECT_EQ(worst->nano, f[5]);
    }
  });
  EXPECT_EQ(lines, 5'000);
}

TEST(Rating, AnAffordableOutputFitsAndOneTokenMoreDoesNot) {
  const int lines = each_line("afford.csv", [](const std::vector<std::int64_t>& f) {
    EXPECT_EQ(affordable_output(Rates::of(f[0], f[1], f[2]), f[3], f[4], Money{f[5]}), f[6]);
  });
  EXPECT_GT(lines, 9'000);
}

TEST(Rating, NothingARequestDoesCostsMoreThanItsWorstCase) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 20'000; ++i) {
    const Rates rates{static_cast<std::int64_t>(random() % 3000), static_cast<std::int64_t>(random() % 3000),
                      static_cast<std::int64_t>(random() % 3000)};
    const auto input = static_cast<std::int64_t>(random() % 1000), output = static_cast<std::int64_t>(random() % 1000);
    const auto used_input = static_cast<std::int64_t>(random() % (input + 1));
    const Usage usage{.input = used_input,
                      .cached_input = static_cast<std::int64_t>(random() % (used_input + 1)),
                      .output = static_cast<std::int64_t>(random() % (output + 1))};
    EXPECT_LE(rate(rates, usage)->total, *worst_case(rates, input, output));
  }
}

TEST(Rating, AUsageThatCannotBeIsAnErrorNotACharge) {
  const Rates rates{100'000, 50'000, 400'000};
  EXPECT_FALSE(rate(rates, {.input = 1, .cached_input = 2}));
  EXPECT_FALSE(rate(rates, {.output = 1, .reasoning = 2}));
  EXPECT_FALSE(rate(rates, {.input = -1}));
  EXPECT_FALSE(rate(rates, {.cached_input = -1}));
  EXPECT_FALSE(rate(rates, {.output = -1, .reasoning = -1}));
  EXPECT_FALSE(rate({-1, 0, 0}, {}));
  EXPECT_FALSE(worst_case(rates, -1, 0));
  EXPECT_FALSE(worst_case({INT64_MAX, INT64_MAX, INT64_MAX}, INT64_MAX, INT64_MAX));
  EXPECT_EQ(affordable_output(rates, 1, 1, Money{-1}), -1);
  EXPECT_EQ(affordable_output({INT64_MAX, INT64_MAX, INT64_MAX}, INT64_MAX, INT64_MAX, Money{INT64_MAX}), -1);
}

config::Prices demo_prices() {
  config::Prices prices;
  prices.version = "2026-11-01";
  prices.models["smollm2"] = {100'000, 50'000, 400'000, {"prices.yaml", 5}};
  return prices;
}

TEST(PriceBook, TiersMultiplyThePriceOfAModel) {
  const auto book = PriceBook::make(demo_prices());
  ASSERT_TRUE(book);
  EXPECT_EQ((*book)->find("smollm2", Tier::priority)->output, 700'000);
  EXPECT_EQ((*book)->find("smollm2", Tier::standard)->cached_input, 50'000);
  EXPECT_EQ((*book)->find("smollm2", Tier::batch)->input, 50'000);
  EXPECT_EQ((*book)->find("another", Tier::standard), nullptr);
  EXPECT_EQ((*book)->currency(), "USD");
}

TEST(PriceBook, TheCanonicalTextIsStableAndItsHashIsSha256) {
  auto prices = demo_prices();
  prices.version = "a\"b\\c\n";
  const auto book = PriceBook::make(prices);
  ASSERT_TRUE(book);
  EXPECT_EQ((*book)->text(),
            R"({"currency":"USD","format":"tokenworks price book 1","models":{"smollm2":{)"
            R"("batch":{"cached_input":"25000","input":"50000","output":"200000"},)"
            R"("priority":{"cached_input":"87500","input":"175000","output":"700000"},)"
            R"("standard":{"cached_input":"50000","input":"100000","output":"400000"}}},)"
            R"("unit":"pico per token","version":"a\"b\\c\u000a"})");
  // sha256sum of that text.
  EXPECT_EQ((*book)->hash(), "7a47353a20b4db1bbcff067a8c9c0c2b25cf6fdbb005f5f7c5a6e08256ee5e29");
  prices.models["smollm2"].output = 400'004;
  EXPECT_NE((*PriceBook::make(prices))->hash(), (*book)->hash());
}

TEST(PriceBook, EveryPriceThatDoesNotComeOutWholeIsNamedWithItsLine) {
  auto prices = demo_prices();
  prices.models["odd"] = {1, 3, 4, {"prices.yaml", 9}};
  prices.models["below"] = {-100'000, 0, 0, {"prices.yaml", 12}};
  const auto book = PriceBook::make(prices);
  ASSERT_FALSE(book);
  EXPECT_EQ(book.error().code, Errc::bad_config);
  const std::string& m = book.error().message;
  EXPECT_NE(m.find("prices.yaml:9: odd.input (0.000001 per million tokens) times the tier priority (1.75) is not"), std::string::npos) << m;
  EXPECT_NE(m.find("prices.yaml:9: odd.cached_input"), std::string::npos) << m;
  EXPECT_NE(m.find("prices.yaml:12: below.input (-0.1 per million tokens) is negative"), std::string::npos) << m;
  EXPECT_EQ(m.find("odd.output"), std::string::npos) << "4 times each tier is whole";
}

TEST(PriceBook, BadHeadsAndOverflowAreRefused) {
  auto prices = demo_prices();
  prices.version = "";
  EXPECT_FALSE(PriceBook::make(prices));
  prices = demo_prices();
  prices.currency = "usd";
  EXPECT_FALSE(PriceBook::make(prices));
  prices = demo_prices();
  prices.tier_micro[0] = -1;
  EXPECT_FALSE(PriceBook::make(prices));
  prices = demo_prices();
  prices.models["dear"] = {INT64_MAX - 7, 0, 0, {"prices.yaml", 7}};   // divisible by 8, times 1.75 beyond 64 bits
  ASSERT_FALSE(PriceBook::make(prices));
  EXPECT_NE(PriceBook::make(prices).error().message.find("too large"), std::string::npos);
}

}  // namespace
}  // namespace tokenworks::billing
