// A month of requests, charged and booked here, and the independent checker that adds the month up again from the file
// alone: every project's tokens and charges by class agree to the last unit, and a planted unit is found.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <random>
#include <thread>

#include "checker.hpp"
#include "fixture.hpp"

namespace tokenworks::ledger::test {
namespace {

constexpr std::int64_t kNovember = 1'761'955'200'000'000'000;   // 2025-11-01 00:00:00 UTC
constexpr std::int64_t kThirtyDays = 30ll * 86400 * kSecondNs;

struct Sums {
  std::int64_t requests = 0, input = 0, cached = 0, output = 0, cost = 0;
  std::map<std::string, std::int64_t> lines;
};

class Month {
 public:
  explicit Month(int requests) {
    Tuning tuning;
    ManualClock clock(kNovember + kThirtyDays);
    LedgerOptions options;
    options.path = path();
    auto ledger = std::move(Service::open(options, tuning, clock).value());
    std::mt19937_64 random(20251101);
    const auto pick = [&](std::int64_t n) {
      return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
    };
    for (int i = 1; i <= requests; ++i) {
      Record r = hold(request(i), 3'000'000'000, "org" + std::to_string(pick(20)));
      r.project.value = r.organization.value + "/p" + std::to_string(pick(3));
      r.unix_ns = kNovember - kThirtyDays / 30 + pick(kThirtyDays / 30 * 32);   // a day before to a day after the month
      r.tag_hashes = {TagHash{static_cast<std::uint8_t>(pick(5))}};
      (void)ledger->append(r, {});
      if (pick(50) == 0) {
        (void)ledger->append(ending(r, EntryType::release, r.amount.nano), {});
        continue;
      }
      Record end = settle(r, pick(1'000'000'000), pick(1'000'000'000));
      const std::int64_t cached = pick(100'000'000);
      end.lines.insert(end.lines.begin() + 1, {"cached_input", {cached}});
      end.amount.nano += cached;
      end.usage = {pick(5000), 0, 1 + pick(2000), 0};
      end.usage.cached_input = pick(end.usage.input + 1);
      (void)ledger->append(end, {});
      if (end.unix_ns < kNovember || end.unix_ns >= kNovember + kThirtyDays) continue;
      Sums& sums = expected_[{r.organization.value, r.project.value}];
      ++sums.requests, sums.input += end.usage.input, sums.cached += end.usage.cached_input;
      sums.output += end.usage.output, sums.cost += end.amount.nano;
      for (const auto& [token_class, line] : end.lines) sums.lines[token_class] += line.nano;
    }
    // A month of entries takes a slow disk or a busy machine its time: as long as something is committed, all is well.
    for (std::int64_t queued = ledger->health().queued, before = queued + 1; queued > 0 && queued < before;) {
      before = queued;
      for (int i = 0; i < 60'000 && (queued = ledger->health().queued) >= before; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(book(*ledger, money(request(1 << 30), EntryType::topup, 1)));
    UsageQuery month;
    month.from_unix_ns = kNovember, month.to_unix_ns = kNovember + kThirtyDays;
    month.by_model = month.by_tier = false;
    usage_ = *ledger->usage(month);
  }
  std::string path() const { return scratch_.path() + "/ledger.sqlite"; }
  const std::string& folder() const { return scratch_.path(); }

  // What the checker must print, and what our own usage query must say.
  std::string charges() const {
    std::string text;
    for (const auto& [who, s] : expected_) {
      text += text.empty() ? "" : ", ";
      text += "{\"organization\": \"" + who.first + "\", \"project\": \"" + who.second +
              "\", \"currency\": \"USD\", \"requests\": " + std::to_string(s.requests) + ", \"input\": " +
              std::to_string(s.input) + ", \"cached_input\": " + std::to_string(s.cached) + ", \"output\": " +
              std::to_string(s.output) + ", \"reasoning\": 0, \"cost\": \"" + to_string(Money{s.cost}) + "\", \"lines\": {";
      bool first = true;
      for (const auto& [token_class, nano] : s.lines) {
        text += (first ? "\"" : ", \"") + token_class + "\": \"" + to_string(Money{nano}) + "\"";
        first = false;
      }
      text += "}}";
    }
    return "\"charges\": [" + text + "]";
  }
  void expect_usage_agrees() const {
    ASSERT_EQ(usage_.size(), expected_.size());
    for (const UsageRow& row : usage_) {
      const Sums& s = expected_.at({row.organization, row.project});
      EXPECT_EQ(row.cost.nano, s.cost) << row.project;
      EXPECT_EQ(row.requests, s.requests);
      EXPECT_EQ(row.usage.input, s.input);
      EXPECT_EQ(row.usage.output, s.output);
    }
  }

 private:
  tokenworks::test::ScratchDir scratch_;
  std::map<std::pair<std::string, std::string>, Sums> expected_;
  std::vector<UsageRow> usage_;
};

TEST(Month, OfRequestsIsAddedUpAgainByTheIndependentCheckerToTheLastUnit) {
  const int requests = tokenworks::test::long_run() ? 100'000 : 20'000;
  const Month month(requests);
  month.expect_usage_agrees();
  const CheckerAnswer answer = run_checker(month.path(), month.folder(), "--charges 2025-11");
  EXPECT_EQ(answer.code, 0) << answer.text.substr(0, 500);
  EXPECT_TRUE(answer.has("\"ok\": true"));
  EXPECT_TRUE(answer.has(month.charges())) << answer.text.substr(0, 2000) << "\nexpected\n" << month.charges().substr(0, 2000);
  std::printf("%d requests checked\n", requests);

  // One unit moved between two lines of one charge, the chain forged no further: found, and the charges are not printed.
  {
    const auto store = Connection::open(month.path(), "", Access::read_write);
    ASSERT_TRUE(store->run("UPDATE entries SET output = output + 1 WHERE id = (SELECT id FROM entries WHERE type = 3"
                           " ORDER BY id LIMIT 1 OFFSET 5000)"));
    ASSERT_EQ(sqlite3_total_changes(store->raw()), 1);
  }
  const CheckerAnswer forged = run_checker(month.path(), month.folder(), "--charges 2025-11");
  EXPECT_EQ(forged.code, 1);
  EXPECT_TRUE(forged.has("\"first_bad\": \"w")) << forged.text.substr(0, 500);
  EXPECT_FALSE(forged.has("\"charges\""));
}

}  // namespace
}  // namespace tokenworks::ledger::test
