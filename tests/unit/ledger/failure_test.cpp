// What callers see while the store fails, and when it works again; progress; closing; a second writer.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "fixture.hpp"

namespace tokenworks::ledger::test {
namespace {

// Lets the ledger thread run until `done`, with the clock going on so that a backoff passes.
template <class Done>
bool until(Plant& plant, Done&& done, std::int64_t step_ns = 10'000'000) {
  for (int i = 0; i < 20'000; ++i) {
    if (done()) return true;
    plant.clock.advance_ns(step_ns);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return false;
}

TEST(LedgerFailure, AFullDiskIsSurvivedWithoutARestart) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 1000);
  ASSERT_TRUE(book(*plant.ledger, open));
  plant.disk.set_full(true);
  std::atomic<int> told{0}, good{0};
  const OnDurable count = [&](const Result<>& r) { ++told, good += r ? 1 : 0; };
  ASSERT_TRUE(plant.ledger->append(settle(open, 1, 2), count));
  for (int i = 2; i < 60; ++i) ASSERT_TRUE(plant.ledger->append(hold(request(i), 5), count));
  ASSERT_TRUE(until(plant, [&] { return plant.ledger->health().failures >= 3; }));
  EXPECT_EQ(told, 0);
  Health health = plant.ledger->health();
  EXPECT_FALSE(health.ok);
  EXPECT_EQ(health.queued, 59);
  EXPECT_NE(health.last_error.find("full"), std::string::npos) << health.last_error;
  plant.clock.advance_ns(3 * kSecondNs);
  EXPECT_GE(plant.ledger->health().oldest_unacknowledged_settle_ns, 3 * kSecondNs);
  plant.disk.set_full(false);
  ASSERT_TRUE(until(plant, [&] { return told == 59; }));
  EXPECT_EQ(good, 59);
  health = plant.ledger->health();
  EXPECT_TRUE(health.ok);
  EXPECT_EQ(health.oldest_unacknowledged_settle_ns, 0);
  EXPECT_EQ(health.queued, 0);
  const auto report = plant.ledger->verify();
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
  EXPECT_EQ(report->entries, 60);
  EXPECT_EQ(report->open_holds, 58);
}

// The log of a small disk fills it by itself while the database has room inside: what is committed moves there and the log
// begins again, although nobody made space.
TEST(LedgerFailure, ALogThatFillsTheDiskGivesItsSpaceBack) {
  Plant plant;
  plant.options.progress = ProgressMode::step;
  plant.tuning.checkpoints.pages = 1 << 30;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, hold(request(1), 1000)));
  ASSERT_EQ(plant.open(), "");                       // closing has written the database file
  ASSERT_TRUE(book(*plant.ledger, hold(request(2), 1000)));
  const auto report = [&](std::int64_t output) {
    std::promise<Result<>> told;
    plant.ledger->progress({request(2), {100, 0, output, 0}, {output}, {{"output", {output}}}},
                           [&](const Result<>& r) { told.set_value(r); });
    auto future = told.get_future();
    const auto done = [&] { return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready; };
    return until(plant, done) && future.get().has_value();
  };
  ASSERT_TRUE(report(1));
  plant.disk.set_full(true);
  for (int i = 2; i < 30; ++i) ASSERT_TRUE(report(i)) << plant.ledger->health().last_error;
  EXPECT_GE(plant.ledger->health().failures, 1);
  EXPECT_TRUE(plant.ledger->health().ok);
}

TEST(LedgerFailure, AFailedSyncIsRetriedAndNothingIsBookedTwice) {
  for (int failing = 1; failing <= 6; ++failing) {
    SCOPED_TRACE(failing);
    Plant plant(static_cast<std::uint64_t>(failing));
    ASSERT_EQ(plant.open(), "");
    plant.disk.fail_syncs(failing);
    std::atomic<int> good{0};
    for (int i = 1; i <= 20; ++i) {
      ASSERT_TRUE(
          plant.ledger->append(money(request(i), EntryType::topup, 10), [&](const Result<>& r) { good += r ? 1 : 0; }));
    }
    ASSERT_TRUE(until(plant, [&] { return good == 20; }));
    plant.disk.cut_now();                            // what was acknowledged must survive the dropped pages
    plant.ledger.reset();
    plant.disk.power_on();
    ASSERT_EQ(plant.open(), "");
    EXPECT_EQ(plant.ledger->balances()->at(0).balance, Money{200});
    EXPECT_TRUE(plant.ledger->verify()->ok);
  }
}

