// Pacing: a checkpoint is copied in slices that are synced by themselves, and accounts and rollups are never further behind than
// they may be.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "fixture.hpp"
#include "ledger/checkpointer.hpp"

namespace tokenworks::ledger::test {
namespace {

// Syncs of a checkpoint of some 200 pages, by the thread beside.
std::int64_t syncs_of_copying(int slice) {
  Plant plant;
  EXPECT_EQ(plant.open(), "");
  plant.ledger.reset();                              // a store, and an empty log
  auto writer = Connection::open(plant.options.path, plant.options.vfs, Access::read_write);
  EXPECT_TRUE(writer && writer->run("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL"));
  CheckpointPace pace;
  pace.pages = 1;
  pace.slice = slice;
  pace.rest = 1;
  auto checkpointer = Checkpointer::open(plant.options.path, plant.options.vfs, pace);
  EXPECT_TRUE(checkpointer);
  EXPECT_TRUE(writer->run("CREATE TABLE filler(x BLOB); INSERT INTO filler VALUES (zeroblob(200 * 4096))"));
  const std::int64_t before = plant.disk.syncs();
  (*checkpointer)->after_commit(*writer, 1);
  // The last sync is that of the database, after the last page.
  const auto copied = [&] { return plant.disk.contents(plant.options.path).size() > 200 * 4096u; };
  const std::int64_t least = slice > 0 ? 200 / slice + 2 : 2;
  for (int i = 0; i < 60'000 && !(copied() && plant.disk.syncs() - before >= least); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(copied());
  checkpointer->reset();                             // its thread is over
  const std::int64_t syncs = plant.disk.syncs() - before;
  EXPECT_EQ(*writer->value("SELECT length(x) FROM filler"), 200 * 4096);
  return syncs;
}

TEST(Checkpoint, PagesAreCopiedInSlicesThatAreSyncedByThemselves) {
  EXPECT_EQ(syncs_of_copying(0), 2);                 // the log, then the database
  EXPECT_GE(syncs_of_copying(10), 2 + 200 / 10);
  EXPECT_LE(syncs_of_copying(10), 2 + 250 / 10);
}

// A reader keeps the first copy from reaching the log's end, so SQLite does not sync it, but counts its pages as copied. Then a
// sync of the database fails, which drops all that was not synced, those pages among them.
TEST(Checkpoint, AFailedSyncLosesNoPageThatAnEarlierCopyCountedAsDone) {
  for (const bool background : {false, true}) {
    SCOPED_TRACE(background ? "by the thread beside" : "by the writer's thread");
    Plant plant;
    ASSERT_EQ(plant.open(), "");
    plant.ledger.reset();
    const auto connect = [&](Access access) { return std::move(*Connection::open(plant.options.path, plant.options.vfs, access)); };
    {
      const Connection writer = connect(Access::read_write), reader = connect(Access::read_only);
      ASSERT_TRUE(writer.run("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL; CREATE TABLE filler(x BLOB)"));
      CheckpointPace pace;
      pace.pages = 1;
      pace.slice = 7;
      pace.rest = 0;
      pace.background = background;
      auto checkpointer = Checkpointer::open(plant.options.path, plant.options.vfs, pace);
      ASSERT_TRUE(checkpointer);
      int length = 1;
      const auto copy = [&] {                        // a pass of the thread beside, or of this one
        (*checkpointer)->after_commit(writer, length);
        length += background ? 0 : pace.pages;
        while (background && (*checkpointer)->copying()) std::this_thread::yield();
      };
      ASSERT_TRUE(writer.run("INSERT INTO filler VALUES (zeroblob(200 * 4096))"));
      ASSERT_TRUE(reader.run("BEGIN; SELECT count(*) FROM filler"));
      ASSERT_TRUE(writer.run("INSERT INTO filler VALUES (zeroblob(100 * 4096))"));
      copy();
      ASSERT_TRUE(reader.run("COMMIT"));
      plant.disk.fail_database_syncs(1);
      for (int i = 0; i < 4; ++i) copy();
      plant.disk.fail_database_syncs(0);
      ASSERT_TRUE(writer.run("INSERT INTO filler VALUES ('the log begins again')"));
      plant.disk.cut_now();
    }
    plant.disk.power_on();
    const Connection again = connect(Access::read_write);
    auto check = again.prepare("PRAGMA integrity_check");
    ASSERT_TRUE(check) << check.error().message;
    ASSERT_TRUE(check->step());
    EXPECT_EQ(check->text(0), "ok");
    EXPECT_EQ(*again.value("SELECT count(*) FROM filler WHERE length(x) > 4096"), 2);
  }
}

// Entries that the stored accounts and rollups of the part that is furthest behind do not include.
std::int64_t behind(const Plant& plant) {
  const auto store = Connection::open(plant.options.path, plant.options.vfs, Access::read_only);
  if (!store) return -1;
  const auto entries = store->value("SELECT max(id) - (SELECT rolled_through FROM state) FROM entries");
  return entries ? *entries : -1;
}

TEST(Rollups, AreWrittenOnceTheyAreManyEntriesBehindHoweverYoungTheyAre) {
  for (const std::int64_t bound : {40ll, 1'000'000ll}) {
    SCOPED_TRACE(bound);
    Plant plant;                                     // its clock stands still
    plant.tuning.rollups = {.rows = 1, .every_ns = std::int64_t{1} << 60, .behind = bound};
    ASSERT_EQ(plant.open(), "");
    std::int64_t most = 0;
    for (int i = 1; i <= 150; ++i) {
      const Record open = hold(request(i), 1000, "org" + std::to_string(i % 40));   // some six parts
      ASSERT_TRUE(book(*plant.ledger, open));
      ASSERT_TRUE(book(*plant.ledger, settle(open, 3, 4)));
      most = std::max(most, behind(plant));
    }
    if (bound == 40) {
      EXPECT_LE(most, 40 + 20) << "a part may wait for its turn, a few commits";
    } else {
      EXPECT_GE(most, 290) << "nothing else writes them here: the bound above is what did";
    }
    std::int64_t requests = 0;
    for (const UsageRow& row : *plant.ledger->usage({})) requests += row.requests;
    EXPECT_EQ(requests, 150);                        // a query adds what is not written
    EXPECT_TRUE(plant.ledger->verify()->ok);
  }
}

}  // namespace
}  // namespace tokenworks::ledger::test
