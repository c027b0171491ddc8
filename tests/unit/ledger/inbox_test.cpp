// The queue before the ledger thread: under a load that never lets it run empty it keeps what waits and little more.
#include "ledger/inbox.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace tokenworks::ledger::test {
namespace {

TEST(Inbox, AQueueThatNeverRunsEmptyStaysAsLongAsWhatWaits) {
  constexpr std::size_t kWaiting = 1000, kBatch = 100;
  std::vector<int> items;
  std::size_t next = 0, longest = 0;
  int put = 0, taken = 0;
  while (put < static_cast<int>(kWaiting)) items.push_back(put++);
  for (int round = 0; round < 10'000; ++round) {
    for (std::size_t i = 0; i < kBatch; ++i) items.push_back(put++);
    for (std::size_t i = 0; i < kBatch; ++i) ASSERT_EQ(items[next++], taken++);
    drop_consumed(items, next);
    longest = std::max(longest, items.size());
    ASSERT_EQ(items.size() - next, kWaiting);
  }
  EXPECT_LE(longest, 2 * kWaiting + kBatch);
  while (next < items.size()) ASSERT_EQ(items[next++], taken++);
  drop_consumed(items, next);
  EXPECT_TRUE(items.empty());
  EXPECT_EQ(next, 0u);
  EXPECT_EQ(taken, put);
}

}  // namespace
}  // namespace tokenworks::ledger::test
