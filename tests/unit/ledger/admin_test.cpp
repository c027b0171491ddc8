// The rows beside the books: keys, audit, price books, idempotency, annotations.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "fixture.hpp"
#include "support/paths.hpp"

namespace tokenworks::ledger::test {
namespace {

AuditEvent event(const std::string& action, const std::string& object) {
  return {kNoon, "user:anna", action, object, "", std::string(64, 'e')};
}

KeyRow key(const std::string& id) {
  KeyRow row;
  row.id.value = id;
  row.secret_hash = sha256(id);
  row.organization.value = "acme";
  row.project.value = "acme/search";
  row.principal = "service:default";
  row.created_unix_ns = kNoon;
  return row;
}

TEST(Admin, ATopUpIsBookedOnceWithItsAuditRow) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  Record top_up;
  top_up.type = EntryType::topup;
  top_up.unix_ns = kNoon;
  top_up.request = RequestId::make(1, {1, 2, 3});
  top_up.organization = OrganizationId{"acme"};
  top_up.actor = "user:anna";
  top_up.currency = "USD";
  top_up.amount = Money{5'000'000'000};
  top_up.expires_unix_ns = kNoon + 1'000;
  ASSERT_TRUE(plant.ledger->book(top_up, event("credit.add", "acme/invoice-1")));
  Record other = top_up;
  other.amount = Money{6};
  const auto refused = plant.ledger->book(other, event("credit.add", "acme/invoice-1"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::idempotency_mismatch);
  ASSERT_EQ(plant.open(), "");
  EXPECT_EQ(plant.ledger->audit_events(10)->size(), 1u) << "what was refused leaves no audit row";
  const auto credits = plant.ledger->credits(OrganizationId{"acme"});
  ASSERT_TRUE(credits);
  ASSERT_EQ(credits->size(), 1u);
  EXPECT_EQ(credits->front().remaining.nano, 5'000'000'000);
  EXPECT_EQ(credits->front().expires_unix_ns, kNoon + 1'000);
}

TEST(Admin, KeysComeBackWholeAndEachMutationLeavesItsAuditRow) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  KeyRow key;
  key.id.value = "abcd1234";
  key.secret_hash = sha256(std::string_view("sk-tw-abcd1234-secret"));
  key.organization.value = "acme";
  key.project.value = "acme/search";
  key.role = "billing";
  key.principal = "agent:crawler";
  key.models = {"a", "b"};
  key.created_unix_ns = kNoon;
  key.expires_unix_ns = kNoon + 5;
  key.rotated_from = "zzzz0000";
  key.limits = R"({"requests_per_minute":5})";
  ASSERT_TRUE(plant.ledger->put_key(key, event("key.create", "abcd1234")));
  key.revoked_unix_ns = kNoon + 1;
  key.models.clear();
  ASSERT_TRUE(plant.ledger->put_key(key, event("key.revoke", "abcd1234")));
  ASSERT_EQ(plant.open(), "");
  const auto keys = plant.ledger->keys();
  ASSERT_TRUE(keys);
  ASSERT_EQ(keys->size(), 1u);
  const KeyRow& k = keys->front();
  EXPECT_EQ(k.id, key.id);
  EXPECT_EQ(k.secret_hash, key.secret_hash);
  EXPECT_EQ(k.organization, key.organization);
  EXPECT_EQ(k.project, key.project);
  EXPECT_EQ(k.role, "billing");
  EXPECT_EQ(k.principal, "agent:crawler");
  EXPECT_TRUE(k.models.empty());
  EXPECT_EQ(k.expires_unix_ns, kNoon + 5);
  EXPECT_EQ(k.revoked_unix_ns, kNoon + 1);
  EXPECT_EQ(k.rotated_from, "zzzz0000");
  EXPECT_EQ(k.limits, key.limits);
  const auto audit = plant.ledger->audit_events(10);
  ASSERT_TRUE(audit);
  ASSERT_EQ(audit->size(), 2u);
  EXPECT_EQ((*audit)[0].action, "key.revoke");
  EXPECT_EQ((*audit)[1].action, "key.create");
  EXPECT_EQ((*audit)[1].after_hash, std::string(64, 'e'));
}

TEST(Admin, SettingsAreReplacedRemovedAndListedByKindWithTheirAuditRows) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(plant.ledger->put_setting({"budget", {"acme"}, "b1", R"({"amount":"1.00"})"}, event("budget.set", "b1")));
  ASSERT_TRUE(plant.ledger->put_setting({"budget", {"acme"}, "b1", R"({"amount":"2.00"})"}, event("budget.set", "b1")));
  ASSERT_TRUE(plant.ledger->put_setting({"budget", {"globex"}, "b1", "{}"}, event("budget.set", "b1")));
  ASSERT_TRUE(plant.ledger->put_setting({"other", {"acme"}, "b1", "{}"}, event("other.set", "b1")));
  const auto removed = plant.ledger->remove_setting("budget", {"globex"}, "b1", event("budget.remove", "b1"));
  ASSERT_TRUE(removed);
  EXPECT_TRUE(*removed);
  const auto again = plant.ledger->remove_setting("budget", {"globex"}, "b1", event("budget.remove", "b1"));
  ASSERT_TRUE(again);
  EXPECT_FALSE(*again);
  ASSERT_EQ(plant.open(), "");
  const auto rows = plant.ledger->settings("budget");
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), 1u);
  EXPECT_EQ(rows->front().organization.value, "acme");
  EXPECT_EQ(rows->front().id, "b1");
  EXPECT_EQ(rows->front().json, R"({"amount":"2.00"})");
  EXPECT_EQ(plant.ledger->audit_events(10)->size(), 5u);   // the removal of nothing leaves none
}

TEST(Admin, PriceBooksAreKeptForEverAndEveryReloadLeavesItsAuditRow) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const auto row = [](const char* version, char hash, std::int64_t applied, std::int64_t from = INT64_MIN) {
    return PriceHistoryRow{applied, from, {version, std::string(64, hash), std::string("prices of ") + version, applied}};
  };
  const auto put = [&](std::vector<PriceHistoryRow> rows) { return plant.ledger->put_prices(rows, event("prices.load", "prices.yaml")); };
  ASSERT_TRUE(put({row("a", 'a', kNoon), row("b", 'b', kNoon, kNoon + 100)}));
  ASSERT_TRUE(put({row("a", 'a', kNoon + 5), row("b", 'b', kNoon + 5, kNoon + 100)}));   // as before: the audit row only
  ASSERT_TRUE(put({row("c", 'c', kNoon + 10)}));
  ASSERT_TRUE(put({row("a", 'a', kNoon + 3)}));       // back again, by a clock that was set back
  ASSERT_TRUE(plant.ledger->audit(event("config.reload", "tenants.yaml")));
  EXPECT_EQ(plant.ledger->audit_events(10)->size(), 5u);
  EXPECT_EQ(plant.ledger->audit_events(1)->size(), 1u);
  ASSERT_EQ(plant.open(), "");
  const auto rows = plant.ledger->price_history();
  ASSERT_TRUE(rows) << rows.error().message;
  std::string text;
  for (const PriceHistoryRow& r : *rows) text += r.book.version + "+" + std::to_string(r.applied_unix_ns - kNoon) + " ";
  EXPECT_EQ(text, "a+0 b+0 c+10 a+11 ");
  EXPECT_EQ((*rows)[1].from_unix_ns, kNoon + 100);
  EXPECT_EQ((*rows)[3].book.text, "prices of a");
}

