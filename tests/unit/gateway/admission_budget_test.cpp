#include <thread>

#include "admission_fixture.hpp"

namespace tokenworks::gateway {
namespace {

using ledger::EntryType;

constexpr std::int64_t kFull = 10 * kInput + 20 * kOutput;   // ask(10, 20)

class AdmissionBudget : public AdmissionTest {};

TEST_F(AdmissionBudget, SixtyFourAtOnceOnABalanceForSevenGiveSevenFullAnswers) {
  for (int round = 0; round < 50; ++round) {
    ledger.balance_rows = {{OrganizationId{"acme"}, "USD", Money{7 * kFull}, true}};
    open();
    std::atomic<int> full{0}, refused{0}, other{0}, waiting{64};
    std::vector<std::thread> clients;
    for (int i = 0; i < 64; ++i) {
      clients.emplace_back([&] {
        const auto who = member();
        --waiting;
        while (waiting.load() > 0) std::this_thread::yield();
        auto entrance = admission->enter(who);
        auto hold = admission->admit(who, *entrance, ask(10, 20), {});
        if (!hold) {
          ++(hold.error().code == Errc::insufficient_quota && hold.error().retry_after_ms < 0 ? refused : other);
          return;
        }
        ++(!hold->chunked() && hold->settle(used(10, 20), "length", {})->total.nano == kFull ? full : other);
      });
    }
    for (auto& client : clients) client.join();
    ASSERT_EQ(full.load(), 7);
    ASSERT_EQ(refused.load(), 57);
    ASSERT_EQ(other.load(), 0);
    ASSERT_EQ(standing().balance->nano, 0);
    ASSERT_EQ(standing().held.nano, 0);
  }
}

TEST_F(AdmissionBudget, ASmallBalanceIsSpentInChunksDownToTheLastToken) {
  // The prompt and 150 tokens of the 1000 asked for.
  ledger.balance_rows = {{OrganizationId{"acme"}, "USD", Money{10 * kInput + 150 * kOutput + 399}, true}};
  open();
  const Ask request = ask(10, 1000);
  auto admitted = admit(request);
  ASSERT_TRUE(admitted);
  EXPECT_TRUE(admitted->hold.chunked());
  EXPECT_EQ(admitted->hold.granted_output(), 64);
  EXPECT_EQ(admitted->hold.take_ticket().output_tokens(), 64);
  EXPECT_EQ(*admitted->hold.extend(), 128);
  EXPECT_EQ(*admitted->hold.extend(), 150);
  const auto refused = admitted->hold.extend();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::insufficient_quota);
  EXPECT_EQ(admitted->hold.granted_output(), 150);
  ASSERT_TRUE(admitted->hold.settle(used(10, 150), "length", {}));
  EXPECT_EQ(standing().balance->nano, 399);

  const auto records = ledger.records_of(request.request);
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[0].amount.nano, 10 * kInput + 64 * kOutput);
  EXPECT_EQ(records[1].type, EntryType::extend);
  EXPECT_EQ(records[1].amount.nano, 64 * kOutput);
  EXPECT_EQ(records[1].usage, used(0, 64));
  EXPECT_EQ(records[2].amount.nano, 22 * kOutput);
  EXPECT_EQ(records[3].amount.nano, 10 * kInput + 150 * kOutput);
}

TEST_F(AdmissionBudget, AChunkIsOnlyForWhoeverIsAloneOnTheBudget) {
  budget(10 * kInput + 100 * kOutput);
  open();
  auto first = admit(ask(10, 20));
  ASSERT_TRUE(first);
  EXPECT_FALSE(admit(ask(10, 200))) << "the balance does not cover it and another hold is open";
  EXPECT_EQ(last_error.code, Errc::insufficient_quota);
  EXPECT_NE(last_error.message.find("organization acme"), std::string::npos) << last_error.message;
  ASSERT_TRUE(first->hold.settle(used(10, 0), "stop", {}));
  auto second = admit(ask(10, 200));
  ASSERT_TRUE(second);
  EXPECT_TRUE(second->hold.chunked());
  EXPECT_TRUE(admit(ask(0, 5))) << "what is left is still there for those it covers";
}

TEST_F(AdmissionBudget, ABalanceThatDoesNotCoverThePromptAndATokenIsAnExhaustedQuota) {
  budget(10 * kInput + kOutput - 1);
  open();
  EXPECT_FALSE(admit(ask(10, 200)));
  EXPECT_EQ(last_error.code, Errc::insufficient_quota);
  EXPECT_EQ(last_error.retry_after_ms, -1);
  EXPECT_TRUE(admit(ask(9, 1)));
  EXPECT_EQ(standing().running, 0);
}

