// Events of admission: a threshold goes with the entry that crossed it, an expired credit with its adjustment, and what a crash
// or a reload left untold is told again without an entry.
#include "admission_fixture.hpp"

namespace tokenworks::gateway {
namespace {

// One receiver; an event's id says what it is of.
class Sink final : public EventSink {
 public:
  Events budget_threshold(const billing::BudgetEvent& e, std::int64_t unix_ns) override {
    return {{std::to_string(e.percent) + "% of " + to_string(e.amount) + " from " + std::to_string(e.period_start_s), "r",
             "budget.threshold", to_string(e.spent), unix_ns}};
  }
  Events credit_expired(std::string_view organization, std::string_view currency, const billing::Balance::Lapse& lapse,
                        const RequestId& operation, std::int64_t unix_ns) override {
    return {{operation.to_string(), "r", "credit.expired", std::string(organization) + " " + to_string(lapse.amount) + " " + std::string(currency), unix_ns}};
  }
};

constexpr std::int64_t kMidnight = kNoon - 12 * 3600;

class AdmissionEvents : public AdmissionTest {
 protected:
  Sink sink;
  void start() {
    open();
    admission->set_events(&sink);
    admission->tick();                               // what was reached before
  }
  void serve(std::int64_t prompt) {                  // costs 100 nano-units per prompt token, and 400 for its output
    auto in = admit(ask(prompt, 1));
    ASSERT_TRUE(in) << last_error.message;
    ASSERT_TRUE(in->hold.settle(used(prompt, 1), "stop", {}));
  }
  static std::string ids(const std::vector<ledger::OutboxEvent>& events) {
    std::string all;
    for (const auto& e : events) all += e.id + "; ";
    return all;
  }
  static std::string of(std::int64_t percent, const std::string& amount) {
    return std::to_string(percent) + "% of " + amount + " from " + std::to_string(kMidnight) + "; ";
  }
};

TEST_F(AdmissionEvents, AThresholdGoesWithTheEntryThatCrossedIt) {
  budget(10'000);
  acme().budgets[0].warn_at = {50, 80, 100};
  start();
  serve(40);                                         // 4,400
  EXPECT_EQ(ids(ledger.records().back().events), "");
  serve(40);                                         // 8,800: both at once
  EXPECT_EQ(ids(ledger.records().back().events), of(50, "0.00001") + of(80, "0.00001"));
  EXPECT_EQ(ledger.records().back().events[0].unix_ns, ledger.records().back().unix_ns);
  EXPECT_EQ(ledger.records().back().events[0].body, "0.0000088");
  serve(8);                                          // 10,000: exactly all of it
  EXPECT_EQ(ids(ledger.records().back().events), of(100, "0.00001"));
  EXPECT_TRUE(ledger.outbox().empty());
}

TEST_F(AdmissionEvents, AnExpiredHoldsThresholdIsToldToo) {
  budget(10'000);
  acme().budgets[0].warn_at = {10};
  start();
  auto in = admit(ask(10, 10));
  ASSERT_TRUE(in);
  in->hold.progress(used(10, 3));
  clock.advance_ns(60 * kSecond);
  admission->tick(60 * kSecond);
  EXPECT_EQ(ledger.records().back().finish_reason, "expired");
  EXPECT_EQ(ids(ledger.records().back().events), of(10, "0.00001"));
}

TEST_F(AdmissionEvents, WhatACrashLeftUntoldIsToldAgainAfterTheStart) {
  budget(10'000);
  acme().budgets[0].warn_at = {50, 80};
  ledger.spend_rows = {{OrganizationId{"acme"}, ProjectId{"acme/default"}, KeyId{"k1234567"}, ModelId{"m"}, kNoon - 3600, Money{6'000}, 0}};
  start();
  EXPECT_EQ(ids(ledger.outbox()), of(50, "0.00001"));
  admission->tick();
  EXPECT_EQ(ledger.outbox().size(), 1u) << "once per start";
}

TEST_F(AdmissionEvents, AReloadThatCrossesAThresholdIsTold) {
  budget(1'000'000);
  acme().budgets[0].warn_at = {80};
  start();
  serve(80);                                         // 8,400
  EXPECT_TRUE(ledger.outbox().empty());
  acme().budgets[0].amount = Money{10'000};
  ASSERT_TRUE(admission->reload(tenants, book()));
  admission->tick();
  EXPECT_EQ(ids(ledger.outbox()), of(80, "0.00001"));
}

TEST_F(AdmissionEvents, AnExpiredCreditGoesWithItsAdjustment) {
  start();
  const RequestId credit = next_id();
  ASSERT_TRUE(admission->adjust_balance("acme", Money{500}, true, credit, clock.unix_ns() + 10 * kSecond));
  clock.advance_ns(11 * kSecond);
  admission->tick();
  const ledger::Record last = ledger.records().back();
  EXPECT_EQ(last.type, ledger::EntryType::adjust);
  ASSERT_EQ(last.events.size(), 1u);
  EXPECT_EQ(last.events[0].id, last.request.to_string());
  EXPECT_EQ(last.events[0].body, "acme 0.0000005 USD");
}

TEST_F(AdmissionEvents, WithoutASinkNothingIsKept) {
  budget(10'000);
  acme().budgets[0].warn_at = {50};
  open();
  serve(80);
  admission->tick();
  EXPECT_TRUE(ledger.records().back().events.empty());
  EXPECT_TRUE(ledger.outbox().empty());
}

}  // namespace
}  // namespace tokenworks::gateway
