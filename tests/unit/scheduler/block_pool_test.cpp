#include "scheduler/block_pool.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace tokenworks::scheduler {
namespace {

std::vector<TokenId> tokens(TokenId first) {
  std::vector<TokenId> t(kBlockTokens);
  std::iota(t.begin(), t.end(), first);
  return t;
}

// Allocates, publishes and lets go of a block: it is cached.
std::int32_t cache_one(BlockPool& pool, std::uint32_t tenant, Hash128 hash, TokenId first, std::int32_t parent = BlockPool::kNone) {
  const std::int32_t b = pool.allocate(tenant);
  EXPECT_TRUE(pool.publish(b, hash, parent, tokens(first)));
  pool.release(b, true);
  return b;
}

TEST(BlockPool, EvictsTheOldestOfTheTenantMostOverItsShare) {
  BlockPool pool(8, 128);
  pool.set_tenant(0, 1);
  pool.set_tenant(1, 4);
  std::vector<std::int32_t> small, large;
  for (std::uint64_t i = 0; i < 3; ++i) small.push_back(cache_one(pool, 0, {i, 1}, 10));
  for (std::uint64_t i = 0; i < 5; ++i) large.push_back(cache_one(pool, 1, {i, 2}, 10));
  ASSERT_EQ(pool.free(), 0);
  // 3 blocks at weight 1 against 5 at weight 4: tenant 0 gives first, its oldest; then again (2 > 5/4), then tenant 1.
  EXPECT_EQ(pool.allocate(1), small[0]);
  EXPECT_EQ(pool.allocate(1), small[1]);
  EXPECT_EQ(pool.allocate(1), large[0]);
  EXPECT_EQ(pool.zero(), (std::vector<std::int32_t>{small[0], small[1], large[0]}));
  EXPECT_EQ(pool.audit(), "");
}

TEST(BlockPool, AHitNeedsTenantTokensAndTheSameParentWhateverTheHashSays) {
  BlockPool pool(8, 0);                              // every hash is the same
  pool.set_tenant(0, 1);
  pool.set_tenant(1, 1);
  const std::int32_t root = cache_one(pool, 0, {1, 1}, 10);
  const std::int32_t other_root = cache_one(pool, 0, {2, 2}, 50);
  const std::int32_t child = cache_one(pool, 0, {3, 3}, 100, root);
  EXPECT_EQ(pool.find(0, {9, 9}, BlockPool::kNone, tokens(10)), root);
  EXPECT_EQ(pool.find(0, {9, 9}, root, tokens(100)), child);
  EXPECT_EQ(pool.find(1, {9, 9}, BlockPool::kNone, tokens(10)), BlockPool::kNone);
  EXPECT_EQ(pool.find(0, {9, 9}, BlockPool::kNone, tokens(11)), BlockPool::kNone);
  EXPECT_EQ(pool.find(0, {9, 9}, other_root, tokens(100)), BlockPool::kNone);
  EXPECT_EQ(pool.find(0, {9, 9}, BlockPool::kNone, tokens(100)), BlockPool::kNone);
}

TEST(BlockPool, ABlockIsNotTheParentOfWhatStoodBehindItInAnEarlierLife) {
  BlockPool pool(2, 0);
  pool.set_tenant(0, 1);
  const std::int32_t parent = cache_one(pool, 0, {1, 1}, 10);
  pool.acquire(parent);
  const std::int32_t child = cache_one(pool, 0, {2, 2}, 100, parent);
  pool.acquire(child);
  pool.forget(parent);                               // its numbers were not to be trusted
  pool.release(parent, true);
  const std::int32_t again = pool.allocate(0);
  ASSERT_EQ(again, parent);                          // the same block, other content
  ASSERT_TRUE(pool.publish(again, {3, 3}, BlockPool::kNone, tokens(500)));
  EXPECT_EQ(pool.find(0, {2, 2}, again, tokens(100)), BlockPool::kNone);
  EXPECT_EQ(pool.audit(), "");
}

TEST(BlockPool, TheSameContentIsIndexedOnce) {
  BlockPool pool(4, 128);
  pool.set_tenant(0, 1);
  const std::int32_t first = cache_one(pool, 0, {1, 1}, 10);
  const std::int32_t second = pool.allocate(0);
  EXPECT_FALSE(pool.publish(second, {1, 1}, BlockPool::kNone, tokens(10)));
  EXPECT_EQ(pool.find(0, {1, 1}, BlockPool::kNone, tokens(10)), first);
  pool.release(second, true);
  EXPECT_EQ(pool.free(), 3);                         // not indexed: not kept
}

}  // namespace
}  // namespace tokenworks::scheduler