TEST(Admin, IdempotencyRowsAreReplacedReadBackAndForgottenAfterTheirDay) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  IdempotencyRow row;
  row.organization.value = "acme";
  row.key = "order-1";
  row.body_hash = sha256(std::string_view("body"));
  row.request = request(1);
  row.created_unix_ns = kNoon;
  ASSERT_TRUE(plant.ledger->put_idempotency(row));
  row.finished = true;
  row.status = 200;
  row.body = std::string("{\"a\":\0}", 7);
  row.usage = {5, 1, 3, 0};
  row.cost = {77};
  std::promise<Result<>> told;
  ASSERT_TRUE(plant.ledger->queue_idempotency(row, [&](const Result<>& r) { told.set_value(r); }));
  ASSERT_TRUE(told.get_future().get());
  const auto rows = plant.ledger->idempotency(kNoon);
  ASSERT_TRUE(rows);
  ASSERT_EQ(rows->size(), 1u);
  EXPECT_TRUE(rows->front().finished);
  EXPECT_EQ(rows->front().status, 200);
  EXPECT_EQ(rows->front().body, row.body);
  EXPECT_EQ(rows->front().body_hash, row.body_hash);
  EXPECT_EQ(rows->front().request, request(1));
  EXPECT_EQ(rows->front().usage, row.usage);
  EXPECT_EQ(rows->front().cost, Money{77});
  EXPECT_TRUE(plant.ledger->idempotency(kNoon + 1)->empty());
  plant.clock.advance_ns(26 * kHourNs);
  ASSERT_TRUE(book(*plant.ledger, money(request(2), EntryType::topup, 1)));   // its commit flushes and removes
  EXPECT_TRUE(plant.ledger->idempotency(0)->empty());
}

