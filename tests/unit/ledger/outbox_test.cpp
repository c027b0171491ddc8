// The outbox: an event is there exactly when its entry is, once per receiver however often it is told, and what was delivered
// stays delivered.
#include <gtest/gtest.h>

#include "fixture.hpp"

namespace tokenworks::ledger::test {
namespace {

OutboxEvent event(const std::string& id, const std::string& receiver = "finance", const std::string& body = "{}") {
  return {id, receiver, "budget.threshold", body, kNoon};
}
Record settled_with(const Record& open, std::vector<OutboxEvent> events) {
  Record r = settle(open, 3, 4);
  r.events = std::move(events);
  return r;
}
std::string due(Plant& plant, const std::string& receiver = "finance", std::int64_t now = kNoon) {
  const auto rows = plant.ledger->deliveries_due(receiver, now, 100);
  EXPECT_TRUE(rows) << rows.error().message;
  std::string ids;
  for (const Delivery& d : *rows) ids += d.id + " ";
  return ids;
}

TEST(Outbox, AnEventIsCommittedWithItsEntryAndNotWithARefusedOne) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 50);
  ASSERT_TRUE(book(*plant.ledger, open));
  Record too_much = settled_with(open, {event("refused")});
  too_much.amount = Money{51};
  too_much.lines = {{"input", Money{51}}};
  EXPECT_FALSE(book(*plant.ledger, too_much));
  EXPECT_EQ(due(plant), "");
  ASSERT_TRUE(book(*plant.ledger, settled_with(open, {event("a"), event("a", "ops"), event("b", "ops", "{\"x\":1}")})));
  plant.kill_and_restart_disk();                     // acknowledged: both survive
  ASSERT_EQ(plant.open(), "");
  EXPECT_EQ(plant.ledger->entries_of(request(1))->size(), 2u);
  EXPECT_EQ(due(plant), "a ");
  EXPECT_EQ(due(plant, "ops"), "a b ");
  EXPECT_EQ(plant.ledger->deliveries_due("ops", kNoon, 100)->at(1).body, "{\"x\":1}");
  EXPECT_EQ(due(plant, "finance", kNoon - 1), "");
  EXPECT_EQ(*plant.ledger->deliveries_pending("ops"), 2);
  EXPECT_TRUE(plant.ledger->verify()->ok) << "events are no part of the chain";
}

// Wherever the power goes, the entry and its event are there together or neither is.
TEST(Outbox, APowerCutAtAnySyncOrWriteLeavesEntryAndEventTogether) {
  for (const auto cut : {&tokenworks::test::FaultVfs::cut_at_sync, &tokenworks::test::FaultVfs::cut_at_write}) {
    int cuts = 0;
    for (std::int64_t n = 1; n < 200; ++n) {
      SCOPED_TRACE(n);
      Plant plant(static_cast<std::uint64_t>(n));
      ASSERT_EQ(plant.open(), "");
      const Record open = hold(request(1), 50);
      ASSERT_TRUE(book(*plant.ledger, open));
      (plant.disk.*cut)(n);
      (void)plant.ledger->append(settled_with(open, {event("a")}), {});
      plant.ledger.reset();
      const bool was_cut = plant.disk.dead();
      plant.disk.power_on();
      (plant.disk.*cut)(0);
      ASSERT_EQ(plant.open(), "");
      const bool settled = plant.ledger->entries_of(request(1))->back().finish_reason == "stop";
      EXPECT_EQ(due(plant), settled ? "a " : "");
      if (!was_cut) break;
      ++cuts;
    }
    EXPECT_GE(cuts, 2);
  }
}

TEST(Outbox, ARepeatChangesNothingAlsoAfterItsDelivery) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const auto put = [&](std::vector<OutboxEvent> events) {
    ASSERT_TRUE(plant.ledger->put_events(std::move(events)));
    ASSERT_TRUE(plant.ledger->audit({kNoon, "local", "test", "", "", ""}));   // waits for a later commit
  };
  put({event("a", "finance", "first"), event("a", "finance", "second")});
  put({event("a", "finance", "third")});
  auto rows = *plant.ledger->deliveries_due("finance", kNoon, 100);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].body, "first");
  ASSERT_TRUE(plant.ledger->delivery_tried({rows[0].number, DeliveryOutcome::State::due, 1, kNoon + 500, "answered 500"}));
  EXPECT_EQ(due(plant, "finance", kNoon + 499), "");
  rows = *plant.ledger->deliveries_due("finance", kNoon + 500, 100);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].attempts, 1);
  ASSERT_TRUE(plant.ledger->delivery_tried({rows[0].number, DeliveryOutcome::State::taken, 2, kNoon + 600, ""}));
  put({event("a", "finance", "fourth")});
  ASSERT_EQ(plant.open(), "");
  put({event("a", "finance", "fifth")});
  EXPECT_EQ(due(plant, "finance", INT64_MAX), "");
  EXPECT_EQ(*plant.ledger->deliveries_pending("finance"), 0);
}

}  // namespace
}  // namespace tokenworks::ledger::test
