// Who waits for whom at the workers.
#include "gateway/workbench.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace tokenworks::gateway {
namespace {

// Jobs that stand still until they are told to go on, and a record of the order in which jobs began.
class Floor {
 public:
  std::function<void()> job(const std::string& name, bool stands = false) {
    return [this, name, stands] {
      std::unique_lock lock(mutex_);
      begun_.push_back(name);
      changed_.notify_all();
      if (stands) changed_.wait(lock, [&] { return open_; });
    };
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  std::vector<std::string> wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(60), [&] { return begun_.size() >= count; });
    return begun_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> begun_;
  bool open_ = false;
};

TEST(Workbench, OneWithManyJobsLetsAnotherInAfterASingleOne) {
  Floor floor;
  boost::asio::thread_pool pool(1);
  Workbench bench(pool, 1);
  bench.post("acme", Work::grammar, floor.job("first", true));
  floor.wait_for(1);
  for (int i = 0; i < 20; ++i) bench.post("acme", Work::grammar, floor.job("acme"));
  bench.post("beta", Work::grammar, floor.job("beta"));
  bench.post("beta", Work::grammar, floor.job("beta"));
  floor.open();
  const auto begun = floor.wait_for(23);
  ASSERT_EQ(begun.size(), 23u) << "each is done once";
  EXPECT_EQ((std::vector<std::string>{begun.begin(), begun.begin() + 6}), (std::vector<std::string>{"first", "acme", "beta", "acme", "beta", "acme"}));
  pool.join();
}

TEST(Workbench, GrammarsLeaveAWorkerToPromptsAndNoneIsForgotten) {
  Floor floor;
  boost::asio::thread_pool pool(2);
  Workbench bench(pool, 2);
  bench.post("acme", Work::grammar, floor.job("grammar", true));
  for (int i = 0; i < 10; ++i) bench.post(std::to_string(i), Work::grammar, floor.job("grammar"));
  floor.wait_for(1);
  for (int i = 0; i < 5; ++i) bench.post("acme", Work::prompt, floor.job("prompt"));
  const auto begun = floor.wait_for(6);
  ASSERT_EQ(begun.size(), 6u) << "prompts do not wait for grammars";
  EXPECT_EQ(std::count(begun.begin(), begun.end(), "grammar"), 1) << "one at a time";
  floor.open();
  EXPECT_EQ(floor.wait_for(16).size(), 16u);
  pool.join();
}

TEST(Workbench, WhatWasNotBegunIsDroppedWithTheStoppedPool) {
  Floor floor;
  auto kept = std::make_shared<int>(0);
  {
    boost::asio::thread_pool pool(2);
    Workbench bench(pool, 2);
    bench.post("acme", Work::grammar, floor.job("grammar", true));
    floor.wait_for(1);
    for (int i = 0; i < 100; ++i) bench.post("acme", Work::grammar, [kept] { ++*kept; });
    pool.stop();
    floor.open();
    pool.join();
  }
  EXPECT_EQ(*kept, 0);
  EXPECT_EQ(kept.use_count(), 1);
}

}  // namespace
}  // namespace tokenworks::gateway