// The process dies with a transaction in the log whose sync failed: readable, but not on the disk and never written again. The next
// start finds it committed and books after it.
TEST(LedgerFailure, ATransactionWhoseSyncFailedBeforeTheProcessDiedDoesNotCutTheLogOff) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE(seed);
    Plant plant(seed);
    ASSERT_EQ(plant.open(), "");
    ASSERT_TRUE(book(*plant.ledger, money(request(1), EntryType::topup, 10)));
    plant.disk.fail_syncs(1'000'000);
    ASSERT_TRUE(plant.ledger->append(money(request(2), EntryType::topup, 10), {}));
    ASSERT_TRUE(until(plant, [&] { return plant.ledger->health().failures >= 2; }));
    plant.disk.kill_now();
    plant.ledger.reset();
    plant.disk.power_on();
    ASSERT_EQ(plant.open(), "");
    EXPECT_EQ(plant.ledger->balances()->at(0).balance, Money{20});   // what nobody was told may stand
    ASSERT_TRUE(book(*plant.ledger, money(request(3), EntryType::topup, 10)));
    plant.disk.cut_now();
    plant.ledger.reset();
    plant.disk.power_on();
    ASSERT_EQ(plant.open(), "");
    EXPECT_EQ(plant.ledger->balances()->at(0).balance, Money{30});   // what was acknowledged must
    EXPECT_TRUE(plant.ledger->verify()->ok);
  }
}

TEST(LedgerFailure, ClosingOverADeadStoreTellsTheOwners) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  plant.disk.cut_now();
  std::promise<Result<>> told;
  ASSERT_TRUE(plant.ledger->append(hold(request(1), 1), [&](const Result<>& r) { told.set_value(r); }));
  plant.ledger.reset();
  const Result<> result = told.get_future().get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::ledger_unavailable);
}

TEST(LedgerFailure, AWriterThatWasReplacedNeverWritesAgain) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, hold(request(1), 100)));
  Recovery recovery;
  const StoreOptions store{plant.options.path, plant.options.vfs, "other"};
  const auto other = Books::open(store, plant.clock, recovery);
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(recovery.released, 1);
  const Result<> late = book(*plant.ledger, settle(hold(request(1), 100), 10, 20));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::ledger_unavailable);
  EXPECT_FALSE(plant.ledger->append(hold(request(2), 1), {}));
  EXPECT_FALSE(plant.ledger->health().ok);
  const auto report = plant.ledger->verify();
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
  EXPECT_EQ(report->open_holds, 0);
}

TEST(Progress, InStepModeIsDurableWhenItsOwnerIsTold) {
  Plant plant;
  plant.options.progress = ProgressMode::step;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, hold(request(1), 1000)));
  std::promise<Result<>> told;
  plant.ledger->progress({request(1), {100, 0, 7, 0}, {70}, {{"output", {70}}}},
                         [&](const Result<>& r) { told.set_value(r); });
  ASSERT_TRUE(told.get_future().get());              // with a clock that stands still: no cadence was waited for
  plant.disk.cut_now();
  plant.ledger.reset();
  plant.disk.power_on();
  ASSERT_EQ(plant.open(), "");
  EXPECT_EQ(plant.ledger->recovery().settled, 1);
  const Entry end = plant.ledger->entries_of(request(1))->back();
  EXPECT_EQ(end.amount, Money{70});
  EXPECT_EQ(end.usage.output, 7);
  EXPECT_EQ(end.finish_reason, "crash");
}

TEST(Progress, InCadenceModeWaitsForTheCadenceAndKeepsTheNewest) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, hold(request(1), 1000)));
  ASSERT_TRUE(book(*plant.ledger, hold(request(2), 1000)));
  std::atomic<int> told{0};
  const OnDurable count = [&](const Result<>& r) { told += r ? 1 : 0; };
  plant.ledger->progress({request(1), {100, 0, 1, 0}, {10}, {{"output", {10}}}}, count);
  ASSERT_TRUE(until(plant, [&] { return told == 1; }, 0));   // the first cadence begins at the opening
  plant.ledger->progress({request(1), {100, 0, 2, 0}, {20}, {{"output", {20}}}}, count);
  plant.ledger->progress({request(1), {100, 0, 3, 0}, {30}, {{"output", {30}}}}, count);
  ASSERT_TRUE(book(*plant.ledger, money(request(3), EntryType::topup, 1)));   // a commit in between does not carry it
  EXPECT_EQ(told, 1);
  plant.clock.advance_ns(100'000'000);
  ASSERT_TRUE(until(plant, [&] { return told == 3; }, 0));
  plant.kill_and_restart_disk();
  ASSERT_EQ(plant.open(), "");
  EXPECT_EQ(plant.ledger->recovery().settled, 1);
  EXPECT_EQ(plant.ledger->recovery().released, 1);
  EXPECT_EQ(plant.ledger->entries_of(request(1))->back().amount, Money{30});
  EXPECT_EQ(plant.ledger->entries_of(request(2))->back().type, EntryType::release);
}

