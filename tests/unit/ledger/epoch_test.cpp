// Opening: epochs that commit to the past, damage that is found, migrations that can be killed, files that are not
// ours.
#include <gtest/gtest.h>

#include <chrono>
#include <set>

#include "fixture.hpp"
#include "ledger/schema.hpp"

namespace tokenworks::ledger::test {
namespace {

void damage(Plant& plant, const char* sql) {
  plant.ledger.reset();
  const auto store = Connection::open(plant.options.path, plant.options.vfs, Access::read_write);
  ASSERT_TRUE(store);
  const auto done = store->run(sql);
  ASSERT_TRUE(done) << done.error().message;
}

TEST(Epoch, EveryOpeningBeginsAChainThatCommitsToTheOneBefore) {
  Plant plant;
  std::set<std::string> heads, writers;
  std::int64_t entries = 0;
  for (int i = 1; i <= 4; ++i) {
    ASSERT_EQ(plant.open(), "");
    EXPECT_EQ(plant.ledger->recovery().entries, entries);
    if (i != 3) {                                    // the third epoch writes nothing
      ASSERT_TRUE(book(*plant.ledger, money(request(i), EntryType::topup, i)));
      EXPECT_EQ(plant.ledger->entries_of(request(i))->front().seq, 1);
      ++entries;
    }
    const auto report = plant.ledger->verify();
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
    heads.insert(report->head);
    writers.insert(plant.ledger->recovery().writer_id);
  }
  EXPECT_EQ(heads.size(), 4u);
  EXPECT_EQ(writers.size(), 4u);
}

TEST(Epoch, ADamagedTailIsFoundAtTheNextOpening) {
  const char* const damages[] = {
      "UPDATE entries SET amount = amount + 1 WHERE id = (SELECT max(id) FROM entries)",
      "UPDATE entries SET finish_reason = 'length' WHERE id = (SELECT max(id) FROM entries) - 1",
      "DELETE FROM entries WHERE id = (SELECT max(id) FROM entries)",
      "UPDATE contexts SET actor = 'user:mallory'"};
  for (const char* sql : damages) {
    SCOPED_TRACE(sql);
    Plant plant;
    ASSERT_EQ(plant.open(), "");
    for (int i = 1; i <= 5; ++i) ASSERT_TRUE(book(*plant.ledger, money(request(i), EntryType::topup, i)));
    damage(plant, sql);
    const std::string message = plant.open();
    EXPECT_NE(message, "");
    EXPECT_NE(message.find("/ledger.sqlite"), std::string::npos) << message;
  }
}

TEST(Epoch, ADamagedProgressJournalIsFoundAtTheNextOpening) {
  Plant plant;
  plant.options.progress = ProgressMode::step;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, hold(request(1), 100)));
  std::promise<Result<>> told;
  plant.ledger->progress({request(1), {1, 0, 1, 0}, {5}, {{"output", {5}}}},
                         [&](const Result<>& r) { told.set_value(r); });
  ASSERT_TRUE(told.get_future().get());
  damage(plant, "UPDATE progress SET data = CAST(substr(data, 1, 30) || x'ff' || substr(data, 32) AS BLOB)");
  EXPECT_NE(plant.open().find("progress journal is damaged"), std::string::npos);
}

TEST(Schema, ANewerFileIsRefused) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  damage(plant, "PRAGMA user_version = 99");
  EXPECT_NE(plant.open().find("schema version 99"), std::string::npos);
}

TEST(Schema, AnotherProgramsFileIsRefused) {
  Plant plant;
  const auto store = Connection::open(plant.options.path, plant.options.vfs, Access::create);
  ASSERT_TRUE(store);
  ASSERT_TRUE(store->run("CREATE TABLE theirs(x)"));
  EXPECT_NE(plant.open().find("another program"), std::string::npos);
  EXPECT_EQ(*store->value("SELECT count(*) FROM sqlite_schema"), 1);
}

