// A ledger of file version 1, written here as the program of that time wrote it, becomes today's: with its entries
// untouched, its credits derived, and whatever the moment at which the migration is killed.
#include <gtest/gtest.h>

#include "fixture.hpp"
#include "ledger/account_table.hpp"
#include "ledger/schema.hpp"
#include "support/paths.hpp"

namespace tokenworks::ledger::test {
namespace {

// Series 1 is the organization's own, 2 its money, 3 its requests; context = series.
class OldLedger {
 public:
  explicit OldLedger(const std::string& path, const std::string& vfs)
      : store_(std::move(Connection::open(path, vfs, Access::create).value())), accounts_(store_), rollups_(store_) {
    run("PRAGMA synchronous = EXTRA; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    EXPECT_TRUE(migrate(store_, migrations().first(1), kNoon, "old"));
    run("BEGIN");
    run("INSERT INTO series VALUES (1, 'acme', '', '', '', '', 'USD'), (2, 'acme', '', '', '', 'standard', 'USD'),"
        " (3, 'acme', 'acme/search', 'k1234567', 'smollm2-135m-instruct', 'standard', 'USD')");
    const Digest first = genesis(1, "w-old", "", 0, {});
    auto writer = store_.prepare("INSERT INTO writers VALUES (1, 'w-old', 5, 'old', ?1)");
    writer->bind(1, first);
    EXPECT_TRUE(writer->run());
    head_ = first;
    contexts(money(request(1), EntryType::topup, 1), 2);
    contexts(hold(request(1), 1), 3);
    for (int id = 3; id <= 4; ++id) append(money(request(5 - id), EntryType::topup, 100 * id));   // the later id first
    for (int id = 10; id < 60; ++id) {
      const Record open = hold(request(id), 50);
      append(open);
      if (id % 5 != 0) append(settle(open, id % 7, 1), 50);
    }
    append(money(request(5), EntryType::adjust, -20));
    for (std::size_t part = 0; part < kParts; ++part) {
      EXPECT_TRUE(accounts_.flush(part));
      EXPECT_TRUE(rollups_.flush(part, 0));
    }
    const std::int64_t rolled = entry_id(1, seq_);
    for (int id = 60; id < 65; ++id) append(hold(request(id), 5));   // behind the rollups
    run("INSERT INTO price_books VALUES ('c0ffee', '2026-11-01', 'prices', 17)");
    run("UPDATE state SET writer = 1, commits = 7, rolled_through = " + std::to_string(rolled));
    run("COMMIT");
  }
  std::int64_t entries() const { return seq_; }

 private:
  void run(const std::string& sql) {
    const auto done = store_.run(sql.c_str());
    ASSERT_TRUE(done) << done.error().message;
  }
  void contexts(Record r, std::int64_t series) {
    r.price_hash.clear();
    std::string bytes;
    append_context(bytes, r);
    auto insert = store_.prepare("INSERT INTO contexts VALUES (?1, ?2, ?1, ?3, ?4, ?5, ?6, '', ?7, ?8, ?9, ?10)");
    ASSERT_TRUE(insert) << insert.error().message;
    const Digest digest = sha256(bytes);
    insert->bind(1, series).bind(2, digest).bind(3, r.actor).bind(4, r.model_digest).bind(5, r.tokenizer_digest);
    insert->bind(6, r.price_version).bind(7, r.build_id).bind(8, r.region).bind(9, r.jurisdiction).bind(10, r.data_class);
    ASSERT_TRUE(insert->run());
    context_bytes_[series] = bytes;
  }
  void append(Record r, std::int64_t held = 0) {
    r.price_hash.clear();
    const std::int64_t context = r.type == EntryType::topup || r.type == EntryType::adjust ? 2 : 3;
    const std::int64_t series = context, id = entry_id(1, ++seq_);
    const std::string text = lines_text(r.lines);
    EntryView view;
    view.schema_version = 1;
    view.type = r.type;
    view.time = r.unix_ns;
    view.request = r.request.bytes;
    view.usage = r.usage;
    view.amount = r.amount.nano;
    view.held = held;
    view.lines = text;
    view.finish_reason = r.finish_reason;
    std::string bytes;
    append_entry(bytes, "w-old", seq_, view, context_bytes_[context]);
    head_ = ChainHasher()(head_, bytes);
    auto insert = store_.prepare(
        "INSERT INTO entries VALUES (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, NULL, NULL, NULL, ?14)");
    insert->bind(1, id).bind(2, static_cast<std::int64_t>(r.type)).bind(3, r.unix_ns).bind(4, r.request.bytes);
    insert->bind(5, context).bind(6, r.usage.input).bind(7, r.usage.cached_input).bind(8, r.usage.output);
    insert->bind(9, r.usage.reasoning).bind(10, r.amount.nano).bind(11, held).bind(12, text);
    insert->bind(13, r.finish_reason).bind(14, head_);
    ASSERT_TRUE(insert->run());
    if (r.type == EntryType::hold) {
      auto open = store_.prepare("INSERT INTO open_holds VALUES (?1, ?2, ?3)");
      open->bind(1, r.request.bytes).bind(2, id).bind(3, r.amount.nano);
      ASSERT_TRUE(open->run());
    } else if (r.type == EntryType::settle) {
      auto close = store_.prepare("DELETE FROM open_holds WHERE request = ?1");
      close->bind(1, r.request.bytes);
      ASSERT_TRUE(close->run());
      rollups_.add(r.unix_ns, series, r.usage, r.amount.nano, 0);
    }
    std::vector<Line> lines;
    ASSERT_TRUE(parse_lines(text, lines));
    for_each_posting(r.type, r.amount.nano, held, lines, [&](Account account, std::string_view c, std::int64_t d,
                                                             std::int64_t e) {
      accounts_.add(**accounts_.at(account == Account::revenue ? series : 1, account, c), d, e);
    });
  }

  Connection store_;
  AccountTable accounts_;
  RollupTable rollups_;
  std::map<std::int64_t, std::string> context_bytes_;
  Digest head_{};
  std::int64_t seq_ = 0;
};

// What the old books say, whatever happened on the way: 300 + 400 paid, 20 taken back, the settles.
void expect_right(Plant& plant, std::int64_t old_entries) {
  std::int64_t spent = 20;
  for (int id = 10; id < 60; ++id) spent += id % 5 != 0 ? id % 7 + 1 : 0;
  EXPECT_EQ(plant.ledger->balances()->at(0).balance, Money{700 - spent});
  const auto credits = plant.ledger->credits({"acme"});
  ASSERT_TRUE(credits) << credits.error().message;
  ASSERT_EQ(credits->size(), 2u);
  EXPECT_EQ(credits->at(0).operation, request(1));   // ties by id, not by when they were booked
  EXPECT_EQ(credits->at(0).amount, Money{400});
  EXPECT_EQ(credits->at(0).remaining, Money{400 - spent});
  EXPECT_EQ(credits->at(1).remaining, Money{300});
  const auto entries = plant.ledger->entries_of(request(11));
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ(entries->at(1).schema_version, 1);
  EXPECT_EQ(entries->at(1).expires_unix_ns, 0);
  EXPECT_EQ(plant.ledger->entries_of(request(10))->back().finish_reason, "crash");   // was open
  EXPECT_EQ(plant.ledger->entries_of(request(10))->back().schema_version, kSchemaVersion);
  const auto report = plant.ledger->verify();
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
  EXPECT_EQ(report->entries, old_entries + 15);      // the fifteen that were open, released
  EXPECT_EQ(report->open_holds, 0);
  const auto prices = plant.ledger->price_history();
  ASSERT_TRUE(prices) << prices.error().message;
  ASSERT_EQ(prices->size(), 1u);
  EXPECT_EQ(prices->front().applied_unix_ns, 17);
  EXPECT_EQ(prices->front().from_unix_ns, INT64_MIN);
  EXPECT_EQ(prices->front().book.text, "prices");
}

void kill_at_every(void (tokenworks::test::FaultVfs::*cut_at)(std::int64_t), int least) {
  int cuts = 0;
  for (std::int64_t n = 1;; ++n) {
    SCOPED_TRACE(n);
    Plant plant(static_cast<std::uint64_t>(n));
    const std::int64_t entries = OldLedger(plant.options.path, plant.options.vfs).entries();
    (plant.disk.*cut_at)(n);
    const std::string first = plant.open();
    const bool cut = plant.disk.dead();
    if (cut) {
      ++cuts;
      plant.ledger.reset();
      plant.disk.power_on();
      const auto store = Connection::open(plant.options.path, plant.options.vfs, Access::read_write);
      const auto version = store->value("PRAGMA user_version");
      ASSERT_TRUE(version) << version.error().message;
      ASSERT_TRUE(*version >= 1 && *version <= kStoreVersion) << *version;   // some of the steps
      ASSERT_EQ(*store->value("SELECT max(version) FROM schema_versions"), *version);
    } else {
      ASSERT_EQ(first, "");
      (plant.disk.*cut_at)(0);
    }
    ASSERT_EQ(plant.open(), "");
    expect_right(plant, entries);
    if (!cut || testing::Test::HasFailure()) break;
  }
  EXPECT_GE(cuts, least);
}

TEST(Migration, OfAStoredOldLedgerSurvivesAPowerCutAtEverySync) {
  kill_at_every(&tokenworks::test::FaultVfs::cut_at_sync, 3);
}

TEST(Migration, OfAStoredOldLedgerSurvivesAPowerCutAtEveryWrite) {
  kill_at_every(&tokenworks::test::FaultVfs::cut_at_write, 20);
}

TEST(Migration, OnAFullDiskLeavesTheOldLedgerAndIsFinishedWhenThereIsSpace) {
  Plant plant;
  const std::int64_t entries = OldLedger(plant.options.path, plant.options.vfs).entries();
  plant.disk.set_full(true);
  EXPECT_NE(plant.open(), "");
  plant.disk.set_full(false);
  ASSERT_EQ(plant.open(), "");
  expect_right(plant, entries);
}

}  // namespace
}  // namespace tokenworks::ledger::test
