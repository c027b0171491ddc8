// Verification by two programs that share no code: ours, and tests/golden/verify_ledger.py, which was written from
// docs/ledger_format.md alone. On a sound file they agree in every word; on a damaged one both say so.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "checker.hpp"
#include "fixture.hpp"
#include "support/paths.hpp"

namespace tokenworks::ledger::test {
namespace {

namespace fs = std::filesystem;

// A few thousand entries of every type over several epochs, one of which was killed, with entries behind the rollups.
class Verify : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new tokenworks::test::ScratchDir;
    path_ = scratch_->path() + "/ledger.sqlite";
    std::mt19937_64 random(5);
    ManualClock clock(kNoon);
    int id = 0;
    for (int epoch = 0; epoch < 3; ++epoch) {
      LedgerOptions options;
      options.path = path_;
      options.progress = ProgressMode::step;
      auto ledger = std::move(Service::open(options, Tuning{}, clock).value());
      for (int i = 0; i < 600; ++i) {
        Record r = hold(request(++id), 1'000'000, "org" + std::to_string(random() % 4));
        r.unix_ns = clock.unix_ns();
        r.tier = static_cast<Tier>(random() % 3);
        r.currency = r.organization.value == "org3" ? "EUR" : "USD";
        r.actor = random() % 2 == 0 ? "agent:Zürich-🦊" : "service:default";
        if (random() % 3 == 0) r.tag_hashes = {tag_hash("secret", r.organization, "team", std::to_string(random() % 5))};
        if (random() % 4 == 0) r.token_commitment = "5f5f", r.receipt_id = "";
        (void)ledger->append(r, {});
        const auto what = random() % 8;
        if (what == 0) (void)ledger->append(ending(r, EntryType::extend, 500), {});
        if (what == 1) (void)ledger->append(ending(r, EntryType::release, 1'000'000), {});
        if (what == 2) (void)ledger->append(ending(r, EntryType::expire, 1'000'000), {});
        if (what >= 4)
          (void)ledger->append(
              settle(r, static_cast<std::int64_t>(random() % 400'000), static_cast<std::int64_t>(random() % 400'000)),
              {});
        if (what == 3) ledger->progress({r.request, {100, 0, 3, 0}, {5}, {{"output", {5}}}}, {});
        if (random() % 10 == 0) {
          Record m = money(request(++id), random() % 2 == 0 ? EntryType::topup : EntryType::adjust,
                           static_cast<std::int64_t>(random() % 9'000) - 3'000, r.organization.value);
          m.currency = r.currency;
          if (m.type == EntryType::topup && m.amount.nano > 0 && random() % 2 == 0)
            m.expires_unix_ns = m.unix_ns + 1 + static_cast<std::int64_t>(random() % 1'000'000'000'000);
          (void)ledger->append(m, {});
        }
        clock.advance_ns(static_cast<std::int64_t>(random() % 400'000'000'000));
      }
      ASSERT_TRUE(book(*ledger, money(request(++id), EntryType::topup, 1)));
      const Record last = hold(request(++id), 77);   // open until the next epoch
      ASSERT_TRUE(book(*ledger, last));
      ASSERT_GT(ledger->verify()->entries, 600);
    }
  }
  static void TearDownTestSuite() { delete scratch_; }

  using Answer = CheckerAnswer;
  static Answer python(const std::string& path) { return run_checker(path, scratch_->path()); }
  // A copy with `sql` done to it, as someone with a database shell would.
  static std::string damaged(const std::string& sql) {
    const std::string copy = scratch_->path() + "/copy.sqlite";
    for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(copy + suffix);
    EXPECT_TRUE(backup_file(path_, copy));
    const auto store = Connection::open(copy, "", Access::read_write);
    const auto done = store->run(sql.c_str());
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_GT(sqlite3_total_changes(store->raw()), 0) << "the damage did nothing";
    return copy;
  }

  static inline tokenworks::test::ScratchDir* scratch_ = nullptr;
  static inline std::string path_;
};

TEST_F(Verify, TheIndependentCheckerAgreesInEveryWord) {
  const auto report = verify_file(path_);
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_TRUE(report->ok) << report->first_bad.value_or("");
  EXPECT_GT(report->entries, 3000);
  EXPECT_GT(report->open_holds, 10);
  EXPECT_EQ(report->debits, report->credits);
  const Answer answer = python(path_);
  EXPECT_EQ(answer.code, 0) << answer.text;
  std::ostringstream expected;
  expected << "{\"ok\": true, \"entries\": " << report->entries << ", \"open_holds\": " << report->open_holds
           << ", \"debits\": \"" << report->debits << "\", \"credits\": \"" << report->credits << "\", \"head\": \""
           << report->head << "\", \"first_bad\": null}\n";
  EXPECT_EQ(answer.text, expected.str());
}

TEST_F(Verify, EveryKindOfDamageIsFoundByBoth) {
  const std::string middle = "(SELECT id FROM entries WHERE type = 3 ORDER BY id LIMIT 1 OFFSET 400)";
  const std::pair<std::string, bool> damages[] = {   // the statement; whether the first bad entry is named
      {"UPDATE entries SET amount = amount + 1 WHERE id = " + middle, true},
      {"UPDATE entries SET lines = replace(lines, 'input', 'output') WHERE id = " + middle, true},
      {"UPDATE entries SET time = time + 1 WHERE id = " + middle, true},
      {"UPDATE entries SET hash = zeroblob(32) WHERE id = " + middle, true},
      {"UPDATE entries SET receipt_id = NULL WHERE id = (SELECT min(id) FROM entries WHERE receipt_id = '')", true},
      {"DELETE FROM entries WHERE id = " + middle, true},
      {"DELETE FROM entries WHERE id >> 40 = 3", false},
      {"DELETE FROM entries WHERE id = (SELECT max(id) FROM entries)", false},
      {"UPDATE series SET organization = 'org9' WHERE organization = 'org1' AND tier <> ''", true},
      {"UPDATE contexts SET data_class = 'public' WHERE id = 1", true},
      {"UPDATE writers SET writer_id = writer_id || 'x' WHERE number = 2", true},
      {"DELETE FROM writers WHERE number = 3", false},
      {"UPDATE accounts SET credits = debits WHERE kind = 'available'", false},
      {"DELETE FROM accounts WHERE kind = 'funding'", false},
      {"UPDATE rollups SET cost = cost + 1 WHERE level = 86400", false},
      {"DELETE FROM rollups WHERE level = 60", false},
      {"INSERT INTO rollups VALUES (3600, 3600, 1, 1, 1, 0, 1, 0, 5)", false},
      {"UPDATE entries SET expires = expires + 1 WHERE id = (SELECT min(id) FROM entries WHERE expires <> 0)", true},
      {"UPDATE entries SET tags = zeroblob(16) WHERE id = (SELECT min(id) FROM entries WHERE tags <> x'')", true},
      {"UPDATE entries SET schema_version = 1 WHERE id = " + middle, true},
      {"UPDATE credits SET remaining = remaining + 1 WHERE remaining < amount", false},
      {"DELETE FROM credits WHERE remaining = 0", false},
      {"UPDATE tag_spend SET cost = cost + 1", false},
      {"DELETE FROM tag_spend", false},
      {"DELETE FROM open_holds", false},
      {"UPDATE open_holds SET held = held + 1", false}};
  for (const auto& [sql, names_entry] : damages) {
    SCOPED_TRACE(sql);
    const std::string copy = damaged(sql);
    const auto report = verify_file(copy);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_FALSE(report->ok);
    ASSERT_TRUE(report->first_bad);
    const Answer answer = python(copy);
    EXPECT_EQ(answer.code, 1);
    EXPECT_TRUE(answer.has("\"ok\": false")) << answer.text;
    if (!names_entry) continue;
    const std::string place = report->first_bad->substr(0, report->first_bad->find(':'));
    EXPECT_TRUE(answer.has("\"first_bad\": \"" + place + ":")) << *report->first_bad << "\n" << answer.text;
  }
}

// Bytes of the file itself: whatever page they hit, the flip is found, or it hit nothing that means anything.
TEST_F(Verify, AFlippedByteOfAnEntryIsFoundByBoth) {
  const std::string copy = damaged("UPDATE entries SET finish_reason = 'stop' WHERE finish_reason = 'stop'");
  std::string bytes;
  {
    std::ostringstream all;
    all << std::ifstream(copy, std::ios::binary).rdbuf();
    bytes = all.str();
  }
  std::mt19937_64 random(9);
  std::vector<std::size_t> places;
  for (std::size_t at = bytes.find("input:"); at != std::string::npos; at = bytes.find("input:", at + 1))
    places.push_back(at);
  ASSERT_GT(places.size(), 500u);
  for (int i = 0; i < 12; ++i) {
    const std::size_t at = places[random() % places.size()] + 6;   // the first digit of a charge line
    SCOPED_TRACE(at);
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    for (const char* suffix : {"-wal", "-shm"}) fs::remove(copy + suffix);
    std::ofstream(copy, std::ios::binary | std::ios::trunc) << bad;
    const auto report = verify_file(copy);
    EXPECT_TRUE(!report || !report->ok);
    EXPECT_EQ(python(copy).code, 1);
  }
}

TEST_F(Verify, AFileThatIsNoLedgerIsAnErrorNotACrash) {
  const std::string junk = scratch_->path() + "/junk.sqlite";
  std::ofstream(junk) << std::string(8192, 'j');
  EXPECT_FALSE(verify_file(junk));
  EXPECT_FALSE(verify_file(scratch_->path() + "/missing.sqlite"));
  EXPECT_FALSE(usage_of_file(scratch_->path() + "/missing.sqlite", {}));
  EXPECT_EQ(python(junk).code, 1);
}

}  // namespace
}  // namespace tokenworks::ledger::test
