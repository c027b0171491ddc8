#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/paths.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/billing/price_book.hpp"

namespace tokenworks::billing {
namespace {

config::Prices demo_prices() {
  config::Prices prices;
  prices.version = "2026-11-01";
  prices.models["smollm2"] = {100'000, 50'000, 400'000, {"prices.yaml", 5}};
  return prices;
}

// Every price of a random book, read from YAML, is what Python's fractions and time zones say: bands, times around clock
// changes, overrides, tiers, dated versions (tests/golden/rating.py).
TEST(PriceBook, FindsThePriceThatPythonFinds) {
  int asked = 0;
  for (int number = 0; number < 12; ++number) {
    const std::string folder = test::golden_path("rating") + "/books/" + std::to_string(number);
    SCOPED_TRACE(folder);
    const auto loaded = config::load(folder + "/tokenworks.yaml");
    ASSERT_TRUE(loaded) << loaded.error().message;
    const auto book = PriceBook::make(loaded->prices);
    ASSERT_TRUE(book) << book.error().message;
    std::ifstream questions(folder + "/questions.csv");
    for (std::string line; std::getline(questions, line); ++asked) {
      std::vector<std::string> f;
      std::stringstream cells(line);
      for (std::string cell; std::getline(cells, cell, ',');) f.push_back(cell);
      const PriceQuestion question{f[0], static_cast<Tier>(std::stoi(f[1])), f[2], f[3], std::stoll(f[4]), std::stoll(f[5])};
      const auto rates = (*book)->find(question);
      ASSERT_TRUE(rates) << line;
      const auto n = [&](std::size_t i) { return std::stoll(f[7 + i]); };
      ASSERT_EQ(*rates, (Rates{n(0), n(1), n(2), n(3), n(4), n(5), n(6)})) << line;
      EXPECT_EQ((*book)->in_force(question.unix_ns).version, f[6]);
      EXPECT_EQ((*book)->explain(question)->rates, *rates);
      EXPECT_EQ((*book)->explain(question)->version, f[6]);
    }
  }
  EXPECT_EQ(asked, 12 * 600);
}

TEST(PriceBook, TiersMultiplyThePriceOfAModel) {
  const auto book = PriceBook::make(demo_prices());
  ASSERT_TRUE(book);
  EXPECT_EQ((*book)->find({"smollm2", Tier::priority})->output, 700'000);
  EXPECT_EQ((*book)->find({"smollm2", Tier::standard})->cached_input, 50'000);
  EXPECT_EQ((*book)->find({"smollm2", Tier::batch})->input, 50'000);
  EXPECT_FALSE((*book)->find({"another", Tier::standard}));
  EXPECT_EQ((*book)->currency(), "USD");
}

TEST(PriceBook, WhatIsNotPricedCostsWhatItsKindCosts) {
  const auto rates = (*PriceBook::make(demo_prices()))->find({.model = "smollm2"});
  EXPECT_EQ(*rates, Rates::of(100'000, 50'000, 400'000));
  EXPECT_EQ(rates->cache_write, 100'000);
  EXPECT_EQ(rates->reasoning, 400'000);
  EXPECT_EQ(rates->embedding, 100'000);
  EXPECT_EQ(rates->per_request, 0);
}

TEST(PriceBook, ABandIsMetAboveItsEdgeAndPricesTheWholeRequest) {
  auto prices = demo_prices();
  config::PriceBand band;
  band.over = 128'000;
  band[config::PriceClass::input] = 200'000;
  prices.models["smollm2"].bands = {band};
  const auto book = PriceBook::make(prices);
  ASSERT_TRUE(book) << book.error().message;
  EXPECT_EQ((*book)->find({.model = "smollm2", .prompt_tokens = 128'000})->input, 100'000);
  EXPECT_EQ((*book)->find({.model = "smollm2", .prompt_tokens = 128'001})->input, 200'000);
  EXPECT_EQ((*book)->find({.model = "smollm2", .prompt_tokens = 128'001})->cached_input, 50'000);
}

TEST(PriceBook, AnOverrideGoesBeforeAPlanAndAPlanBeforeEverybody) {
  auto prices = demo_prices();
  prices.plans["starter"]["smollm2"] = {80'000, 80'000, 80'000, {"prices.yaml", 9}};
  prices.organizations["acme"]["smollm2"] = {60'000, 60'000, 60'000, {"prices.yaml", 12}};
  const auto book = *PriceBook::make(prices);
  EXPECT_EQ(book->find({"smollm2", Tier::standard, "starter", "acme"})->input, 60'000);
  EXPECT_EQ(book->find({"smollm2", Tier::standard, "starter", "beta"})->input, 80'000);
  EXPECT_EQ(book->find({"smollm2", Tier::standard, "other", "beta"})->input, 100'000);
  EXPECT_EQ(book->explain({"smollm2", Tier::standard, "starter", "acme"})->override_of, "organization acme");
  EXPECT_EQ(book->explain({"smollm2", Tier::standard, "starter", "beta"})->override_of, "plan starter");
}

TEST(PriceBook, TheVersionInForceIsTheOneOfTheInstant) {
  auto prices = demo_prices();
  config::PriceVersion next;
  next.version = "2027";
  next.from_unix_ns = *parse_instant("2027-01-01T00:00:00+01:00");
  next.models["smollm2"] = {120'000, 50'000, 400'000, {"prices.yaml", 20}};
  prices.later = {next};
  const auto book = *PriceBook::make(prices);
  EXPECT_EQ(book->find({.model = "smollm2", .unix_ns = next.from_unix_ns - 1})->input, 100'000);
  EXPECT_EQ(book->find({.model = "smollm2", .unix_ns = next.from_unix_ns})->input, 120'000);
  EXPECT_EQ(book->in_force(next.from_unix_ns).version, "2027");
  ASSERT_EQ(book->versions().size(), 2u);
  EXPECT_NE(book->versions()[0].hash, book->versions()[1].hash);
  // A version's text says nothing of the others: it is the same row in the ledger when a version is added after it.
  EXPECT_EQ(book->versions()[0].hash, (*PriceBook::make(demo_prices()))->versions()[0].hash);
}

TEST(PriceBook, TheCanonicalTextIsStableAndItsHashIsSha256) {
  auto prices = demo_prices();
  prices.version = "a\"b\\c\n";
  const auto book = PriceBook::make(prices);
  ASSERT_TRUE(book);
  const auto& version = (*book)->versions()[0];
  EXPECT_EQ(version.text,
            R"({"currency":"USD","format":"tokenworks price book 2","from_unix_ns":"","models":{"smollm2":{"bands":[],"prices":{)"
            R"("cache_write":"100000","cached_input":"50000","embedding":"100000","input":"100000","output":"400000",)"
            R"("per_request":"0","reasoning":"400000"},"times":[]}},"organizations":{},"plans":{},)"
            R"("tiers":{"batch":"0.5","priority":"1.75","standard":"1"},)"
            R"("unit":"pico per token; per_request: pico per request","version":"a\"b\\c\u000a"})");
  EXPECT_EQ(version.hash, hex(sha256(version.text)));
  prices.models["smollm2"][config::PriceClass::output] = 400'004;
  EXPECT_NE((*PriceBook::make(prices))->versions()[0].hash, version.hash);
}

TEST(PriceBook, EveryPriceThatDoesNotComeOutWholeIsNamedWithItsLine) {
  auto prices = demo_prices();
  prices.models["odd"] = {1, 3, 4, {"prices.yaml", 9}};
  prices.models["below"] = {-100'000, 0, 0, {"prices.yaml", 12}};
  config::PriceTime night;
  night.multiplier_micro = 333'333;
  night.where = {"prices.yaml", 15};
  prices.models["night"] = {4, 4, 4'000'000, {"prices.yaml", 14}};
  prices.models["night"].times = {night};
  const auto book = PriceBook::make(prices);
  ASSERT_FALSE(book);
  EXPECT_EQ(book.error().code, Errc::bad_config);
  const std::string& m = book.error().message;
  EXPECT_NE(m.find("prices.yaml:9: odd.input (0.000001 per million tokens) times the tier priority (1.75) is not"), std::string::npos) << m;
  EXPECT_NE(m.find("prices.yaml:9: odd.cached_input"), std::string::npos) << m;
  EXPECT_NE(m.find("prices.yaml:12: below.input (-0.1 per million tokens) is negative"), std::string::npos) << m;
  EXPECT_EQ(m.find("odd.output"), std::string::npos) << "4 times each tier is whole";
  EXPECT_NE(m.find("night.input (0.000004 per million tokens) times night.times[0].multiplier (0.333333) times the tier"),
            std::string::npos) << m;
  EXPECT_EQ(m.find("night.output"), std::string::npos) << "4,000,000 times 0.333333 is whole: " << m;
}

TEST(PriceBook, BadHeadsAndOverflowAreRefused) {
  auto prices = demo_prices();
  prices.version = "";
  EXPECT_FALSE(PriceBook::make(prices));
  for (const char* currency : {"usd", "XXX", "US", ""}) {
    prices = demo_prices();
    prices.currency = currency;
    EXPECT_FALSE(PriceBook::make(prices)) << currency;
  }
  prices = demo_prices();
  prices.tier_micro[0] = -1;
  EXPECT_FALSE(PriceBook::make(prices));
  prices = demo_prices();
  prices.models["dear"] = {INT64_MAX - 7, 0, 0, {"prices.yaml", 7}};   // divisible by 8, times 1.75 beyond 64 bits
  ASSERT_FALSE(PriceBook::make(prices));
  EXPECT_NE(PriceBook::make(prices).error().message.find("too large"), std::string::npos);
  prices = demo_prices();
  prices.later = {prices};
  EXPECT_NE(PriceBook::make(prices).error().message.find("stands twice"), std::string::npos);
}

}  // namespace
}  // namespace tokenworks::billing