// Three steps, a power cut at every sync: the file is always at a whole version, and a second try finishes.
TEST(Schema, AMigrationCutAnywhereIsFinishedByTheNextOpening) {
  constexpr Migration kSteps[] = {{1, "CREATE TABLE a(x INTEGER) STRICT; INSERT INTO a VALUES (1), (2)"},
                                  {2, "CREATE TABLE b(x INTEGER) STRICT; INSERT INTO b SELECT x * 10 FROM a"},
                                  {3, "DROP TABLE a; ALTER TABLE b RENAME TO c; INSERT INTO c VALUES (7)"}};
  int cuts = 0;
  for (std::int64_t sync = 1;; ++sync) {
    SCOPED_TRACE(sync);
    tokenworks::test::FaultVfs disk(static_cast<std::uint64_t>(sync));
    const auto attempt = [&]() -> Result<> {
      auto store = Connection::open("/m.sqlite", disk.name(), Access::create);
      if (!store) return store.error();
      if (auto done = store->run("PRAGMA synchronous = EXTRA; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
          !done)
        return done;
      return migrate(*store, kSteps, kNoon, "test");
    };
    disk.cut_at_sync(sync);
    const Result<> first = attempt();
    const bool cut = disk.dead();
    EXPECT_TRUE(cut || first);
    disk.power_on();
    {
      const auto store = Connection::open("/m.sqlite", disk.name(), Access::create);
      const auto version = store->value("PRAGMA user_version");
      ASSERT_TRUE(version);
      EXPECT_EQ(*store->value("SELECT count(*) FROM sqlite_schema WHERE name IN ('a', 'b', 'c')"),
                *version == 3 ? 1 : *version);
      if (*version > 0) { EXPECT_EQ(*store->value("SELECT max(version) FROM schema_versions"), *version); }
    }
    ASSERT_TRUE(attempt());
    const auto store = Connection::open("/m.sqlite", disk.name(), Access::read_only);
    EXPECT_EQ(*store->value("SELECT sum(x) FROM c"), 37);
    EXPECT_EQ(*store->value("SELECT count(*) FROM schema_versions"), 3);
    if (!cut) break;
    ++cuts;
  }
  EXPECT_GE(cuts, 6);
}

TEST(Checkpoint, TheLogBeginsAgainWhileTheLedgerIsBusy) {
  for (const bool background : {false, true}) {
    SCOPED_TRACE(background);
    Plant plant;
    plant.tuning.checkpoints.background = background;
    plant.tuning.checkpoints.pages = 100;
    ASSERT_EQ(plant.open(), "");
    // How often the log began again: the checkpoint sequence number in its header. The thread beside gets a processor when the
    // machine has one for it, so the commits go on until it had.
    const auto begun_again = [&] {
      const std::string log = plant.disk.contents("/ledger.sqlite-wal");
      std::uint32_t number = 0;
      for (std::size_t at = 12; at < 16 && log.size() >= 16; ++at) number = number << 8 | static_cast<std::uint8_t>(log[at]);
      return number;
    };
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    const std::uint32_t first = begun_again();
    int i = 0;
    for (; i % 100 != 0 || i < 600 || (begun_again() < first + 2 && std::chrono::steady_clock::now() < until); ++i) {
      ASSERT_TRUE(book(*plant.ledger, money(request(1 + i), EntryType::topup, 1)));
    }
    EXPECT_GE(begun_again(), first + 2) << "after " << i << " commits";
    if (!background) { EXPECT_LT(plant.disk.contents("/ledger.sqlite-wal").size(), 1500u * 4120u); }   // 600 commits write some 3,000 pages
    EXPECT_GT(plant.disk.contents("/ledger.sqlite").size(), 4096u * 10);
    EXPECT_TRUE(plant.ledger->verify()->ok);
  }
}

}  // namespace
}  // namespace tokenworks::ledger::test
