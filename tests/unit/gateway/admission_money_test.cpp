// Credits, credit lines, budgets of keys and tags, windows of hours and days: through admission, and after a restart.
#include "admission_fixture.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::int64_t kDay = 86'400;
// 10 prompt and 10 output tokens, the worst case and the charge of all tests here.
constexpr std::int64_t kCost = 10 * kInput + 10 * kOutput;

class AdmissionMoney : public AdmissionTest {
 protected:
  static Ask one() { return ask(10, 10); }
  // Serves it whole; false when it was refused.
  bool serve(const Ask& wanted = one(), const tenancy::Principal& who = member()) {
    auto in = admit(wanted, who);
    return in && in->hold.settle(used(10, 10), "stop", {});
  }
  static Ask tagged(const std::string& name, const std::string& value) {
    Ask wanted = one();
    wanted.tags[name] = value;
    return wanted;
  }
  static tenancy::Principal with_key(const std::string& key) {
    auto who = member();
    who.key = KeyId{key};
    return who;
  }
  config::BudgetSpec day(std::int64_t requests) {
    config::BudgetSpec spec;
    spec.amount = Money{requests * kCost};
    spec.per = config::BudgetSpec::Per::day;
    return spec;
  }
  void credit(std::int64_t requests, std::int64_t expires_s, std::uint8_t n = 1) {
    RequestId operation;
    operation.bytes[15] = n;
    ASSERT_TRUE(admission->adjust_balance("acme", Money{requests * kCost}, true, operation, expires_s * kSecond));
  }
};

TEST_F(AdmissionMoney, ACreditThatExpiresUnderAHoldStaysForItAndTheRestIsBookedAway) {
  open();
  credit(3, kNoon + 60);
  auto in = admit(one());
  ASSERT_TRUE(in);
  clock.advance_ns(60 * kSecond);
  EXPECT_FALSE(serve()) << "expired money serves nobody new";
  EXPECT_EQ(last_error.code, Errc::insufficient_quota);
  EXPECT_EQ(ledger.adjusted_nano("acme"), -2 * kCost);
  EXPECT_EQ(standing().balance->nano, kCost);
  ASSERT_TRUE(in->hold.settle(used(10, 4), "stop", {}));
  admission->tick();
  EXPECT_EQ(ledger.adjusted_nano("acme"), -2 * kCost - 6 * kOutput);
  EXPECT_EQ(standing().balance->nano, 0);
  const auto records = ledger.records();
  ASSERT_EQ(records.back().type, ledger::EntryType::adjust);
  EXPECT_EQ(records.back().actor, "service:credit-expiry");
  EXPECT_EQ(records.back().currency, "USD");
  admission->tick();
  EXPECT_EQ(ledger.records().size(), records.size()) << "once";
}

