// What a request may wait for between its key and its first step, over the real ledger: no SQL statement runs on its thread,
// no write lock of the database and no other organization's mutex is in its way.
#include <sqlite3.h>

#include <future>
#include <thread>

#include "admission_fixture.hpp"
#include "support/paths.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::chrono::seconds kGenerous{60};

thread_local std::int64_t statements_here = 0;       // SQL statements begun by this thread, on any connection
std::atomic<std::int64_t> statements_anywhere{0};

int count_statement(unsigned, void*, void*, void*) {
  ++statements_here;
  ++statements_anywhere;
  return 0;
}
int watch(sqlite3* connection, const char**, const sqlite3_api_routines*) {
  return sqlite3_trace_v2(connection, SQLITE_TRACE_STMT, count_statement, nullptr);
}

// Stands still for the threads that ask to be stopped, wherever they read it.
class StoppingClock final : public Clock {
 public:
  static thread_local bool stop_me;

  std::int64_t unix_ns() const override { return inner_.unix_ns(); }
  std::int64_t steady_ns() const override {
    if (stop_me) {
      stopped.set_value();
      stop_me = false;
      go_on.wait();
    }
    return inner_.steady_ns();
  }
  mutable std::promise<void> stopped;
  std::promise<void> release;
  std::shared_future<void> go_on = release.get_future().share();

 private:
  ManualClock inner_{kNoon * kSecond};
};
thread_local bool StoppingClock::stop_me = false;

class AdmissionPath : public AdmissionTest {
 protected:
  AdmissionPath() {
    sqlite3_auto_extension(reinterpret_cast<void (*)()>(watch));   // every connection opened from here on
    tenants.organizations.push_back(acme());
    tenants.organizations.back().name = "beta";
    plan().requests_per_minute = 1'000'000;
    plan().tokens_per_minute = 1'000'000'000;
    plan().concurrent_requests = 1'000;
    budget(std::int64_t{1} << 60);
    ledger::LedgerOptions options;
    options.path = path();
    books = std::move(ledger::Ledger::open(options, stopping).value());
    admission = std::move(Admission::make(stopping, *books, {"build-1", "eu-central", "DE", "secret"}, tenants, book()).value());
  }
  ~AdmissionPath() override { sqlite3_cancel_auto_extension(reinterpret_cast<void (*)()>(watch)); }

  std::string path() const { return scratch.path() + "/ledger.sqlite"; }

  // A whole request: entered, admitted, progress, settled; told through `settled` when its SETTLE is durable.
  void request(const std::string& organization, const ledger::OnDurable& settled) {
    Ask request = ask(100, 200);
    request.tags = {{"team", "search"}};
    auto admitted = admit(request, member(organization));
    ASSERT_TRUE(admitted) << last_error.message;
    admitted->hold.progress(used(100, 20));
    ASSERT_TRUE(admitted->hold.settle(used(100, 150), "stop", settled));
  }

  tokenworks::test::ScratchDir scratch;
  StoppingClock stopping;
  std::unique_ptr<ledger::Ledger> books;
};

TEST_F(AdmissionPath, NoStatementRunsOnTheThreadOfARequest) {
  constexpr int kRequests = 500;
  std::atomic<int> settled{0};
  std::promise<void> all;
  const std::int64_t here = statements_here, anywhere = statements_anywhere;
  for (int i = 0; i < kRequests; ++i) {
    request(i % 2 == 0 ? "acme" : "beta", [&](const Result<>& done) {
      if (done && ++settled == kRequests) all.set_value();
    });
  }
  EXPECT_EQ(statements_here, here);
  ASSERT_EQ(all.get_future().wait_for(kGenerous), std::future_status::ready);
  EXPECT_GE(statements_anywhere - anywhere, 2 * kRequests) << "the hook must see the ledger thread's statements";
  EXPECT_EQ(books->verify()->open_holds, 0);
}

TEST_F(AdmissionPath, ALockedDatabaseIsNotInTheWayOfARequest) {
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &other), SQLITE_OK);
  sqlite3_busy_timeout(other, 60'000);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(other);
  std::atomic<int> settled{0};
  std::promise<void> all;
  for (int i = 0; i < 100; ++i) {
    request("acme", [&](const Result<>& done) {
      if (done && ++settled == 100) all.set_value();
    });
  }
  EXPECT_EQ(settled, 0) << "nothing can be committed while another connection holds the write lock";
  EXPECT_EQ(admission->totals().holds_open, 0);      // and yet every request went its whole way
  ASSERT_EQ(sqlite3_exec(other, "ROLLBACK", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(other);
  ASSERT_EQ(all.get_future().wait_for(kGenerous), std::future_status::ready);
  EXPECT_TRUE(books->verify()->ok);
}

TEST_F(AdmissionPath, AnotherOrganizationsMutexIsNotInTheWayOfARequest) {
  std::atomic<bool> released{false};
  std::thread holder([&] {                           // stops inside enter(), which reads the clock under acme's mutex
    StoppingClock::stop_me = true;
    const auto entrance = admission->enter(member("acme"), "m");
    EXPECT_TRUE(entrance);
  });
  ASSERT_EQ(stopping.stopped.get_future().wait_for(kGenerous), std::future_status::ready);
  std::thread same([&] {
    EXPECT_TRUE(admission->standing("acme"));
    EXPECT_TRUE(released) << "acme's mutex was not held: the test proves nothing";
  });
  std::promise<void> settled;
  auto other = std::async(std::launch::async, [&] { request("beta", [&](const Result<>&) { settled.set_value(); }); });
  EXPECT_EQ(other.wait_for(kGenerous), std::future_status::ready);
  EXPECT_EQ(settled.get_future().wait_for(kGenerous), std::future_status::ready);
  released = true;
  stopping.release.set_value();
  holder.join();
  same.join();
}

}  // namespace
}  // namespace tokenworks::gateway