TEST_F(AdmissionBudget, ChoicesShareTheChunk) {
  budget(10 * kInput + 100 * kOutput);
  open();
  auto admitted = admit(ask(10, 300, 3));
  ASSERT_TRUE(admitted);
  EXPECT_EQ(admitted->hold.granted_output(), 33);
  EXPECT_FALSE(admitted->hold.extend());
  ASSERT_TRUE(admitted->hold.settle(used(10, 99), "length", {}));
  EXPECT_EQ(standing().budgets[0].spent.nano, 10 * kInput + 99 * kOutput);
}

TEST_F(AdmissionBudget, AnExtensionTheLedgerRefusesIsTakenBack) {
  budget(10 * kInput + 100 * kOutput);
  open();
  auto admitted = admit(ask(10, 1000));
  ledger.refuse_appends(1);
  const auto refused = admitted->hold.extend();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::ledger_unavailable);
  EXPECT_EQ(admitted->hold.granted_output(), 64);
  EXPECT_EQ(standing().held.nano, 10 * kInput + 64 * kOutput);
  EXPECT_EQ(*admitted->hold.extend(), 100);
}

TEST_F(AdmissionBudget, ATopUpServesAtOnceAndMakesAnOrganizationPrepaid) {
  open();
  EXPECT_FALSE(standing().balance);
  EXPECT_TRUE(admit(ask(10, 20))) << "without budget and balance: postpaid, no limit";
  ASSERT_TRUE(admission->adjust_balance("acme", Money{kFull}, true));
  auto admitted = admit(ask(10, 20));
  ASSERT_TRUE(admitted);
  EXPECT_FALSE(admit(ask(10, 20)));
  ASSERT_TRUE(admission->adjust_balance("acme", Money{kFull}, true));
  EXPECT_TRUE(admit(ask(10, 20)));
  EXPECT_FALSE(admission->adjust_balance("nobody", Money{1}, true));
  EXPECT_FALSE(admission->adjust_balance("acme", Money{INT64_MAX}, true));
}

