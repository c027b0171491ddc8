// Copies: taken while the writer works, and put back in place.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "fixture.hpp"
#include "support/paths.hpp"
#include "tokenworks/base/crypto.hpp"

namespace tokenworks::ledger::test {
namespace {

namespace fs = std::filesystem;

class Backup : public testing::Test {
 protected:
  std::unique_ptr<Ledger> open(const std::string& path) {
    LedgerOptions options;
    options.path = path;
    auto made = Ledger::open(options, clock_);
    EXPECT_TRUE(made) << made.error().message;
    return made ? std::move(*made) : nullptr;
  }
  tokenworks::test::ScratchDir scratch_;
  std::string path_ = scratch_.path() + "/ledger.sqlite", copy_ = scratch_.path() + "/backup.sqlite";
  SystemClock clock_;
};

TEST_F(Backup, TakenWhileTheWriterWorksIsOneMomentOfTheBooks) {
  const auto ledger = open(path_);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 1; !stop; ++i) {
      const Record r = hold(request(i), 1000);
      (void)ledger->append(r, {});
      (void)book(*ledger, settle(r, 1, 2));
    }
  });
  std::int64_t before = 0;
  for (int i = 0; i < 5; ++i) {
    const std::string copy = copy_ + std::to_string(i);
    const auto done = ledger->backup(copy);
    EXPECT_TRUE(done) << done.error().message;
    const auto report = verify_file(copy);
    ASSERT_TRUE(report);
    EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
    EXPECT_GE(report->entries, before);
    before = report->entries;
    EXPECT_FALSE(fs::exists(copy + ".partial"));
  }
  stop = true;
  writer.join();
  EXPECT_GT(before, 0);
}

TEST_F(Backup, ARestoreBringsBackTheMomentAndTheBooksGoOn) {
  {
    const auto ledger = open(path_);
    ASSERT_TRUE(book(*ledger, money(request(1), EntryType::topup, 100)));
    ASSERT_TRUE(book(*ledger, hold(request(2), 40)));
    ASSERT_TRUE(ledger->backup(copy_));
    EXPECT_FALSE(ledger->backup(copy_)) << "an existing file must not be overwritten";
    ASSERT_TRUE(book(*ledger, money(request(3), EntryType::topup, 5000)));
  }
  EXPECT_FALSE(restore(copy_, path_));
  EXPECT_FALSE(restore(path_, path_, true));
  ASSERT_TRUE(restore(copy_, path_, true));
  const auto ledger = open(path_);
  EXPECT_EQ(ledger->recovery().released, 1);         // the hold that was open when the copy was taken
  EXPECT_EQ(ledger->balances()->at(0).balance, Money{100});
  ASSERT_TRUE(book(*ledger, money(request(4), EntryType::topup, 1)));
  EXPECT_TRUE(ledger->verify()->ok);
}

TEST_F(Backup, AStoreThatDoesNotVerifyIsNeitherBackedUpNorRestored) {
  {
    const auto ledger = open(path_);
    ASSERT_TRUE(book(*ledger, money(request(1), EntryType::topup, 100)));
  }
  {
    const auto store = Connection::open(path_, "", Access::read_write);
    ASSERT_TRUE(store->run("UPDATE entries SET amount = 900"));
  }
  EXPECT_FALSE(backup_file(path_, copy_));
  EXPECT_FALSE(fs::exists(copy_));
  EXPECT_FALSE(fs::exists(copy_ + ".partial"));
  std::ofstream(copy_) << "not a database";
  const std::string target = scratch_.path() + "/target.sqlite";
  EXPECT_FALSE(restore(copy_, target));
  EXPECT_FALSE(restore(path_, target));
  EXPECT_FALSE(restore(scratch_.path() + "/missing.sqlite", target));
  EXPECT_FALSE(fs::exists(target));
}

TEST_F(Backup, APriceBookThatIsNotWhatItsHashSaysIsNotRestored) {
  {
    const auto ledger = open(path_);
    const PriceHistoryRow row{1, INT64_MIN, {"one", hex(sha256("prices")), "prices", 1}};
    ASSERT_TRUE(ledger->put_prices({row}, {1, "local", "plant.start", "prices.yaml", "", ""}));
    ASSERT_TRUE(ledger->backup(copy_));
  }
  const std::string target = scratch_.path() + "/target.sqlite";
  ASSERT_TRUE(restore(copy_, target));
  {
    const auto store = Connection::open(copy_, "", Access::read_write);
    ASSERT_TRUE(store->run("UPDATE price_books SET text = 'other prices'"));
  }
  const auto restored = restore(copy_, target, true);
  ASSERT_FALSE(restored);
  EXPECT_NE(restored.error().message.find("is not what its hash says"), std::string::npos) << restored.error().message;
}

// The entries are right, but the index by which a repeated top-up is found is not: it would be booked again.
TEST_F(Backup, ADamagedIndexIsNotRestored) {
  {
    const auto ledger = open(path_);
    ASSERT_TRUE(book(*ledger, money(request(1), EntryType::topup, 100)));
    ASSERT_TRUE(ledger->backup(copy_));
  }
  std::int64_t root = 0, page_size = 0;
  {
    const auto store = Connection::open(copy_, "", Access::read_only);
    ASSERT_TRUE(store);
    const auto number = [&](const char* sql) {
      auto asked = store->prepare(sql);
      return asked && *asked->step() ? asked->integer(0) : 0;
    };
    root = number("SELECT rootpage FROM sqlite_master WHERE name = 'entries_request'");
    page_size = number("PRAGMA page_size");
  }
  ASSERT_GT(root, 1);
  std::fstream file(copy_, std::ios::in | std::ios::out | std::ios::binary);
  const std::int64_t at = root * page_size - 10;     // in the last cell of the page, which is the first that was written: the request's id
  file.seekg(at);
  const int byte = file.get();
  file.seekp(at);
  file.put(static_cast<char>(byte ^ 1));
  file.close();
  EXPECT_TRUE(verify_file(copy_)->ok) << "the chain itself is whole";
  const auto restored = restore(copy_, scratch_.path() + "/target.sqlite");
  ASSERT_FALSE(restored);
  EXPECT_NE(restored.error().message.find("damaged"), std::string::npos) << restored.error().message;
  EXPECT_FALSE(fs::exists(scratch_.path() + "/target.sqlite"));
  {
    const auto ledger = open(copy_);                 // who serves from it nevertheless
    ASSERT_TRUE(book(*ledger, money(request(1), EntryType::topup, 100)));
  }
  const auto report = verify_file(copy_);
  ASSERT_TRUE(report);
  EXPECT_FALSE(report->ok) << "one operation, two entries";
}

}  // namespace
}  // namespace tokenworks::ledger::test
