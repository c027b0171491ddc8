#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <sstream>

#include "support/paths.hpp"
#include "tokenworks/billing/price_book.hpp"

namespace tokenworks::billing {
namespace {

using Fields = std::vector<std::int64_t>;

// The lines of a table that tests/golden/rating.py wrote; "-" stands for "too large".
template <class Check>
int each_line(const std::string& name, const Check& check) {
  std::ifstream in(test::golden_path("rating") + "/" + name);
  EXPECT_TRUE(in.good()) << "no " << name << " in " << test::golden_path("rating") << ": run tests/run, or tests/golden/rating.py";
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    Fields fields;
    std::stringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) fields.push_back(cell == "-" ? -1 : std::stoll(cell));
    SCOPED_TRACE(line);
    check(fields);
  }
  return lines;
}

// The first eight fields of every line.
Rates rates_of(const Fields& f) { return {f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7]}; }

TEST(Rating, ChargesAndLinesAreThoseOfExactFractions) {
  const int lines = each_line("rate.csv", [](const Fields& f) {
    const auto charge = rate(rates_of(f), ClassTokens{f[8], f[9], f[10], f[11], f[12], f[13]});
    if (f[14] < 0) {
      EXPECT_FALSE(charge);
      return;
    }
    ASSERT_TRUE(charge);
    EXPECT_EQ(charge->total.nano, f[14]);
    std::int64_t sum = 0;
    for (const ChargeLine& line : charge->lines) {
      std::size_t i = 0;
      while (line.token_class != config::name(static_cast<config::PriceClass>(i))) ++i;
      EXPECT_EQ(line.amount.nano, f[15 + i]) << line.token_class;
      if (i < 6) {
        EXPECT_EQ(line.tokens, f[8 + i]) << line.token_class;
      }
      sum += line.amount.nano;
    }
    EXPECT_EQ(sum, f[14]) << "a class that is not shown costs nothing";
  });
  EXPECT_EQ(lines, 20'000);
}

TEST(Rating, TheWorstCaseIsTheDearestCornerAndNotMore) {
  const int lines = each_line("worst.csv", [](const Fields& f) {
    const auto worst = worst_case(rates_of(f), f[8], f[9]);
    ASSERT_EQ(worst.has_value(), f[10] >= 0);
    if (worst) {
      EXPECT_EQ(worst->nano, f[10]);
    }
  });
  EXPECT_EQ(lines, 5'000);
}

TEST(Rating, AnAffordableOutputFitsAndOneTokenMoreDoesNot) {
  const int lines = each_line("afford.csv", [](const Fields& f) {
    EXPECT_EQ(affordable_output(rates_of(f), f[8], f[9], Money{f[10]}), f[11]);
  });
  EXPECT_GT(lines, 1'000);
}

TEST(Rating, NothingARequestDoesCostsMoreThanItsWorstCase) {
  std::mt19937_64 random(11);
  const auto below = [&](std::int64_t bound) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(bound + 1)); };
  for (int i = 0; i < 20'000; ++i) {
    const Rates rates{below(3000), below(3000), below(3000), below(3000), below(3000), below(3000), below(9000)};
    const std::int64_t input = below(1000), output = below(1000), used_input = below(input), used_output = below(output);
    const Usage usage{.input = used_input, .cached_input = below(used_input), .output = used_output, .reasoning = below(used_output)};
    EXPECT_LE(rate(rates, usage)->total, *worst_case(rates, input, output));
    const std::int64_t written = below(used_input - usage.cached_input);
    EXPECT_LE(rate(rates, ClassTokens{used_input - usage.cached_input - written, usage.cached_input, written, used_output})->total,
              *worst_case(rates, input, output));
    EXPECT_LE(rate(rates, ClassTokens{.embedding = used_input})->total, *worst_case(rates, input, output));
  }
}

// Each token has one price: moving a token from a class to another changes the charge by the difference of the two prices.
TEST(Rating, CachedAndReasoningTokensArePricedOnce) {
  const Rates rates{.input = 5'000'000, .cached_input = 2'000'000, .output = 11'000'000, .reasoning = 17'000'000};
  const Usage usage{.input = 100, .cached_input = 40, .output = 30, .reasoning = 12};
  const auto charge = rate(rates, usage);
  ASSERT_TRUE(charge);
  EXPECT_EQ(charge->total.nano, 60 * 5'000 + 40 * 2'000 + 18 * 11'000 + 12 * 17'000);
  std::int64_t tokens = 0;
  for (const ChargeLine& line : charge->lines) tokens += line.tokens;
  EXPECT_EQ(tokens, usage.input + usage.output);
}

TEST(Rating, APricePerRequestIsChargedOnceAndNotForNothing) {
  const Rates rates{.input = 1000, .output = 1000, .reasoning = 1000, .per_request = 1'000'000};
  EXPECT_EQ(rate(rates, Usage{})->total.nano, 0);
  const auto charge = rate(rates, Usage{.input = 10, .output = 5});
  EXPECT_EQ(charge->total.nano, 1015);
  EXPECT_EQ(charge->lines.back().token_class, "per_request");
  EXPECT_EQ(charge->lines.back().tokens, 1);
  EXPECT_EQ(worst_case(rates, 10, 5)->nano, 1015) << "however many choices the five tokens are";
}

TEST(Rating, WhatIsEmbeddedPaysTheEmbeddingPriceAndNothingElse) {
  const Rates list{.input = 5'000'000, .cached_input = 4'000'000, .cache_write = 9'000'000, .output = 11'000'000, .reasoning = 11'000'000,
                   .embedding = 20'000, .per_request = 1'000'000};
  const Rates embeds = list.of_kind(true);
  const auto charge = rate(embeds, Usage{.input = 100});
  ASSERT_TRUE(charge);
  EXPECT_EQ(charge->total.nano, 100 * 20 + 1000);
  ASSERT_EQ(charge->lines.size(), 2u);
  EXPECT_EQ(charge->lines[0].token_class, "embedding");
  EXPECT_EQ(charge->lines[0].tokens, 100);
  EXPECT_EQ(charge->lines[1].token_class, "per_request");
  EXPECT_EQ(worst_case(embeds, 100, 0)->nano, 100 * 20 + 1000) << "its hold is what it costs";
  // And an answer holds nothing for vectors it cannot ask for, however dear they are.
  Rates dear = list;
  dear.embedding = 900'000'000;
  EXPECT_EQ(worst_case(dear.of_kind(false), 100, 10)->nano, 100 * 9'000 + 10 * 11'000 + 1000);
  EXPECT_EQ(rate(dear.of_kind(false), Usage{.input = 100, .output = 10})->total.nano, 100 * 5'000 + 10 * 11'000 + 1000);
}

TEST(Rating, AUsageThatCannotBeIsAnErrorNotACharge) {
  const Rates rates = Rates::of(100'000, 50'000, 400'000);
  const Rates dear = Rates::of(INT64_MAX, INT64_MAX, INT64_MAX);
  EXPECT_FALSE(rate(rates, Usage{.input = 1, .cached_input = 2}));
  EXPECT_FALSE(rate(rates, Usage{.output = 1, .reasoning = 2}));
  EXPECT_FALSE(rate(rates, Usage{.input = -1}));
  EXPECT_FALSE(rate(rates, Usage{.cached_input = -1}));
  EXPECT_FALSE(rate(rates, Usage{.output = -1, .reasoning = -1}));
  EXPECT_FALSE(rate(rates, ClassTokens{.embedding = -1}));
  EXPECT_FALSE(rate(Rates::of(-1, 0, 0), Usage{}));
  EXPECT_FALSE(rate(dear, ClassTokens{INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX}));
  EXPECT_FALSE(worst_case(rates, -1, 0));
  EXPECT_FALSE(worst_case(dear, INT64_MAX, INT64_MAX));
  EXPECT_EQ(affordable_output(rates, 1, 1, Money{-1}), -1);
  EXPECT_EQ(affordable_output(dear, INT64_MAX, INT64_MAX, Money{INT64_MAX}), -1);
}

// Currencies without a minor unit are counted in micro-units: the same price in yen is rounded a thousand times coarser.
TEST(Rating, AYenIsCountedInMicroUnits) {
  config::Prices prices;
  prices.version = "1";
  prices.currency = "JPY";
  prices.models["m"] = {15'000'000, 15'000'000, 60'000'000, {"prices.yaml", 3}};   // 15 and 60 yen per million tokens
  const auto book = PriceBook::make(prices);
  ASSERT_TRUE(book);
  const auto rates = (*book)->find({.model = "m"});
  ASSERT_TRUE(rates);
  const auto charge = rate(*rates, Usage{.input = 1'000'001, .output = 1'000'000});
  EXPECT_EQ(to_string(charge->total, "JPY"), "75.000015");
  EXPECT_EQ(to_string(*parse_money("9007199254740.993", "JPY"), "JPY"), "9007199254740.993");
  EXPECT_FALSE(parse_money("1.0000001", "JPY"));
}

}  // namespace
}  // namespace tokenworks::billing