TEST_F(AdmissionBudget, SpendingAndBalancesAreRecoveredFromTheLedger) {
  budget(1'000, config::BudgetSpec::Per::day);
  budget(5'000, config::BudgetSpec::Per::total);
  config::BudgetSpec local;
  local.amount = Money{100};
  local.per = config::BudgetSpec::Per::day;
  local.timezone = "Asia/Kolkata";                   // its day began at 18:30 UTC yesterday
  acme().projects[1].budgets = {local};
  const std::int64_t midnight = kNoon - 43'200, kolkata = midnight - 19'800;
  const auto spend = [&](std::int64_t at, std::int64_t nano) {
    ledger.spend_rows.push_back({OrganizationId{"acme"}, ProjectId{"acme/search"}, KeyId{"k"}, ModelId{"m"}, at / 3600 * 3600, Money{nano}, 1});
  };
  spend(kNoon - 3'600, 10);
  spend(kolkata, 30);                                // the whole hour: 20 of it before 18:30
  ledger.usage_rows.push_back({kolkata - 600, "acme", "acme/search", "m", "", "", "USD", 1, {}, Money{20}});
  ledger.usage_rows.push_back({kNoon - 100 * 86'400, "acme", "acme/search", "m", "", "", "USD", 1, {}, Money{4'000}});
  ledger.usage_rows.push_back({kNoon - 100 * 86'400, "gone", "gone/x", "m", "", "", "USD", 1, {}, Money{9'999}});
  ledger.balance_rows = {{OrganizationId{"acme"}, "USD", Money{777}, true}};
  open();
  const auto budgets = standing().budgets;
  ASSERT_EQ(budgets.size(), 3u);
  EXPECT_EQ(budgets[0].spent.nano, 10);
  EXPECT_EQ(budgets[1].spent.nano, 4'040);
  EXPECT_EQ(budgets[2].spent.nano, 20) << "10 at noon and 10 after midnight of Kolkata";
  EXPECT_EQ(budgets[2].project, "search");
  EXPECT_EQ(standing().balance->nano, 777);
}

TEST_F(AdmissionBudget, WhatTheLedgerCannotTellStopsTheStartNotTheBooks) {
  ledger.refuse_reads(true);
  const auto made = Admission::make(clock, ledger, {}, tenants, book());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Errc::io);
}

TEST_F(AdmissionBudget, AReloadWithAMistakeChangesNothingAndNamesThemAll) {
  budget(kFull);
  open();
  auto fresh = tenants;
  fresh.organizations[0].plan = "platinum";
  fresh.organizations.push_back(acme());
  fresh.organizations[1].name = "euro";
  fresh.organizations[1].currency = "EUR";
  fresh.organizations[1].budgets[0].amount = Money{-1};
  fresh.organizations[1].budgets[0].where = {"tenants.yaml", 99};
  const auto reloaded = admission->reload(fresh, book());
  ASSERT_FALSE(reloaded);
  EXPECT_EQ(reloaded.error().code, Errc::bad_config);
  for (const char* part : {"platinum", "EUR", "tenants.yaml:99", "tenants.yaml:7"}) {
    EXPECT_NE(reloaded.error().message.find(part), std::string::npos) << part << " in " << reloaded.error().message;
  }
  EXPECT_FALSE(admission->standing("euro"));
  EXPECT_TRUE(admit(ask(10, 20)));
  prices.currency = "EUR";
  EXPECT_FALSE(admission->reload(tenants, book())) << "books kept in USD cannot go on in EUR";
}

TEST_F(AdmissionBudget, TheLastStepOfAReloadComesWhenNothingElseRefusesAndBeforeAnythingChanges) {
  budget(kFull);
  open();
  auto fresh = tenants;
  fresh.organizations.push_back(acme());
  fresh.organizations[1].name = "beta";
  fresh.organizations[0].budgets[0].amount = Money{kFull - 1};
  int steps = 0;
  Result<> step;
  const auto last_step = [&] {
    ++steps;
    EXPECT_FALSE(admission->standing("beta"));
    EXPECT_EQ(admission->standing("acme")->budgets[0].spec.amount.nano, kFull);
    return step;
  };
  fresh.organizations[1].plan = "platinum";
  EXPECT_FALSE(admission->reload(fresh, book(), last_step));
  fresh.organizations[1].plan = fresh.organizations[0].plan;
  ledger.refuse_reads(true);
  EXPECT_FALSE(admission->reload(fresh, book(), last_step));
  ledger.refuse_reads(false);
  EXPECT_EQ(steps, 0) << "something else refused";
  step = error(Errc::io, "no");
  EXPECT_FALSE(admission->reload(fresh, book(), last_step));
  EXPECT_EQ(steps, 1);
  EXPECT_FALSE(admission->standing("beta"));
  EXPECT_EQ(admission->standing("acme")->budgets[0].spec.amount.nano, kFull);
  step = {};
  ASSERT_TRUE(admission->reload(fresh, book(), last_step));
  EXPECT_EQ(steps, 2);
  EXPECT_TRUE(admission->standing("beta"));
  EXPECT_EQ(admission->standing("acme")->budgets[0].spec.amount.nano, kFull - 1);
}

TEST_F(AdmissionBudget, ReloadBringsAndTakesOrganizationsWithTheirPast) {
  open();
  auto running = admit(ask(10, 20));
  auto fresh = tenants;
  fresh.organizations[0].name = "beta";
  fresh.organizations[0].budgets.push_back({Money{kFull}, config::BudgetSpec::Per::day, true, {}, "UTC", "", "", {}});
  ledger.spend_rows.push_back({OrganizationId{"beta"}, ProjectId{"beta/default"}, KeyId{"k"}, ModelId{"m"}, kNoon - 3'600, Money{1}, 1});
  ledger.refuse_reads(true);
  EXPECT_FALSE(admission->reload(fresh, book()));
  EXPECT_FALSE(admission->standing("beta"));
  ledger.refuse_reads(false);
  ASSERT_TRUE(admission->reload(fresh, book()));
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_EQ(last_error.code, Errc::insufficient_permissions);
  EXPECT_EQ(admission->totals().holds_open, 1) << "what runs goes on";
  ASSERT_TRUE(running->hold.settle(used(10, 20), "length", {}));
  EXPECT_EQ(admission->standing("beta")->budgets[0].spent.nano, 1);
  ASSERT_TRUE(admission->reload(tenants, book()));
  EXPECT_TRUE(admit(ask(1, 1)));
}

TEST_F(AdmissionBudget, ANewBudgetCountsWhatRunsAndWhatIsSpentAlready) {
  open();
  auto running = admit(ask(10, 20));
  ASSERT_TRUE(admit(ask(10, 20))->hold.settle(used(10, 20), "length", {}));
  budget(3 * kFull);
  ASSERT_TRUE(admission->reload(tenants, book()));
  EXPECT_EQ(standing().budgets[0].spent.nano, kFull);
  EXPECT_EQ(standing().budgets[0].held.nano, kFull);
  EXPECT_FALSE(admit(ask(10, 21))) << "a third of the budget is left";
  EXPECT_TRUE(admit(ask(10, 20)));
}

}  // namespace
}  // namespace tokenworks::gateway