TEST_F(AdmissionMoney, TheSoonestToExpireIsSpentFirst) {
  open();
  credit(1, kNoon + 7'200, 1);
  credit(1, kNoon + 3'600, 2);
  EXPECT_TRUE(serve());
  clock.advance_ns(3'600 * kSecond);
  EXPECT_TRUE(serve()) << "what was spent is the one that expired first";
  EXPECT_FALSE(serve());
  EXPECT_EQ(ledger.adjusted_nano("acme"), 0);
}

TEST_F(AdmissionMoney, CreditsOfTheBooksExpireAfterARestart) {
  RequestId operation;
  operation.bytes[15] = 9;
  ledger.balance_rows = {{OrganizationId{"acme"}, "USD", Money{5 * kCost}, true}};
  ledger.credit_rows["acme"] = {{operation, Money{9 * kCost}, Money{2 * kCost}, (kNoon - 10) * kSecond, 0},
                                {{}, Money{3 * kCost}, Money{3 * kCost}, 0, 0}};
  open();
  admission->tick();
  EXPECT_EQ(ledger.adjusted_nano("acme"), -2 * kCost) << "it expired while the plant was down";
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(serve());
  EXPECT_FALSE(serve());
}

TEST_F(AdmissionMoney, ACreditLineIsOwedToTheLastUnitAndNotOneMore) {
  acme().credit_line = Money{3 * kCost};
  open();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(serve());
  EXPECT_FALSE(serve());
  EXPECT_EQ(last_error.code, Errc::insufficient_quota);
  EXPECT_NE(last_error.message.find("credit line"), std::string::npos) << last_error.message;
  EXPECT_EQ(standing().balance->nano, -3 * kCost);
  credit(1, kNoon + kDay);                           // a payment
  EXPECT_TRUE(serve());
  EXPECT_FALSE(serve());
}

TEST_F(AdmissionMoney, WhatIsOwedCountsAfterARestart) {
  acme().credit_line = Money{3 * kCost};
  ledger.balance_rows = {{OrganizationId{"acme"}, "USD", Money{-2 * kCost}, false}};
  open();
  EXPECT_TRUE(serve());
  EXPECT_FALSE(serve());
}

TEST_F(AdmissionMoney, ACorrectionTakesOnlyWhatNobodyHolds) {
  open();
  credit(3, 0);
  auto in = admit(one());
  ASSERT_TRUE(in);
  EXPECT_FALSE(admission->adjust_balance("acme", Money{-3 * kCost}, false));
  EXPECT_TRUE(admission->adjust_balance("acme", Money{-2 * kCost}, false));
  EXPECT_EQ(standing().free->nano, 0);
}

TEST_F(AdmissionMoney, ATagBudgetCountsRequestsWithItsTagAlone) {
  auto spec = day(2);
  spec.tag = "team=red";
  acme().budgets = {spec};
  open();
  EXPECT_TRUE(serve(tagged("team", "red")));
  EXPECT_TRUE(serve(tagged("team", "blue")));
  EXPECT_TRUE(serve());
  EXPECT_TRUE(serve(tagged("team", "red")));
  EXPECT_FALSE(serve(tagged("team", "red")));
  EXPECT_NE(last_error.message.find("tag team=red"), std::string::npos) << last_error.message;
  EXPECT_TRUE(serve(tagged("team", "blue")));
  const auto records = ledger.records();
  EXPECT_EQ(records[0].tag_hashes.size(), 1u);
  EXPECT_EQ(records[0].tag_hashes, records[1].tag_hashes) << "hold and settle";
  clock.advance_ns(kDay * kSecond);
  EXPECT_TRUE(serve(tagged("team", "red"))) << "a new day";
}

TEST_F(AdmissionMoney, SpendByTagIsReadFromTheBooksAtStartAndWhenABudgetComesLater) {
  auto spec = day(3);
  spec.tag = "team=red";
  const auto hash = ledger::tag_hash("", OrganizationId{"acme"}, "team", "red");
  ledger.tag_rows = {{OrganizationId{"acme"}, hash, kNoon - 900, Money{kCost}, 20},
                     {OrganizationId{"acme"}, hash, kNoon - kDay, Money{50 * kCost}, 20},      // yesterday
                     {OrganizationId{"beta"}, hash, kNoon - 900, Money{50 * kCost}, 20}};
  acme().budgets = {spec};
  open();
  EXPECT_TRUE(serve(tagged("team", "red")));
  EXPECT_TRUE(serve(tagged("team", "red")));
  EXPECT_FALSE(serve(tagged("team", "red")));
  acme().budgets[0].tag = "team=blue";
  ledger.tag_rows = {{OrganizationId{"acme"}, ledger::tag_hash("", OrganizationId{"acme"}, "team", "blue"), kNoon - 900, Money{2 * kCost}, 20}};
  auto open_before = admit(tagged("team", "blue"));
  ASSERT_TRUE(open_before);
  ASSERT_TRUE(admission->reload(tenants, book()));
  EXPECT_FALSE(serve(tagged("team", "blue"))) << "two are spent and one is held";
  ASSERT_TRUE(open_before->hold.settle({}, "cancelled", {}));
  EXPECT_TRUE(serve(tagged("team", "blue")));
  EXPECT_FALSE(serve(tagged("team", "blue")));
}

TEST_F(AdmissionMoney, AKeyBudgetOfTheApiIsInForceAfterRefreshAndKnowsItsPast) {
  ledger.spend_rows = {{OrganizationId{"acme"}, ProjectId{"acme/default"}, KeyId{"kkkkkkkk"}, ModelId{"m"}, kNoon - 3'600, Money{kCost}, 20},
                       {OrganizationId{"acme"}, ProjectId{"acme/default"}, KeyId{"other000"}, ModelId{"m"}, kNoon - 3'600, Money{9 * kCost}, 20}};
  open();
  BudgetOrder order;
  order.id = "k";
  order.spec = day(2);
  order.spec.key = "kkkkkkkk";
  ledger.setting_rows = {{"budget", OrganizationId{"acme"}, "k", budget_json(order)}};
  ASSERT_TRUE(admission->refresh());
  EXPECT_TRUE(serve(one(), with_key("kkkkkkkk")));
  EXPECT_FALSE(serve(one(), with_key("kkkkkkkk")));
  EXPECT_TRUE(serve(one(), with_key("other000")));
  ASSERT_EQ(standing().budgets.size(), 1u);
  EXPECT_EQ(standing().budgets[0].spent.nano, 2 * kCost);
  ledger.setting_rows.clear();
  ASSERT_TRUE(admission->refresh());
  EXPECT_TRUE(serve(one(), with_key("kkkkkkkk")));
}

TEST_F(AdmissionMoney, HistoryThatCannotBeReadIsReadLater) {
  open();
  auto spec = day(1);
  spec.tag = "team=red";
  acme().budgets = {spec};
  ledger.tag_rows = {{OrganizationId{"acme"}, ledger::tag_hash("", OrganizationId{"acme"}, "team", "red"), kNoon - 900, Money{kCost}, 20}};
  ledger.refuse_reads(true);
  ASSERT_TRUE(admission->reload(tenants, book()));
  ledger.refuse_reads(false);
  admission->tick();
  EXPECT_FALSE(serve(tagged("team", "red")));
}

TEST_F(AdmissionMoney, TokensPerDayHoldAcrossARestart) {
  plan().tokens_per_day = 100;
  ledger::UsageRow row;
  row.bucket_unix_s = kNoon - 7'200;
  row.organization = "acme";
  row.project = "acme/default";
  row.model = "m";
  row.requests = 4;
  row.usage = {.input = 40, .output = 40};
  ledger.usage_rows = {row};
  clock.advance_ns(10 * kDay * kSecond);             // a machine that runs for long: the books are of its last hours
  ledger.usage_rows[0].bucket_unix_s += 10 * kDay;
  open();
  EXPECT_TRUE(serve());
  EXPECT_FALSE(serve());
  EXPECT_EQ(last_error.code, Errc::rate_limit_exceeded);
  EXPECT_NE(last_error.message.find("tokens per day"), std::string::npos) << last_error.message;
  ASSERT_GT(last_error.retry_after_ms, 0);
  clock.advance_ns(last_error.retry_after_ms * 1'000'000 - 1'000'000);
  EXPECT_FALSE(serve());
  clock.advance_ns(1'000'000);
  EXPECT_TRUE(serve()) << "to the millisecond";
}

TEST_F(AdmissionMoney, InputAndOutputHaveWindowsOfTheirOwnAndAModelHasItsShare) {
  plan().input_tokens_per_hour = 25;
  plan().model_limits["m"].output_tokens_per_minute = 30;
  open();
  EXPECT_TRUE(serve());
  EXPECT_TRUE(serve());
  EXPECT_FALSE(serve());
  EXPECT_NE(last_error.message.find("input tokens per hour"), std::string::npos) << last_error.message;
  const std::int64_t wait_ms = last_error.retry_after_ms;
  EXPECT_GT(wait_ms, 3'600'000 - 1);
  EXPECT_LE(wait_ms, 3'660'000);
  EXPECT_FALSE(admit(ask(1, 11))) << "10 output tokens of the minute are left";
  EXPECT_NE(last_error.message.find("on model m on output tokens per minute"), std::string::npos) << last_error.message;
  EXPECT_TRUE(admit(ask(1, 10)));
  clock.advance_ns(wait_ms * 1'000'000 - 1'000'000);
  EXPECT_FALSE(admit(ask(10, 1)));
  clock.advance_ns(1'000'000);
  EXPECT_TRUE(admit(ask(10, 1)));
}

TEST_F(AdmissionMoney, WhatCanNeverFitSaysSo) {
  plan().input_tokens_per_minute = 5;
  open();
  EXPECT_FALSE(serve());
  EXPECT_EQ(last_error.code, Errc::rate_limit_exceeded);
  EXPECT_EQ(last_error.retry_after_ms, -1);
}

TEST_F(AdmissionMoney, AKeysOwnLimitsNarrow) {
  plan().requests_per_minute = 3;
  open();
  auto narrow = with_key("narrow00");
  narrow.limits = config::LimitSpec{};
  narrow.limits->requests_per_day = 1;
  EXPECT_TRUE(serve(one(), narrow));
  EXPECT_FALSE(serve(one(), narrow));
  EXPECT_NE(last_error.message.find("key narrow00 on requests per day"), std::string::npos) << last_error.message;
  EXPECT_TRUE(serve());
}

TEST_F(AdmissionMoney, AHoldThatLostItsOwnerExpiresAndIsSettledWhenItHadCounted) {
  plan().concurrent_requests = 2;
  open();
  credit(10, 0);
  auto silent = admit(one()), counted = admit(one());
  ASSERT_TRUE(silent && counted);
  clock.advance_ns(50 * kSecond);
  EXPECT_TRUE(counted->hold.progress(used(10, 3)));
  admission->tick(60 * kSecond);
  EXPECT_EQ(standing().holds_open, 2);
  clock.advance_ns(10 * kSecond);
  admission->tick(60 * kSecond);
  EXPECT_EQ(standing().holds_open, 1);
  EXPECT_EQ(standing().running, 1) << "its place is free as well";
  EXPECT_EQ(ledger.records().back().type, ledger::EntryType::expire);
  clock.advance_ns(50 * kSecond);
  admission->tick(60 * kSecond);
  EXPECT_EQ(standing().holds_open, 0);
  const ledger::Record last = ledger.records().back();
  EXPECT_EQ(last.type, ledger::EntryType::settle);
  EXPECT_EQ(last.finish_reason, "expired");
  EXPECT_EQ(last.amount.nano, 10 * kInput + 3 * kOutput);
  EXPECT_EQ(standing().balance->nano, 10 * kCost - last.amount.nano);
  // The owners were there all along: their ends come too late, and once is enough.
  EXPECT_FALSE(silent->hold.progress(used(10, 1))) << "what is not paid for must not be sent";
  EXPECT_FALSE(silent->hold.settle(used(10, 10), "stop", {}));
  EXPECT_FALSE(counted->hold.extend().has_value() && counted->hold.chunked());
  silent.reset();
  counted.reset();
  EXPECT_EQ(ledger.open_holds(), 0u);
  EXPECT_EQ(ledger.ended(), 2);
  EXPECT_EQ(standing().running, 0);
}

}  // namespace
}  // namespace tokenworks::gateway