// What a running request would say if it were asked.
class Spoken final : public ProgressFeed {
 public:
  explicit Spoken(const RequestId& id) : id_(id) {}
  void say(std::int64_t output) {
    std::lock_guard lock(mutex_);
    newest_ = Progress{id_, {100, 0, output, 0}, {10 * output}, {{"output", {10 * output}}}};
  }
  const RequestId& request() const override { return id_; }
  std::optional<Progress> newest() override {
    ++asked;
    std::lock_guard lock(mutex_);
    return std::exchange(newest_, std::nullopt);
  }
  std::atomic<int> asked{0};

 private:
  const RequestId id_;
  std::mutex mutex_;
  std::optional<Progress> newest_;
};

// Until the ledger thread has asked so often, and what it built then is committed.
bool asked(Plant& plant, const Spoken& feed, int times) {
  static int entry = 1000;
  for (int i = 0; feed.asked < times; ++i) {
    if (i == 60'000) return false;                   // a minute
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return bool(book(*plant.ledger, money(request(++entry), EntryType::topup, 1)));
}

std::int64_t journal_rows(const Plant& plant) {
  const auto reader = Reader::open(plant.options.path, plant.options.vfs);
  return *(*reader)->store().value("SELECT count(*) FROM progress");
}

TEST(ProgressFeed, IsAskedOncePerCadenceAndItsNewestIsWhatACrashSettles) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, hold(request(1), 1000)));
  const auto feed = std::make_shared<Spoken>(request(1));
  feed->say(1);
  ASSERT_TRUE(plant.ledger->follow(feed));
  ASSERT_TRUE(asked(plant, *feed, 1));               // the first cadence begins at the opening
  for (std::int64_t output = 2; output <= 50; ++output) {
    feed->say(output);
    plant.ledger->stir();
    ASSERT_TRUE(book(*plant.ledger, money(request(100 + static_cast<int>(output)), EntryType::topup, 1)));
  }
  EXPECT_EQ(feed->asked, 1) << "forty-nine commits within the cadence, and none asks";
  plant.clock.advance_ns(100'000'000);
  ASSERT_TRUE(asked(plant, *feed, 2));
  plant.kill_and_restart_disk();
  ASSERT_EQ(plant.open(), "");
  EXPECT_EQ(plant.ledger->recovery().settled, 1);
  EXPECT_EQ(plant.ledger->entries_of(request(1))->back().amount, Money{500});
  EXPECT_EQ(plant.ledger->entries_of(request(1))->back().usage.output, 50);
}

TEST(ProgressFeed, IsForgottenWithItsRequestAndAsksNothingWhenNothingIsNew) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 1000);
  ASSERT_TRUE(book(*plant.ledger, open));
  auto feed = std::make_shared<Spoken>(request(1));
  const std::weak_ptr<Spoken> gone = feed;
  feed->say(1);
  ASSERT_TRUE(plant.ledger->follow(feed));
  ASSERT_TRUE(asked(plant, *feed, 1));
  EXPECT_EQ(journal_rows(plant), 1);
  plant.clock.advance_ns(500'000'000);
  ASSERT_TRUE(book(*plant.ledger, money(request(2), EntryType::topup, 1)));
  EXPECT_EQ(feed->asked, 1) << "nobody stirred";
  feed.reset();
  ASSERT_TRUE(book(*plant.ledger, settle(open, 5, 6)));
  ASSERT_TRUE(book(*plant.ledger, money(request(3), EntryType::topup, 1)));   // the ledger forgets before it goes on
  EXPECT_TRUE(gone.expired());
  EXPECT_EQ(journal_rows(plant), 0);
}

// Its owner extended the hold and generated further before the ledger thread had seen either.
TEST(ProgressFeed, AheadOfTheHoldAsBookedWaitsForTheExtension) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 100);
  ASSERT_TRUE(book(*plant.ledger, open));
  const auto feed = std::make_shared<Spoken>(request(1));
  feed->say(5);
  ASSERT_TRUE(plant.ledger->follow(feed));
  ASSERT_TRUE(asked(plant, *feed, 1));
  feed->say(20);                                     // 200 of 100
  plant.ledger->stir();
  plant.clock.advance_ns(100'000'000);
  ASSERT_TRUE(asked(plant, *feed, 2));
  Record more = open;
  more.type = EntryType::extend;
  ASSERT_TRUE(book(*plant.ledger, more));
  plant.clock.advance_ns(100'000'000);
  ASSERT_TRUE(asked(plant, *feed, 3));
  EXPECT_EQ(plant.ledger->health().refused, 0);
  plant.kill_and_restart_disk();
  ASSERT_EQ(plant.open(), "");
  EXPECT_EQ(plant.ledger->entries_of(request(1))->back().amount, Money{200});
}

