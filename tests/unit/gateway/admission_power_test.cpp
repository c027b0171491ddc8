// 64 requests at once on a balance for 7, over the real books on a disk that forgets what was not synced: 7 full answers and
// not one more, wherever the power goes, and each that its client was told of is in the books afterwards.
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "admission_fixture.hpp"
#include "ledger/service.hpp"
#include "support/fault_vfs.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::chrono::seconds kGenerous{60};
constexpr std::int64_t kFull = 10 * kInput + 20 * kOutput;   // ask(10, 20)
constexpr int kAtOnce = 64, kBalance = 7;

class AdmissionPower : public AdmissionTest {
 protected:
  // What clients of one crowd saw.
  struct Seen {
    std::mutex mutex;
    std::condition_variable changed;
    int admitted = 0, refused = 0, other = 0;
    std::vector<RequestId> told;                     // whose last chunk, with its usage, may have left
  };

  void TearDown() override {
    admission.reset();
    books.reset();
  }

  // Opens books and admission, again after a cut; the message of the error, or "".
  std::string power_on(const ledger::Planted& planted) {
    ledger::LedgerOptions options;
    options.path = "/ledger.sqlite";
    options.vfs = disk->name();
    ledger::Tuning tuning;
    tuning.planted = planted;
    tuning.checkpoints.background = false;
    tuning.close_patience_ns = 0;
    tuning.gather_us = 0;
    auto opened = ledger::Service::open(options, tuning, clock);
    if (!opened) return opened.error().message;
    books = std::move(*opened);
    return "";
  }
  std::string admit_requests() {
    auto made = Admission::make(clock, *books, {"build-1", "eu-central", "DE", "secret"}, tenants, book());
    if (!made) return made.error().message;
    admission = std::move(*made);
    return "";
  }
  std::string top_up() {
    ledger::Record r;
    r.type = ledger::EntryType::topup;
    r.unix_ns = clock.unix_ns();
    r.request = next_id();
    r.organization.value = "acme";
    r.actor = "user:anna";
    r.amount = Money{kBalance * kFull};
    r.currency = "USD";
    std::promise<Result<>> done;
    if (auto taken = books->append(r, [&](const Result<>& result) { done.set_value(result); }); !taken) return taken.error().message;
    const auto result = done.get_future().get();
    return result ? "" : result.error().message;
  }

  void request(Seen& seen) {
    const auto who = member();
    auto entrance = admission->enter(who);
    const Ask asked = ask(10, 20);
    auto hold = admission->admit(who, *entrance, asked, {});
    if (!hold) {
      std::lock_guard lock(seen.mutex);
      ++(hold.error().code == Errc::insufficient_quota && hold.error().retry_after_ms < 0 ? seen.refused : seen.other);
      return;
    }
    {
      std::lock_guard lock(seen.mutex);
      ++(hold->chunked() ? seen.other : seen.admitted);
    }
    const auto charge = hold->settle(used(10, 20), "length", [&seen, id = asked.request](const Result<>& done) {
      std::lock_guard lock(seen.mutex);
      if (done) seen.told.push_back(id);
      seen.changed.notify_all();
    });
    EXPECT_TRUE(charge && charge->total.nano == kFull);
  }

  // Sixty-four at once; returns when every one that was admitted has been told, or the disk is dead.
  void crowd(Seen& seen) {
    std::atomic<int> waiting{kAtOnce};
    std::vector<std::thread> clients;
    for (int i = 0; i < kAtOnce; ++i) {
      clients.emplace_back([&] {
        --waiting;
        while (waiting.load() > 0) std::this_thread::yield();
        request(seen);
      });
    }
    for (auto& client : clients) client.join();
    std::unique_lock lock(seen.mutex);
    const auto patience = std::chrono::steady_clock::now() + kGenerous;
    while (static_cast<int>(seen.told.size()) < seen.admitted && !disk->dead() && std::chrono::steady_clock::now() < patience) {
      seen.changed.wait_for(lock, std::chrono::milliseconds(5));
    }
  }

  // One life with a cut at the n-th sync of the crowd, or after all were told (0). What was wrong, or "".
  std::string life(std::uint64_t seed, std::int64_t cut_at_sync, const ledger::Planted& planted = {}) {
    disk = std::make_unique<tokenworks::test::FaultVfs>(seed);
    if (auto bad = power_on({}); !bad.empty()) return bad;   // nothing is planted until the balance is safe
    if (auto bad = top_up(); !bad.empty()) return bad;
    books.reset();
    if (auto bad = power_on(planted); !bad.empty()) return bad;
    if (auto bad = admit_requests(); !bad.empty()) return bad;
    Seen first, second;
    disk->cut_at_sync(cut_at_sync);
    crowd(first);
    if (first.admitted != kBalance || first.refused != kAtOnce - kBalance || first.other != 0) {
      return "admitted " + std::to_string(first.admitted) + ", refused " + std::to_string(first.refused);
    }
    if (cut_at_sync == 0 && static_cast<int>(first.told.size()) != kBalance) return "not every answer was told of its commit";
    disk->cut_now();
    admission.reset();
    books.reset();                                   // everybody has been told something by now
    disk->power_on();
    if (auto bad = power_on({}); !bad.empty()) return bad;
    for (const RequestId& id : first.told) {
      const auto entries = books->entries_of(id);
      if (!entries || entries->empty() || entries->back().type != ledger::EntryType::settle || entries->back().amount.nano != kFull) {
        return "the answer of " + id.to_string() + " was given and is not in the books";
      }
    }
    if (auto bad = admit_requests(); !bad.empty()) return bad;
    const std::int64_t left = standing().balance->nano;
    if (left % kFull != 0 || left < 0 || left > (kBalance - static_cast<std::int64_t>(first.told.size())) * kFull) {
      return "the balance is " + std::to_string(left);
    }
    crowd(second);
    if (second.admitted != left / kFull || static_cast<int>(second.told.size()) != second.admitted || second.other != 0) {
      return "what was left for " + std::to_string(left / kFull) + " answers gave " + std::to_string(second.admitted);
    }
    if (standing().balance->nano != 0 || standing().held.nano != 0) return "the remaining balance is not exact";
    const auto report = books->verify();
    return report && report->ok && report->open_holds == 0 ? "" : "the books do not verify";
  }

  std::unique_ptr<tokenworks::test::FaultVfs> disk;
  std::unique_ptr<ledger::Service> books;
};

TEST_F(AdmissionPower, SixtyFourAtOnceOnABalanceForSevenOverADiskThatForgets) {
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    const auto sync = static_cast<std::int64_t>(seed % 6);   // 0: the power goes after the last was told
    ASSERT_EQ(life(seed, sync), "") << "seed " << seed << ", cut at sync " << sync;
    TearDown();
  }
}

TEST_F(AdmissionPower, FindsAnAnswerThatIsGivenBeforeItsCommit) {
  ledger::Planted planted;
  planted.synchronous_off = true;
  std::string found;
  for (std::uint64_t seed = 1; seed <= 40 && found.empty(); ++seed) {
    found = life(seed, 0, planted);
    TearDown();
  }
  EXPECT_NE(found, "") << "forty cuts after commits without a sync, and nothing was missing";
}

}  // namespace
}  // namespace tokenworks::gateway
