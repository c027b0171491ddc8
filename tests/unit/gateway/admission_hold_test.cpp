#include "admission_fixture.hpp"

namespace tokenworks::gateway {
namespace {

using ledger::EntryType;

class AdmissionHold : public AdmissionTest {};

TEST_F(AdmissionHold, AHoldIsTheWorstCaseAndASettleIsWhatWasUsed) {
  budget(1'000'000);
  open();
  const Ask request = ask(100, 50);
  auto admitted = admit(request);
  ASSERT_TRUE(admitted);
  EXPECT_FALSE(admitted->hold.chunked());
  EXPECT_EQ(admitted->hold.granted_output(), 50);
  EXPECT_EQ(standing().held.nano, 100 * kInput + 50 * kOutput);
  EXPECT_EQ(admission->totals().holds_open, 1);
  EXPECT_EQ(admission->totals().hold_amount.nano, 100 * kInput + 50 * kOutput);

  const auto charge = admitted->hold.settle(used(100, 20, 40), "stop", {});
  ASSERT_TRUE(charge);
  EXPECT_EQ(charge->total.nano, 60 * kInput + 40 * kCached + 20 * kOutput);
  EXPECT_EQ(standing().held.nano, 0);
  EXPECT_EQ(standing().holds_open, 0);
  EXPECT_EQ(standing().budgets[0].spent, charge->total);
  EXPECT_FALSE(admitted->hold.settle(used(100, 20), "stop", {})) << "a hold ends once";
  EXPECT_EQ(ledger.ended(), 1);
}

TEST_F(AdmissionHold, EntriesCarryEverythingAnAuditorNeeds) {
  open();
  Ask request = ask(10, 5);
  request.model_digest = "aa";
  request.tokenizer_digest = "bb";
  request.data_class = "internal";
  request.retry_count = 2;
  request.tags = {{"user", "u-1"}};
  request.tier = Tier::batch;
  auto admitted = admit(request, member("acme", "search"));
  ASSERT_TRUE(admitted);
  EXPECT_EQ(admitted->hold.tier(), Tier::batch);
  EXPECT_EQ(admitted->hold.currency(), "USD");
  clock.advance_ns(kSecond);
  ASSERT_TRUE(admitted->hold.settle(used(10, 5), "length", {}));
  const auto records = ledger.records_of(request.request);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].type, EntryType::hold);
  EXPECT_EQ(records[0].usage, used(10, 5));
  EXPECT_EQ(records[0].amount.nano, (10 * kInput + 5 * kOutput) / 2);
  EXPECT_EQ(records[0].unix_ns, kNoon * kSecond);
  EXPECT_EQ(records[1].type, EntryType::settle);
  EXPECT_EQ(records[1].unix_ns, (kNoon + 1) * kSecond);
  EXPECT_EQ(records[1].finish_reason, "length");
  for (const auto& r : records) {
    EXPECT_EQ(r.organization.value, "acme");
    EXPECT_EQ(r.project.value, "acme/search");
    EXPECT_EQ(r.key.value, "k1234567");
    EXPECT_EQ(r.actor, "service:default");
    EXPECT_EQ(r.model.value, "m");
    EXPECT_EQ(r.model_digest, "aa");
    EXPECT_EQ(r.tokenizer_digest, "bb");
    EXPECT_EQ(r.price_version, "v1");
    EXPECT_EQ(r.price_hash, book()->versions().front().hash);
    EXPECT_EQ(r.tier, Tier::batch);
    EXPECT_EQ(r.currency, "USD");
    EXPECT_EQ(r.build_id, "build-1");
    EXPECT_EQ(r.region, "eu-central");
    EXPECT_EQ(r.jurisdiction, "DE");
    EXPECT_EQ(r.data_class, "internal");
    EXPECT_EQ(r.retry_count, 2);
  }
  ASSERT_EQ(ledger.annotations().size(), 1u);
  EXPECT_EQ(ledger.annotations()[0].tags.at("user"), "u-1");
}

TEST_F(AdmissionHold, TicketsCarryTheTenantItsWeightAndWhatIsPaidFor) {
  open();
  auto admitted = admit(ask(10, 5, 2));
  ASSERT_TRUE(admitted);
  const Ticket ticket = admitted->hold.take_ticket();
  EXPECT_EQ(ticket.tenant(), 5u);
  EXPECT_EQ(ticket.weight(), 3u);
  EXPECT_EQ(ticket.output_tokens(), 5);
  EXPECT_EQ(ticket.tier(), Tier::standard);
  admitted->hold.take_ticket();
}

TEST_F(AdmissionHold, AHoldWhoseOwnerDiesSettlesItsProgressOrGivesEverythingBack) {
  budget(1'000'000);
  open();
  const Ask silent = ask(10, 5), told = ask(10, 5), prefilled = ask(10, 5);
  { auto gone = admit(silent); }
  EXPECT_EQ(ledger.records_of(silent.request)[1].type, EntryType::release);
  EXPECT_EQ(standing().budgets[0].spent.nano, 0);
  {
    auto gone = admit(prefilled);
    gone->hold.progress(used(10, 0));
  }
  EXPECT_EQ(ledger.records_of(prefilled.request)[1].type, EntryType::release);
  {
    auto gone = admit(told);
    gone->hold.progress(used(10, 1));
    gone->hold.progress(used(10, 3));
  }
  const auto end = ledger.records_of(told.request)[1];
  EXPECT_EQ(end.type, EntryType::settle);
  EXPECT_EQ(end.finish_reason, "cancelled");
  EXPECT_EQ(end.amount.nano, 10 * kInput + 3 * kOutput);
  EXPECT_EQ(standing().running, 0);
  EXPECT_EQ(ledger.open_holds(), 0u);
  EXPECT_EQ(ledger.progresses().back().charge.nano, 10 * kInput + 3 * kOutput);
}

