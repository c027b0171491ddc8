// Every field of money through the API and the command line, which share one reader: what is not exact and whole is refused
// with the field's name.
#include <gtest/gtest.h>

#include "tokenworks/gateway/orders.hpp"
#include "tokenworks/tenancy/limits.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::int64_t kNow = 1'795'521'600'000'000'000;   // 2026-11-24T12:00:00Z

struct Bad {
  const char* body;
  const char* param;
};

TEST(Orders, ACreditIsReadExactly) {
  const auto order = credit_from_json(R"({"id":"invoice-7","amount":"9007199.254740993","expires":"30d"})", kNow);
  ASSERT_TRUE(order) << order.error().message;
  EXPECT_EQ(order->amount.nano, 9'007'199'254'740'993);
  EXPECT_EQ(order->lasts_ns, std::int64_t{30} * 86'400 * 1'000'000'000);
  EXPECT_EQ(order->expires_unix_ns, kNow + order->lasts_ns);
  const auto dated = credit_from_json(R"({"id":"a","amount":"0.000000001","expires":"2027-01-01T00:00:00Z"})", kNow);
  ASSERT_TRUE(dated) << dated.error().message;
  EXPECT_EQ(dated->expires_unix_ns, 1'798'761'600'000'000'000);
  EXPECT_EQ(dated->lasts_ns, 0);
  EXPECT_EQ(credit_from_json(R"({"id":"a","amount":"-5","correction":true})", kNow)->amount.nano, -5'000'000'000);
  EXPECT_EQ(operation_id("acme", "a"), operation_id("acme", "a"));
  EXPECT_NE(operation_id("acme", "a"), operation_id("beta", "a"));
}

TEST(Orders, BadCreditsAreRefusedWithTheirField) {
  const Bad table[] = {
      {R"({"amount":"5"})", "id"},
      {R"({"id":"","amount":"5"})", "id"},
      {R"({"id":"a b","amount":"5"})", "id"},
      {R"({"id":"a/b","amount":"5"})", "id"},
      {R"({"id":7,"amount":"5"})", "id"},
      {R"({"id":"a"})", "amount"},
      {R"({"id":"a","amount":5})", "amount"},
      {R"({"id":"a","amount":0.1})", "amount"},
      {R"({"id":"a","amount":""})", "amount"},
      {R"({"id":"a","amount":"0"})", "amount"},
      {R"({"id":"a","amount":"-1"})", "amount"},
      {R"({"id":"a","amount":"-0.000000001"})", "amount"},
      {R"({"id":"a","amount":"NaN"})", "amount"},
      {R"({"id":"a","amount":"inf"})", "amount"},
      {R"({"id":"a","amount":"1e3"})", "amount"},
      {R"({"id":"a","amount":"1,5"})", "amount"},
      {R"({"id":"a","amount":"5 USD"})", "amount"},
      {R"({"id":"a","amount":" 5"})", "amount"},
      {R"({"id":"a","amount":"0.0000000001"})", "amount"},
      {R"({"id":"a","amount":"1.0000000000000000001"})", "amount"},
      {R"({"id":"a","amount":"9223372036.854775807"})", "amount"},
      {R"({"id":"a","amount":"99999999999999999999"})", "amount"},
      {R"({"id":"a","amount":"5","expires":"yesterday"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"0d"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"-3d"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"999999999d"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"1970-01-01T00:00:00Z"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"2027-02-31"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"2027-02-31T00:00:00Z"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"2027-01-01T00:00:60Z"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"2027-01- 1T00:00:00Z"})", "expires"},
      {R"({"id":"a","amount":"5","expires":"9999-01-01T00:00:00Z"})", "expires"},
      {R"({"id":"a","amount":"5","expires":17})", "expires"},
      {R"({"id":"a","amount":"5","correction":"yes"})", "correction"},
      {R"({"id":"a","amount":"5","correction":true,"expires":"3d"})", "expires"},
      {R"({"id":"a","amount":"5","currency":"XXX"})", "currency"},
      {R"({"id":"a","amount":"5","amount":"6"})", ""},
      {R"({"id":"a","amount":"5")", ""},
      {"[]", ""},
      {"", "id"}};
  for (const Bad& bad : table) {
    const auto order = credit_from_json(bad.body, kNow);
    ASSERT_FALSE(order) << bad.body;
    EXPECT_EQ(order.error().code, Errc::invalid_request) << bad.body;
    EXPECT_EQ(order.error().param, bad.param) << bad.body << ": " << order.error().message;
  }
}

TEST(Orders, AmountsHaveThePlacesOfTheirCurrency) {
  EXPECT_EQ(credit_from_json(R"({"id":"a","amount":"9007199254.740993"})", kNow, "JPY")->amount.nano, 9'007'199'254'740'993);
  EXPECT_FALSE(credit_from_json(R"({"id":"a","amount":"0.0000001"})", kNow, "JPY"));
  EXPECT_EQ(credit_from_json(R"({"id":"a","amount":"0.000000001"})", kNow, "KWD")->amount.nano, 1);
  const auto order = budget_from_json(R"({"id":"b","amount":"1.5"})", "KRW");
  ASSERT_TRUE(order);
  EXPECT_EQ(order->spec.amount.nano, 1'500'000);
  EXPECT_NE(budget_json(*order, "KRW").find(R"("amount":"1.5")"), std::string::npos);
}

TEST(Orders, ABudgetComesBackAsItWentIn) {
  const std::string body = R"({"id":"q4","amount":"9007199.254740993","per":"week","mode":"soft","warn_at":[50,80],"timezone":"Europe/Berlin","project":"search","model":"m","key":"1a2b3c4d"})";
  const auto order = budget_from_json(body);
  ASSERT_TRUE(order) << order.error().message;
  EXPECT_EQ(budget_json(*order), body);
  const auto tag = budget_from_json(R"({"id":"t","amount":"1","tag":"team=search"})");
  ASSERT_TRUE(tag) << tag.error().message;
  EXPECT_EQ(budget_json(*budget_from_json(budget_json(*tag))), budget_json(*tag));
}

TEST(Orders, BadBudgetsAreRefusedWithTheirField) {
  const Bad table[] = {
      {R"({"amount":"5"})", "id"},
      {R"({"id":"a b","amount":"5"})", "id"},
      {R"({"id":"b"})", "amount"},
      {R"({"id":"b","amount":"-1"})", "amount"},
      {R"({"id":"b","amount":"1.0000000000000000001"})", "amount"},
      {R"({"id":"b","amount":"NaN"})", "amount"},
      {R"({"id":"b","amount":"9223372036854775808"})", "amount"},
      {R"({"id":"b","amount":1})", "amount"},
      {R"({"id":"b","amount":"1","per":"year"})", "per"},
      {R"({"id":"b","amount":"1","mode":"firm"})", "mode"},
      {R"({"id":"b","amount":"1","warn_at":50})", "warn_at"},
      {R"({"id":"b","amount":"1","warn_at":[0]})", "warn_at"},
      {R"({"id":"b","amount":"1","warn_at":[-1]})", "warn_at"},
      {R"({"id":"b","amount":"1","warn_at":[50.5]})", "warn_at"},
      {R"({"id":"b","amount":"1","warn_at":[1001]})", "warn_at"},
      {R"({"id":"b","amount":"1","timezone":"Mars/Olympus"})", "timezone"},
      {R"({"id":"b","amount":"1","timezone":"../../etc/passwd"})", "timezone"},
      {R"({"id":"b","amount":"1","tag":""})", "tag"},
      {R"({"id":"b","amount":"1","key":""})", "key"},
      {R"({"id":"b","amount":"1","model":""})", "model"},
      {R"({"id":"b","amount":"1","project":""})", "project"},
      {R"({"id":"b","amount":"1","per":""})", "per"},
      {R"({"id":"b","amount":"1","tag":"team"})", "tag"},
      {R"({"id":"b","amount":"1","tag":"=x"})", "tag"},
      {R"({"id":"b","amount":"1","tag":"team=x","model":"m"})", "tag"},
      {R"({"id":"b","amount":"1","tag":"team=x","project":"search"})", "tag"},
      {R"({"id":"b","amount":"1","tag":"team=x","key":"1a2b3c4d"})", "tag"},
      {R"({"id":"b","amount":"1","colour":"red"})", "colour"}};
  for (const Bad& bad : table) {
    const auto order = budget_from_json(bad.body);
    ASSERT_FALSE(order) << bad.body;
    EXPECT_EQ(order.error().param, bad.param) << bad.body << ": " << order.error().message;
  }
}

TEST(Orders, LimitsOfAKeyAreWholeNumbers) {
  const auto limits = tenancy::parse_limits(R"({"requests_per_minute":60, "tokens_per_day":0})");
  ASSERT_TRUE(limits) << limits.error().message;
  EXPECT_EQ(limits->requests_per_minute, 60);
  EXPECT_EQ(limits->tokens_per_day, 0);
  EXPECT_EQ(limits->tokens_per_minute, config::kUnlimited);
  EXPECT_EQ(tenancy::limits_json(*limits), R"({"requests_per_minute":60,"tokens_per_day":0})");
  EXPECT_EQ(tenancy::limits_json({}), "");
  const Bad table[] = {{R"({"requests_per_minute":-1})", "requests_per_minute"},
                       {R"({"requests_per_minute":1.5})", "requests_per_minute"},
                       {R"({"requests_per_minute":1e3})", "requests_per_minute"},
                       {R"({"requests_per_minute":"60"})", "requests_per_minute"},
                       {R"({"requests_per_minute":NaN})", "requests_per_minute"},
                       {R"({"tokens_per_day":99999999999999999999})", "tokens_per_day"},
                       {R"({"tokens_per_day":9007199254740993})", "tokens_per_day"},
                       {R"({"tokens_per_year":5})", "tokens_per_year"},
                       {R"({"tokens_per_day":5)", "limits"},
                       {R"([5])", "limits"},
                       {R"({"tokens_per_day":5}x)", "limits"}};
  for (const Bad& bad : table) {
    const auto read = tenancy::parse_limits(bad.body);
    ASSERT_FALSE(read) << bad.body;
    EXPECT_EQ(read.error().param, bad.param) << bad.body << ": " << read.error().message;
  }
}

}  // namespace
}  // namespace tokenworks::gateway