TEST(Progress, OfUnknownRequestsAboveTheHoldOrThatDoesNotAddUpIsRefused) {
  Plant plant;
  plant.options.progress = ProgressMode::step;
  ASSERT_EQ(plant.open(), "");
  ASSERT_TRUE(book(*plant.ledger, hold(request(1), 50)));
  const auto report = [&](Progress p) {
    std::promise<Result<>> told;
    plant.ledger->progress(std::move(p), [&](const Result<>& r) { told.set_value(r); });
    return told.get_future().get();
  };
  EXPECT_FALSE(report({request(9), {1, 0, 1, 0}, {1}, {{"output", {1}}}}));
  EXPECT_FALSE(report({request(1), {1, 0, 1, 0}, {51}, {{"output", {51}}}}));
  EXPECT_FALSE(report({request(1), {1, 0, 1, 0}, {5}, {{"output", {4}}}}));
  EXPECT_TRUE(report({request(1), {1, 0, 1, 0}, {50}, {{"output", {50}}}}));
}

TEST(Progress, LeavesNothingBehindWhenItsRequestsHaveEnded) {
  Plant plant;
  plant.options.progress = ProgressMode::step;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 1000);
  ASSERT_TRUE(book(*plant.ledger, open));
  std::promise<Result<>> told;
  plant.ledger->progress({request(1), {100, 0, 1, 0}, {10}, {{"output", {10}}}},
                         [&](const Result<>& r) { told.set_value(r); });
  ASSERT_TRUE(told.get_future().get());
  const auto rows = [&] {
    const auto reader = Reader::open(plant.options.path, plant.options.vfs);
    return *(*reader)->store().value("SELECT count(*) FROM progress");
  };
  EXPECT_EQ(rows(), 1);
  ASSERT_TRUE(book(*plant.ledger, settle(open, 5, 6)));
  EXPECT_EQ(rows(), 0);
}

// Six thousand open holds take two transactions to recover; a cut at any sync of an opening is simply done again.
TEST(Recovery, CanBeCutAnywhereAndEndsEveryHoldOnce) {
  constexpr int kHolds = 6000;
  int cuts = 0;
  for (std::int64_t sync = 1;; ++sync) {
    SCOPED_TRACE(sync);
    Plant plant(static_cast<std::uint64_t>(sync));
    ASSERT_EQ(plant.open(), "");
    std::atomic<int> done{0};
    const OnDurable count = [&](const Result<>& r) { done += r ? 1 : 0; };
    for (int i = 1; i <= kHolds; ++i) ASSERT_TRUE(plant.ledger->append(hold(request(i), 100 + i), count));
    ASSERT_TRUE(until(plant, [&] { return done == kHolds; }));
    for (int i = 1; i <= kHolds; i += 2)
      plant.ledger->progress({request(i), {100, 0, i, 0}, {i % 100}, {{"output", {i % 100}}}}, count);
    ASSERT_TRUE(until(plant, [&] { return done == kHolds + kHolds / 2; }));
    plant.kill_and_restart_disk();
    plant.disk.cut_at_sync(sync);
    const bool cut = !plant.open().empty() || plant.disk.dead();
    if (cut) {
      ++cuts;
      plant.ledger.reset();
      plant.disk.power_on();
      ASSERT_EQ(plant.open(), "");
    }
    const auto report = plant.ledger->verify();
    ASSERT_TRUE(report);
    ASSERT_TRUE(report->ok) << report->first_bad.value_or("");
    ASSERT_EQ(report->open_holds, 0);
    ASSERT_EQ(report->entries, 2 * kHolds);
    std::int64_t cost = 0;
    for (int i = 1; i <= kHolds; i += 2) cost += i % 100;
    ASSERT_EQ(plant.ledger->balances()->at(0).balance, Money{-cost});
    ASSERT_EQ(plant.ledger->usage({})->at(0).requests, kHolds / 2);
    if (!cut) break;
  }
  EXPECT_GE(cuts, 3);
}

}  // namespace
}  // namespace tokenworks::ledger::test