TEST_F(AdmissionHold, AMovedHoldEndsOnceAndAnOverwrittenOneEndsThen) {
  open();
  auto first = admit(ask(10, 5)), second = admit(ask(10, 5));
  Hold moved = std::move(first->hold);
  EXPECT_EQ(ledger.ended(), 0);
  moved = std::move(second->hold);
  EXPECT_EQ(ledger.ended(), 1);
  ASSERT_TRUE(moved.settle(used(10, 5), "stop", {}));
  EXPECT_EQ(ledger.ended(), 2);
}

TEST_F(AdmissionHold, AUsageOfNothingIsAReleaseAndStillToldWhenDurable) {
  ledger.fires_at_once = false;
  open();
  const Ask request = ask(10, 5);
  auto admitted = admit(request);
  int told = 0;
  const auto charge = admitted->hold.settle({}, "cancelled", [&](const Result<>& r) { told += r ? 1 : 100; });
  ASSERT_TRUE(charge);
  EXPECT_EQ(charge->total.nano, 0);
  EXPECT_EQ(ledger.records_of(request.request)[1].type, EntryType::release);
  EXPECT_EQ(told, 0);
  ledger.commit();
  EXPECT_EQ(told, 1);
}

TEST_F(AdmissionHold, AUsageBeyondTheGrantIsCutToIt) {
  open();
  auto admitted = admit(ask(10, 5));
  const auto charge = admitted->hold.settle({.input = 11, .cached_input = 99, .output = 7, .reasoning = 8}, "stop", {});
  ASSERT_TRUE(charge);
  EXPECT_EQ(charge->total.nano, 10 * kCached + 5 * kOutput);
}

TEST_F(AdmissionHold, TheHoldIsTakenBackWhenTheLedgerRefusesIt) {
  budget(10 * kInput + 5 * kOutput);
  plan().tokens_per_minute = 15;
  open();
  ledger.refuse_appends(1);
  EXPECT_FALSE(admit(ask(10, 5)));
  EXPECT_EQ(last_error.code, Errc::ledger_unavailable);
  EXPECT_EQ(standing().held.nano, 0);
  EXPECT_EQ(admission->totals().holds_open, 0);
  EXPECT_TRUE(admit(ask(10, 5))) << "windows and money are whole again";
}

TEST_F(AdmissionHold, AnEndIsNeverDroppedWhenTheLedgersQueueIsFull) {
  open();
  const Ask request = ask(10, 5);
  auto admitted = admit(request);
  int told = 0;
  ledger.refuse_appends(2);
  ASSERT_TRUE(admitted->hold.settle(used(10, 5), "stop", [&](const Result<>&) { ++told; }));
  EXPECT_EQ(ledger.records_of(request.request).size(), 1u);
  clock.advance_ns(kSecond);
  EXPECT_FALSE(admit(ask(1, 1))) << "the second try is refused as well, so nothing new is let in";
  EXPECT_EQ(last_error.code, Errc::ledger_unavailable);
  admission->totals();
  EXPECT_EQ(ledger.records_of(request.request).size(), 2u);
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(admit(ask(1, 1)));
}

TEST_F(AdmissionHold, ALedgerThatLagsTwoSecondsStopsAdmissionAndServingResumes) {
  open();
  ledger.set_oldest_settle_ns(2 * kSecond);
  EXPECT_TRUE(admit(ask(1, 1)));
  ledger.set_oldest_settle_ns(2 * kSecond + 1);
  clock.advance_ns(kSecond);
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_EQ(last_error.code, Errc::ledger_unavailable);
  EXPECT_GT(last_error.retry_after_ms, 0);
  ledger.set_oldest_settle_ns(0);
  clock.advance_ns(kSecond);
  EXPECT_TRUE(admit(ask(1, 1)));
}

TEST_F(AdmissionHold, ThePriceAtAdmissionCountsWhateverIsReloadedMeanwhile) {
  open();
  auto admitted = admit(ask(10, 5));
  prices.version = "v2";
  prices.models["m"][config::PriceClass::output] = 4 * kOutput * 1000;
  ASSERT_TRUE(admission->reload(tenants, book()));
  const Ask later = ask(10, 5);
  auto second = admit(later);
  EXPECT_EQ(admitted->hold.settle(used(10, 5), "stop", {})->total.nano, 10 * kInput + 5 * kOutput);
  EXPECT_EQ(second->hold.settle(used(10, 5), "stop", {})->total.nano, 10 * kInput + 20 * kOutput);
  EXPECT_EQ(ledger.records_of(later.request)[1].price_version, "v2");
}

TEST_F(AdmissionHold, ATierAboveThePlansIsRefusedWithItsParameterAndAModelWithoutAPriceIsNotServed) {
  open();
  Ask high = ask(1, 1);
  high.tier = Tier::priority;
  EXPECT_FALSE(admit(high));
  EXPECT_EQ(last_error.code, Errc::invalid_request);
  EXPECT_EQ(last_error.param, "service_tier");
  Ask unpriced = ask(1, 1);
  unpriced.model = ModelId{"other"};
  EXPECT_FALSE(admit(unpriced));
  EXPECT_EQ(last_error.code, Errc::model_not_found);
  for (const auto& bad : {ask(-1, 1), ask(1, 0), ask(1, 1, 0), ask(1, INT64_MAX), ask(INT64_MAX, 1), ask(1, 1, INT64_MAX)}) {
    EXPECT_FALSE(admit(bad));
    EXPECT_EQ(last_error.code, Errc::invalid_request);
  }
  EXPECT_EQ(ledger.records().size(), 0u);
  EXPECT_EQ(standing().running, 0);
}

}  // namespace
}  // namespace tokenworks::gateway
