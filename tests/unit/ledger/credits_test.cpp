// Credits: the pure order in which they are spent, and the stored table that follows it, over flushes and restarts.
#include "tokenworks/ledger/credits.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "fixture.hpp"

namespace tokenworks::ledger::test {
namespace {

Credit credit(int id, std::int64_t nano, std::int64_t expires = 0) { return {request(id), {nano}, {}, expires, kNoon}; }

TEST(CreditStack, SpendsTheSoonestFirstTheNeverExpiringLastAndTiesById) {
  CreditStack stack;
  stack.add(credit(4, 10));
  stack.add(credit(3, 10, 200));
  stack.add(credit(2, 10, 100));
  stack.add(credit(1, 10, 200));
  std::vector<RequestId> order;
  stack.draw({35}, [&](const Credit& c) { order.push_back(c.operation); });
  EXPECT_EQ(order, (std::vector<RequestId>{request(2), request(1), request(3), request(4)}));
  ASSERT_EQ(stack.credits().size(), 1u);
  EXPECT_EQ(stack.remaining(), Money{5});
  EXPECT_EQ(stack.debt(), Money{0});
}

TEST(CreditStack, WhatNoCreditCoversIsDebtThatTheNextCreditPays) {
  CreditStack stack;
  stack.add(credit(1, 10));
  stack.draw({25});
  EXPECT_EQ(stack.debt(), Money{15});
  stack.add(credit(2, 12));
  EXPECT_EQ(stack.debt(), Money{3});
  EXPECT_TRUE(stack.credits().empty());
  stack.add(credit(3, 5, 50));
  EXPECT_EQ(stack.debt(), Money{0});
  EXPECT_EQ(stack.remaining(), Money{2});
  EXPECT_EQ(stack.expired_remaining(49), Money{0});
  EXPECT_EQ(stack.expired_remaining(50), Money{2});
}

// Every random history of credits and draws: the sum is the balance, one of rest and debt is zero, nothing below zero.
TEST(CreditStack, RestLessDebtIsAlwaysTheBalance) {
  std::mt19937_64 random(11);
  for (int life = 0; life < 300; ++life) {
    CreditStack stack;
    std::int64_t balance = 0;
    for (int i = 1; i < 60; ++i) {
      const auto amount = static_cast<std::int64_t>(random() % 1000);
      if (random() % 3 == 0) {
        stack.add(credit(i, amount, random() % 2 == 0 ? 0 : static_cast<std::int64_t>(random() % 50)));
        balance += amount;
      } else {
        stack.draw({amount});
        balance -= amount;
      }
      ASSERT_EQ(stack.remaining().nano - stack.debt().nano, balance);
      ASSERT_TRUE(stack.remaining().nano == 0 || stack.debt().nano == 0);
      ASSERT_TRUE(std::is_sorted(stack.credits().begin(), stack.credits().end(), spent_before));
      for (const Credit& c : stack.credits()) ASSERT_GT(c.remaining.nano, 0);
    }
  }
}

Record topup(int id, std::int64_t nano, std::int64_t expires, const std::string& organization = "acme") {
  Record r = money(request(id), EntryType::topup, nano, organization);
  r.expires_unix_ns = expires;
  return r;
}

std::map<RequestId, std::int64_t> left(Ledger& ledger, const std::string& organization = "acme") {
  std::map<RequestId, std::int64_t> rest;
  const auto rows = ledger.credits({organization});
  EXPECT_TRUE(rows) << rows.error().message;
  for (const Credit& c : *rows) rest[c.operation] = c.remaining.nano;
  return rest;
}

TEST(LedgerCredits, FollowTopupsAdjustsAndSettlesBeforeAndAfterAFlushAndARestart) {
  for (const std::int64_t flush_every : {std::int64_t{0}, std::int64_t{1} << 60}) {   // at every commit; only at closing
    SCOPED_TRACE(flush_every);
    Plant plant;
    plant.tuning.rollups.every_ns = flush_every;
    ASSERT_EQ(plant.open(), "");
    ASSERT_TRUE(book(*plant.ledger, topup(1, 1000, 0)));
    ASSERT_TRUE(book(*plant.ledger, topup(2, 100, kNoon + kHourNs)));
    ASSERT_TRUE(book(*plant.ledger, topup(3, 50, 0, "globex")));
    ASSERT_TRUE(book(*plant.ledger, topup(1, 1000, 0)));   // the same again
    EXPECT_FALSE(book(*plant.ledger, topup(1, 1000, kNoon + 1)));   // another expiry under the same id
    const Record open = hold(request(10), 500);
    ASSERT_TRUE(book(*plant.ledger, open));
    ASSERT_TRUE(book(*plant.ledger, settle(open, 100, 30)));
    std::map<RequestId, std::int64_t> expected{{request(1), 970}, {request(2), 0}};
    EXPECT_EQ(left(*plant.ledger), expected);
    plant.kill_and_restart_disk();
    ASSERT_EQ(plant.open(), "");
    EXPECT_EQ(left(*plant.ledger), expected);
    ASSERT_TRUE(book(*plant.ledger, money(request(4), EntryType::adjust, -1000)));
    ASSERT_TRUE(book(*plant.ledger, money(request(5), EntryType::adjust, 40)));
    expected = {{request(1), 0}, {request(2), 0}, {request(5), 10}};
    EXPECT_EQ(left(*plant.ledger), expected);
    EXPECT_EQ(left(*plant.ledger, "globex"), (std::map<RequestId, std::int64_t>{{request(3), 50}}));
    EXPECT_TRUE(left(*plant.ledger, "nobody").empty());
    ASSERT_EQ(plant.open(), "");
    EXPECT_EQ(left(*plant.ledger), expected);
    const auto rows = plant.ledger->credits({"acme"});
    EXPECT_EQ(rows->front().expires_unix_ns, kNoon + kHourNs);
    EXPECT_EQ(rows->front().amount, Money{100});
    EXPECT_EQ(plant.ledger->entries_of(request(2))->front().expires_unix_ns, kNoon + kHourNs);
    const auto report = plant.ledger->verify();
    EXPECT_TRUE(report->ok) << report->first_bad.value_or("");
  }
}

TEST(LedgerCredits, AnExpiryOnWhatIsNoCreditOrInThePastIsRefused) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  EXPECT_FALSE(book(*plant.ledger, topup(1, 10, kNoon)));
  EXPECT_FALSE(book(*plant.ledger, topup(1, -10, kNoon + 1)));
  Record adjust = money(request(1), EntryType::adjust, 10);
  adjust.expires_unix_ns = kNoon + 1;
  EXPECT_FALSE(book(*plant.ledger, adjust));
  EXPECT_TRUE(plant.ledger->credits({"acme"})->empty());
}

TEST(TagSpend, IsKeptByHashPerQuarterOfAnHourAndOrganization) {
  const std::string secret = "server";
  const TagHash search = tag_hash(secret, {"acme"}, "team", "search"), other = tag_hash(secret, {"acme"}, "team", "ads");
  EXPECT_NE(search, tag_hash(secret, {"globex"}, "team", "search"));
  EXPECT_NE(search, tag_hash("other", {"acme"}, "team", "search"));
  EXPECT_NE(search, tag_hash(secret, {"acme"}, "teams", "earch"));
  for (const std::int64_t flush_every : {std::int64_t{0}, std::int64_t{1} << 60}) {
    Plant plant;
    plant.tuning.rollups.every_ns = flush_every;
    ASSERT_EQ(plant.open(), "");
    for (int i = 1; i <= 6; ++i) {
      Record open = hold(request(i), 100);
      open.tag_hashes = {search};
      if (i % 2 == 0) open.tag_hashes.push_back(other);
      ASSERT_TRUE(book(*plant.ledger, open));
      Record end = settle(open, i, 1);
      end.unix_ns += i > 4 ? 900 * kSecondNs : 0;
      ASSERT_TRUE(book(*plant.ledger, end));
    }
    const auto sums = [&](std::int64_t from) {
      std::map<std::pair<TagHash, std::int64_t>, std::pair<std::int64_t, std::int64_t>> all;
      const auto rows = plant.ledger->spend_by_tag(from);
      EXPECT_TRUE(rows);
      for (const TagSpendRow& row : *rows) all[{row.tag, row.bucket_unix_s}] = {row.amount.nano, row.tokens};
      return all;
    };
    const std::int64_t noon = kNoon / kSecondNs;
    const std::map<std::pair<TagHash, std::int64_t>, std::pair<std::int64_t, std::int64_t>> late = {
        {{search, noon + 900}, {13, 280}}, {{other, noon + 900}, {7, 140}}};
    auto all = late;
    all[{search, noon}] = {14, 560};
    all[{other, noon}] = {8, 280};
    EXPECT_EQ(sums(0), all);
    EXPECT_EQ(sums(kNoon + 899 * kSecondNs), all);
    EXPECT_EQ(sums(kNoon + 901 * kSecondNs), late);
    ASSERT_EQ(plant.open(), "");
    EXPECT_EQ(sums(0), all);
    EXPECT_EQ(plant.ledger->entries_of(request(2))->back().tag_hashes, (std::vector<TagHash>{search, other}));
    EXPECT_TRUE(plant.ledger->verify()->ok);
  }
}

TEST(TagSpend, TagsTwiceTooManyOrOnMoneyAreRefused) {
  Plant plant;
  ASSERT_EQ(plant.open(), "");
  Record twice = hold(request(1), 1);
  twice.tag_hashes = {TagHash{1}, TagHash{1}};
  EXPECT_FALSE(book(*plant.ledger, twice));
  Record many = hold(request(1), 1);
  for (std::uint8_t i = 0; i <= kTagHashesMax; ++i) many.tag_hashes.push_back(TagHash{i});
  EXPECT_FALSE(book(*plant.ledger, many));
  Record paid = money(request(2), EntryType::topup, 5);
  paid.tag_hashes = {TagHash{1}};
  EXPECT_FALSE(book(*plant.ledger, paid));
}

}  // namespace
}  // namespace tokenworks::ledger::test
