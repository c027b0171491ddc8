// Usage and spend against plain sums over everything that was ever settled.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <tuple>

#include "fixture.hpp"

namespace tokenworks::ledger::test {
namespace {

struct Settled {
  Record record;
};
using Key = std::tuple<std::int64_t, std::string, std::string, std::string, std::string, std::string>;

std::map<Key, Cell> plain_usage(const std::vector<Record>& all, const UsageQuery& q) {
  std::map<Key, Cell> sums;
  for (const Record& r : all) {
    if (r.unix_ns < q.from_unix_ns || r.unix_ns >= q.to_unix_ns) continue;
    if (!q.organization.empty() && q.organization != r.organization.value) continue;
    const std::int64_t s = r.unix_ns / kSecondNs;
    const std::int64_t bucket = q.bucket_seconds == 0 ? 0 : s - s % q.bucket_seconds;
    const char* tiers[] = {"priority", "standard", "batch"};
    (void)sums[Key{bucket, r.organization.value, q.by_project ? r.project.value : "", q.by_model ? r.model.value : "",
                   q.by_tier ? tiers[static_cast<int>(r.tier)] : "", q.by_key ? r.key.value : ""}]
        .add({1, r.usage, r.amount.nano});
  }
  return sums;
}

std::map<Key, Cell> as_map(const std::vector<UsageRow>& rows) {
  std::map<Key, Cell> sums;
  for (const UsageRow& r : rows) {
    sums[Key{r.bucket_unix_s, r.organization, r.project, r.model, r.tier, r.key}] = {r.requests, r.usage, r.cost.nano};
    EXPECT_EQ(r.currency, "USD");
  }
  return sums;
}

TEST(Usage, AgreesWithAPlainSumForAnyQuestion) {
  std::mt19937_64 random(11);
  const auto pick = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n)); };
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  std::vector<Record> all;
  std::atomic<int> booked{0};
  constexpr int kRequests = 3000;
  for (int i = 1; i <= kRequests; ++i) {
    Record r = hold(request(i), 1'000'000, "org" + std::to_string(pick(3)));
    r.project.value = r.organization.value + "/p" + std::to_string(pick(3));
    r.key.value = "key" + std::to_string(pick(4));
    r.model.value = "model" + std::to_string(pick(2));
    r.tier = static_cast<Tier>(pick(3));
    // Forty days, clustered so that minutes hold several; some at exact edges.
    r.unix_ns = kNoon - pick(40) * kDaySeconds * kSecondNs - pick(3) * kHourNs -
                pick(100) * kSecondNs * (pick(4) == 0 ? 60 : 1) - pick(2) * pick(kSecondNs);
    ASSERT_TRUE(plant.ledger->append(r, {}));
    Record end = settle(r, pick(400'000), pick(400'000));
    end.usage = {pick(5000), 0, pick(3000), 0};
    end.usage.cached_input = pick(end.usage.input + 1);
    end.usage.reasoning = pick(end.usage.output + 1);
    ASSERT_TRUE(plant.ledger->append(end, [&](const Result<>& r) { booked += r ? 1 : 0; }));
    all.push_back(end);
    if (i % 500 == 0) {
      plant.clock.advance_ns(300'000'000);           // several flushes; the last entries stay behind the rollups
      ASSERT_TRUE(book(*plant.ledger, money(request(100'000 + i), EntryType::topup, 1)));
    }
  }
  ASSERT_TRUE(book(*plant.ledger, money(request(200'000), EntryType::topup, 1)));
  ASSERT_EQ(booked, kRequests);
  const auto minute_from = [&] {
    const auto reader = Reader::open(plant.options.path, plant.options.vfs);
    return *(*reader)->store().value("SELECT minute_from FROM state");
  };
  const std::int64_t minutes_before = minute_from();
  plant.clock.advance_ns(24 * kHourNs);              // a day of minutes to remove, one per commit
  for (int i = 1; i <= 60; ++i) {
    plant.clock.advance_ns(300'000'000);
    ASSERT_TRUE(book(*plant.ledger, money(request(200'000 + i), EntryType::topup, 1)));
  }
  ASSERT_TRUE(book(*plant.ledger, money(request(300'000), EntryType::topup, 1)));   // behind the rollups: the clock stands
  EXPECT_GT(minute_from(), minutes_before);
  {
    const auto reader = Reader::open(plant.options.path, plant.options.vfs);
    EXPECT_GT(*(*reader)->store().value("SELECT count(*) FROM rollups WHERE level = 60"), 0);
    EXPECT_GT(*(*reader)->store().value("SELECT (SELECT max(id) FROM entries) - rolled_through FROM state"), 0);
  }
  for (int i = 0; i < 400; ++i) {
    SCOPED_TRACE(i);
    UsageQuery q;
    const std::int64_t unit =
        std::array<std::int64_t, 5>{1, kSecondNs, 60 * kSecondNs, kHourNs, 24 * kHourNs}[random() % 5];
    const auto moment = [&] { return (kNoon - 41 * 24 * kHourNs + pick(42 * 24 * kHourNs)) / unit * unit; };
    if (pick(4) != 0) q.from_unix_ns = moment();
    if (pick(4) != 0) q.to_unix_ns = moment();
    if (pick(3) == 0) q.organization = "org" + std::to_string(pick(4));
    q.bucket_seconds = std::array<std::int64_t, 6>{0, 0, 60, 300, 3600, 86400}[random() % 6];
    q.by_project = pick(2) == 0, q.by_model = pick(2) == 0, q.by_tier = pick(2) == 0, q.by_key = pick(2) == 0;
    const auto rows = plant.ledger->usage(q);
    ASSERT_TRUE(rows) << rows.error().message;
    ASSERT_EQ(as_map(*rows), plain_usage(all, q));
  }
  for (int i = 0; i < 40; ++i) {                     // spend: by hour, from any moment, tiers folded together
    const std::int64_t from = kNoon - pick(41 * 24 * kHourNs);
    std::map<Key, Cell> spent;
    for (const SpendRow& r : *plant.ledger->spend_since(from)) {
      Cell& cell = spent[Key{r.hour_unix_s, r.organization.value, r.project.value, r.model.value, "", r.key.value}];
      ASSERT_EQ(cell.cost, 0);
      cell.cost = r.amount.nano, cell.usage.input = r.tokens;
    }
    UsageQuery q;
    q.from_unix_ns = from, q.bucket_seconds = 3600, q.by_key = true, q.by_tier = false;
    std::map<Key, Cell> expected;
    for (const auto& [key, cell] : plain_usage(all, q)) {
      expected[key] = {0, {cell.usage.input + cell.usage.output, 0, 0, 0}, cell.cost};
    }
    ASSERT_EQ(spent, expected);
  }
  EXPECT_FALSE(plant.ledger->usage({.bucket_seconds = 90}));
  EXPECT_TRUE(plant.ledger->verify()->ok);
}

TEST(Usage, OfAStoreThatFellSilentIsRolledUpAfterASecond) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  const Record open = hold(request(1), 10);
  ASSERT_TRUE(book(*plant.ledger, open));
  ASSERT_TRUE(book(*plant.ledger, settle(open, 1, 2)));
  const auto behind = [&] {
    const auto reader = Reader::open(plant.options.path, plant.options.vfs);
    return *(*reader)->store().value("SELECT (SELECT max(id) FROM entries) - rolled_through FROM state");
  };
  plant.clock.advance_ns(2 * kSecondNs);
  for (int i = 0; i < 1000 && behind() != 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(behind(), 0);
}

}  // namespace
}  // namespace tokenworks::ledger::test