TEST(Admin, ErasedAnnotationsAreGoneFromTheFileAndTheChainStillHolds) {
  const tokenworks::test::ScratchDir scratch;
  const SystemClock clock;
  LedgerOptions options;
  options.path = scratch.path() + "/ledger.sqlite";
  const auto bytes = [&] {
    std::ostringstream all;
    for (const char* suffix : {"", "-wal"}) all << std::ifstream(options.path + suffix, std::ios::binary).rdbuf();
    return all.str();
  };
  {
    const auto ledger = std::move(Ledger::open(options, clock).value());
    ASSERT_TRUE(book(*ledger, hold(request(1), 10)));
    ASSERT_TRUE(ledger->annotate({request(1), {"acme"}, {{"user", "anna-the-secret-name"}, {"team", "red"}}}));
    ASSERT_TRUE(ledger->annotate({request(2), {"globex"}, {{"user", "somebody-else"}}}));
    ASSERT_TRUE(book(*ledger, settle(hold(request(1), 10), 1, 2)));
    for (const char* suffix : {"", "-wal"}) {        // nobody else may read charges and key hashes
      EXPECT_EQ(std::filesystem::status(options.path + suffix).permissions(), std::filesystem::perms(0600)) << suffix;
    }
  }
  ASSERT_NE(bytes().find("anna-the-secret-name"), std::string::npos);
  {
    const auto ledger = std::move(Ledger::open(options, clock).value());
    ASSERT_TRUE(ledger->erase_annotations({"acme"}, event("annotations.erase", "acme")));
  }
  EXPECT_EQ(bytes().find("anna-the-secret-name"), std::string::npos);
  EXPECT_NE(bytes().find("somebody-else"), std::string::npos);
  const auto report = verify_file(options.path);
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
}

TEST(Admin, ACallOnADeadStoreComesBackWithAnError) {
  Plant plant;
  plant.tuning.admin_patience_ns = 20'000'000;
  ASSERT_EQ(plant.open(), "");
  plant.disk.cut_now();
  const Result<> done = plant.ledger->audit(event("config.reload", "x"));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Errc::ledger_unavailable);
}

