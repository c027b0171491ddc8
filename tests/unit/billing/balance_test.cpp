#include "tokenworks/billing/balance.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace tokenworks::billing {
namespace {

RequestId id(std::uint8_t n) {
  RequestId id;
  id.bytes[15] = n;
  return id;
}
ledger::Credit credit(std::uint8_t n, std::int64_t amount, std::int64_t expires = 0) { return {id(n), Money{amount}, Money{amount}, expires, 0}; }

struct Open {
  std::int64_t amount;
  Balance::Epoch epoch;
};
Open hold(Balance& balance, std::int64_t amount) {
  EXPECT_LE(amount, balance.free().nano);
  const Balance::Epoch epoch = balance.epoch();
  balance.hold(Money{amount}, epoch);
  return {amount, epoch};
}
void end(Balance& balance, const Open& open, std::int64_t charge) { balance.end(Money{open.amount}, Money{charge}, open.epoch); }

TEST(Balance, ACreditThatNobodyStandsOnLapsesWholeAtItsInstant) {
  Balance balance;
  balance.top_up(credit(1, 10, 100));
  balance.top_up(credit(2, 5));
  EXPECT_TRUE(balance.expire(99).empty());
  EXPECT_EQ(balance.free().nano, 15);
  const auto lapses = balance.expire(100);
  ASSERT_EQ(lapses.size(), 1u);
  EXPECT_EQ(lapses[0].credit, id(1));
  EXPECT_EQ(lapses[0].amount.nano, 10);
  EXPECT_EQ(balance.balance().nano, 5);
  EXPECT_TRUE(balance.expire(100).empty()) << "once";
}

TEST(Balance, WhatAHoldStandsOnStaysUsableForItAndTheRestLapses) {
  Balance balance;
  balance.top_up(credit(1, 10, 100));
  const Open old = hold(balance, 4);
  auto lapses = balance.expire(100);
  ASSERT_EQ(lapses.size(), 1u);
  EXPECT_EQ(lapses[0].amount.nano, 6);
  EXPECT_EQ(balance.balance().nano, 4);
  EXPECT_EQ(balance.free().nano, 0) << "nothing of it for a new hold";
  end(balance, old, 3);
  EXPECT_EQ(balance.free().nano, 0) << "what it left over is nobody's, before it is booked as well";
  lapses = balance.expire(101);
  ASSERT_EQ(lapses.size(), 1u);
  EXPECT_EQ(lapses[0].amount.nano, 1);
  EXPECT_NE(lapses[0].mark, 200);
  EXPECT_EQ(balance.balance().nano, 0);
  EXPECT_FALSE(balance.due(1'000));
}

TEST(Balance, ANewHoldDoesNotSpendWhatStandsForAnOldOne) {
  Balance balance;
  balance.top_up(credit(1, 2, 100));
  balance.top_up(credit(2, 5, 200));
  const Open old = hold(balance, 2);
  EXPECT_TRUE(balance.expire(100).empty()) << "all of it is held";
  EXPECT_EQ(balance.free().nano, 5);
  const Open fresh = hold(balance, 5);
  end(balance, fresh, 5);                            // the stack spends the expired credit first: what is left is the old hold's
  EXPECT_TRUE(balance.expire(200).empty()) << "the second credit is spent, whatever the order of the stack says";
  EXPECT_EQ(balance.balance().nano, 2);
  end(balance, old, 2);
  EXPECT_EQ(balance.balance().nano, 0);
  EXPECT_TRUE(balance.expire(300).empty());
}

TEST(Balance, ACreditLineIsOwedUpToItsAmountAndATopUpPaysTheDebtFirst) {
  Balance balance;
  EXPECT_FALSE(balance.limited());
  balance.set_credit_line(Money{10});
  EXPECT_TRUE(balance.limited());
  const Open first = hold(balance, 10);
  EXPECT_EQ(balance.free().nano, 0);
  end(balance, first, 7);
  EXPECT_EQ(balance.balance().nano, -7);
  EXPECT_EQ(balance.free().nano, 3);
  balance.top_up(credit(1, 20, 100));
  EXPECT_EQ(balance.balance().nano, 13);
  EXPECT_EQ(balance.free().nano, 23);
  const auto lapses = balance.expire(100);
  ASSERT_EQ(lapses.size(), 1u);
  EXPECT_EQ(lapses[0].amount.nano, 13);
  EXPECT_EQ(balance.free().nano, 10);
}

// Ten thousand random lives against sums kept beside: nothing is spent twice, lost early, or kept too long.
TEST(Balance, RandomLivesKeepEveryUnit) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n)); };
    Balance balance;
    std::vector<Open> open;
    std::map<std::uint8_t, std::pair<std::int64_t, std::int64_t>> credits;   // amount, expiry
    std::map<std::uint8_t, std::int64_t> lapsed;
    std::int64_t now = 1, put = 0, charged = 0, gone = 0;
    std::uint8_t next = 0;
    const auto book = [&](const std::vector<Balance::Lapse>& lapses) {
      for (const Balance::Lapse& lapse : lapses) {
        gone += lapse.amount.nano;
        lapsed[lapse.credit.bytes[15]] += lapse.amount.nano;
        EXPECT_GT(lapse.amount.nano, 0);
        EXPECT_LE(lapse.expires_unix_ns, now);
      }
    };
    for (int step = 0; step < 300; ++step) {
      const std::int64_t what = below(10);
      if (what == 0 && next < 200) {
        const std::int64_t amount = 1 + below(50), expires = below(4) == 0 ? 0 : now + 1 + below(60);
        balance.top_up(credit(++next, amount, expires));
        credits[next] = {amount, expires};
        put += amount;
      } else if (what <= 4) {
        book(balance.expire(now));
        const std::int64_t free = balance.free().nano;
        ASSERT_GE(free, 0) << "seed " << seed;
        if (free > 0) open.push_back(hold(balance, 1 + below(free)));
      } else if (what <= 7 && !open.empty()) {
        const auto at = static_cast<std::size_t>(below(static_cast<std::int64_t>(open.size())));
        const std::int64_t charge = below(open[at].amount + 1);
        end(balance, open[at], charge);
        charged += charge;
        open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
        if (below(2) == 0) book(balance.expire(now));
      } else {
        now += below(8);
        book(balance.expire(now));
      }
      ASSERT_EQ(balance.balance().nano, put - charged - gone) << "seed " << seed << " step " << step;
      ASSERT_GE(balance.balance().nano, balance.held().nano) << "seed " << seed << " step " << step;
    }
    for (const Open& o : open) end(balance, o, 0);
    book(balance.expire(now));
    std::int64_t alive = 0, dead = 0;
    for (const auto& [n, c] : credits) {
      const bool expired = c.second != 0 && c.second <= now;
      (expired ? dead : alive) += c.first;
      EXPECT_LE(lapsed[n], expired ? c.first : 0) << "seed " << seed << " credit " << int{n};
    }
    EXPECT_LE(gone, dead) << "seed " << seed;
    EXPECT_GE(balance.balance().nano, alive - charged) << "seed " << seed << ": something lapsed that had not expired";
    EXPECT_LE(balance.balance().nano, alive) << "seed " << seed << ": something expired is still there";
    for (const ledger::Credit& c : balance.credits()) EXPECT_FALSE(ledger::expired(c, now)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tokenworks::billing
