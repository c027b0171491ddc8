#include "tokenworks/base/money.hpp"

#include <gtest/gtest.h>

namespace tokenworks {
namespace {

TEST(Money, ADoubleCouldNotCarryThisAmountAndWeDo) {
  const auto m = parse_money("9007199.254740993");
  ASSERT_TRUE(m);
  EXPECT_EQ(m->nano, 9007199254740993);
  EXPECT_EQ(to_string(*m), "9007199.254740993");
}

TEST(Money, TextIsExactAndShort) {
  EXPECT_EQ(to_string(Money{0}), "0");
  EXPECT_EQ(to_string(Money{7400}), "0.0000074");
  EXPECT_EQ(to_string(Money{-3'000'000'000}), "-3");
  EXPECT_EQ(to_string(Money{INT64_MIN}), "-9223372036.854775808");
  EXPECT_EQ(parse_money("-9223372036.854775808")->nano, INT64_MIN);
  EXPECT_EQ(parse_money("9223372036.854775807")->nano, INT64_MAX);
  EXPECT_EQ(parse_money("5.00")->nano, 5'000'000'000);
  EXPECT_EQ(parse_money(".5")->nano, 500'000'000);
  EXPECT_EQ(parse_money("1.0000000000000")->nano, 1'000'000'000);   // zeros beyond the ninth change nothing
}

TEST(Money, RefusesWhatIsNotExactlyANumberOfNanoUnits) {
  for (const char* bad : {"", "-", ".", "1e3", "NaN", "inf", "0x10", "1.2.3", " 1", "1 ", "+1", "1,5", "0.0000000001",
                          "9223372036.854775808", "99999999999999999999"}) {
    EXPECT_FALSE(parse_money(bad)) << bad;
  }
}

TEST(Money, SumsThatOverflowAreRefused) {
  EXPECT_FALSE(add(Money{INT64_MAX}, Money{1}));
  EXPECT_FALSE(subtract(Money{INT64_MIN}, Money{1}));
  EXPECT_EQ(add(Money{2}, Money{3})->nano, 5);
}

}  // namespace
}  // namespace tokenworks