// A caller that was told "in time or not at all" is told the truth: what was not begun never happens.
TEST(Admin, AChangeThatWasGivenUpBeforeItWasBegunNeverHappens) {
  Plant plant;
  plant.tuning.admin_patience_ns = 20'000'000;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, money(request(1), EntryType::topup, 1)));
  // The ledger thread is kept busy by the callback of a record until the caller has given up.
  std::promise<void> begun, go_on;
  ASSERT_TRUE(plant.ledger->append(money(request(2), EntryType::topup, 1), [&](const Result<>&) {
    begun.set_value();
    go_on.get_future().wait();
  }));
  begun.get_future().wait();
  const Result<> late = plant.ledger->put_key(key("k0000001"), event("key.create", "k0000001"));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::ledger_unavailable);
  EXPECT_NE(late.error().message.find("nothing was changed"), std::string::npos) << late.error().message;
  go_on.set_value();
  ASSERT_TRUE(book(*plant.ledger, money(request(3), EntryType::topup, 1)));
  EXPECT_TRUE(plant.ledger->keys()->empty());
  EXPECT_TRUE(plant.ledger->audit_events(10)->empty());
  EXPECT_FALSE(plant.ledger->late_changes());
}

// Committed, but so slowly that its caller had gone: whoever keeps rows in memory learns of it, once.
TEST(Admin, AChangeThatWasCommittedAfterItsCallerGaveUpIsTold) {
  Plant plant;
  plant.tuning.admin_patience_ns = 20'000'000;
  const SystemClock clock;                           // an observer hears of commits that took time
  const auto opened = Service::open(plant.options, plant.tuning, clock);
  ASSERT_TRUE(opened) << opened.error().message;
  Service& ledger = **opened;
  std::promise<void> go_on;
  const std::shared_future<void> goes_on = go_on.get_future().share();
  ledger.on_commit([goes_on](std::int64_t, std::int64_t) { goes_on.wait(); });
  const Result<> late = ledger.put_key(key("k0000001"), event("key.create", "k0000001"));
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().message.find("may still take effect"), std::string::npos) << late.error().message;
  EXPECT_FALSE(ledger.late_changes()) << "nobody knows yet";
  go_on.set_value();
  ASSERT_TRUE(book(ledger, money(request(1), EntryType::topup, 1)));
  EXPECT_EQ(ledger.keys()->size(), 1u);
  EXPECT_TRUE(ledger.late_changes());
  EXPECT_FALSE(ledger.late_changes()) << "told once";
}

// Whatever syncs fail while a caller waits: the row and its audit row are there together or not at all, and what came late is told.
TEST(Admin, AChangeUnderFailingSyncsIsThereWholeOrNotAtAll) {
  for (int failing = 1; failing <= 8; ++failing) {
    SCOPED_TRACE(failing);
    Plant plant(static_cast<std::uint64_t>(failing));
    plant.tuning.admin_patience_ns = 30'000'000;
    ASSERT_EQ(plant.open(), "");
    ASSERT_TRUE(book(*plant.ledger, money(request(1), EntryType::topup, 1)));
    plant.disk.fail_syncs(failing);
    const Result<> done = plant.ledger->put_key(key("k0000001"), event("key.create", "k0000001"));
    plant.disk.fail_syncs(0);
    plant.clock.advance_ns(10 * kSecondNs);          // the pause before the next attempt is over
    ASSERT_TRUE(book(*plant.ledger, money(request(2), EntryType::topup, 1)));
    const bool there = !plant.ledger->keys()->empty();
    EXPECT_EQ(plant.ledger->audit_events(10)->size(), there ? 1u : 0u);
    EXPECT_EQ(plant.ledger->late_changes(), there && !done);
    if (done) {
      EXPECT_TRUE(there);
    }
  }
}

TEST(Admin, TwoKeysChangeTogetherEachWithItsAuditRow) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(plant.ledger->put_keys(key("k0000001"), event("key.rotate", "k0000001"), key("k0000002"), event("key.grace", "k0000002")));
  EXPECT_EQ(plant.ledger->keys()->size(), 2u);
  EXPECT_EQ(plant.ledger->audit_events(10)->size(), 2u);
}

}  // namespace
}  // namespace tokenworks::ledger::test
