// The cache has shares that may be borrowed: what is borrowed is what gets taken back, from whom it has to be, and no more.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "support/scheduler_driver.hpp"

namespace tokenworks::scheduler {
namespace {

using test::SchedulerDriver;

// 48 blocks, slots for everybody: the cache is what is scarce.
Options small_cache() {
  Options o;
  o.kv_blocks = 48;
  o.context_tokens = 48 * 16;
  o.rows_max = 1024;
  o.sequences_max = 64;
  o.cache_secret = "secret";
  o.prefix_cache = false;
  o.step_target_ns = 1'000'000'000;
  return o;
}

std::vector<TokenId> prompt(std::size_t length, TokenId first) {
  std::vector<TokenId> p(length);
  std::iota(p.begin(), p.end(), first);
  return p;
}

struct Lender {
  SchedulerDriver driver{small_cache()};
  std::mt19937_64 random{1};
  std::map<Handle, std::uint64_t> preempted;          // with the id it stands for
  std::vector<Handle> order;

  Handle add(std::uint32_t tenant, Tier tier, std::size_t blocks, std::int64_t output) {
    return driver.add(tenant, 1, tier, prompt(16 * blocks - 8, 1 + 1000 * ++count_), output);
  }
  void step() {
    driver.step(random);
    for (const Handle h : driver.plan().preempted) preempted[h] = driver.live().at(h).id, order.push_back(h);
    ASSERT_EQ(driver.scheduler().audit(), "");
  }
  bool runs(Handle h) { return driver.live().count(h) != 0 && driver.live().at(h).running; }

 private:
  TokenId count_ = 0;
};

TEST(Borrowing, AHeadWithinItsShareTakesBackWhatIsBorrowedAndNothingElse) {
  Lender l;
  const Handle modest = l.add(2, Tier::standard, 4, 8);         // far below its share, and stays
  std::vector<Handle> borrowed;
  for (int i = 0; i < 10; ++i) borrowed.push_back(l.add(0, Tier::standard, 4, 8));   // all the rest of the cache
  l.step();
  l.step();
  ASSERT_GE(std::count_if(borrowed.begin(), borrowed.end(), [&](Handle h) { return l.runs(h); }), 9);
  const Handle claims = l.add(1, Tier::standard, 12, 8);        // of the 16 that are its third of the cache
  l.step();
  EXPECT_TRUE(l.runs(claims));
  EXPECT_TRUE(l.runs(modest));
  EXPECT_FALSE(l.order.empty());
  for (const Handle h : l.order) EXPECT_NE(std::find(borrowed.begin(), borrowed.end(), h), borrowed.end());
  EXPECT_GE(std::count_if(borrowed.begin(), borrowed.end(), [&](Handle h) { return l.runs(h); }), 4);   // its own share is left to it
  const std::size_t taken = l.order.size();
  EXPECT_LE(taken, 4u);                                          // 12 blocks and what growth needs, in fours
  for (int i = 0; i < 200 && !l.driver.live().empty(); ++i) l.step();
  EXPECT_TRUE(l.driver.live().empty());                          // who was put off finished, with its own tokens (the driver looks)
}

TEST(Borrowing, BeyondItsShareNobodyIsPutOffForIt) {
  Lender l;
  for (int i = 0; i < 11; ++i) l.add(0, Tier::standard, 4, 8);
  l.step();
  const Handle large = l.add(1, Tier::standard, 30, 4);          // its half is 24
  l.step();
  EXPECT_FALSE(l.runs(large));
  EXPECT_TRUE(l.order.empty());
  for (int i = 0; i < 400 && !l.driver.live().empty(); ++i) l.step();
  EXPECT_TRUE(l.driver.live().empty());                          // it waits for room, not for ever
}

TEST(Borrowing, TheLowestTierGivesBackFirst) {
  Lender l;
  std::vector<Handle> batch, standard;
  for (int i = 0; i < 5; ++i) batch.push_back(l.add(0, Tier::batch, 4, 8));
  for (int i = 0; i < 6; ++i) standard.push_back(l.add(1, Tier::standard, 4, 8));
  l.step();
  l.step();
  const Handle claims = l.add(2, Tier::standard, 8, 4);
  l.step();
  EXPECT_TRUE(l.runs(claims));
  ASSERT_FALSE(l.order.empty());
  EXPECT_NE(std::find(batch.begin(), batch.end(), l.order.front()), batch.end());
  for (const Handle h : l.order) EXPECT_EQ(std::find(standard.begin(), standard.end(), h), standard.end());
}

}  // namespace
}  // namespace tokenworks::scheduler
