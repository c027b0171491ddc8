#include "backend/cpu/thread_pool.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace tokenworks::backend {
namespace {

TEST(ThreadPool, RunsEveryJobOnceAndReturnsWhenAllAreDone) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const std::int32_t jobs : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<int> times(static_cast<std::size_t>(jobs));   // no atomics: a job's write must be visible after run
      std::vector<std::atomic<int>> by_thread(static_cast<std::size_t>(threads));
      pool.run(jobs, [&](std::int32_t job, int thread) {
        ++times[static_cast<std::size_t>(job)];
        by_thread[static_cast<std::size_t>(thread)].fetch_add(1);
      });
      for (const int n : times) ASSERT_EQ(n, 1) << jobs << " jobs on " << threads;
      int sum = 0;
      for (const auto& n : by_thread) sum += n;
      ASSERT_EQ(sum, jobs);
    }
  }
}

TEST(ThreadPool, ManyShortRoundsNeverMixTheirJobs) {
  ThreadPool pool(4);
  for (int round = 0; round < 20000; ++round) {
    const std::int32_t jobs = 2 + round % 5;
    int seen[6] = {};
    pool.run(jobs, [&, round](std::int32_t job, int) { seen[job] = round + 1; });
    for (std::int32_t j = 0; j < jobs; ++j) ASSERT_EQ(seen[j], round + 1);
  }
}

TEST(ThreadPool, WakesThreadsThatWentToSleep) {
  ThreadPool pool(3);
  for (int i = 0; i < 5; ++i) {
    // Longer than the bounded spin, so that the others are asleep; what is checked is that the round still completes.
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> done{0};
    pool.run(100, [&](std::int32_t, int) { done.fetch_add(1); });
    ASSERT_EQ(done.load(), 100);
  }
}

TEST(ThreadPool, RangesCoverEverythingOnceInOrderOfTheirPlaces) {
  ThreadPool pool(2);
  for (const std::int32_t count : {0, 1, 2, 7, 8, 9, 63, 1000}) {
    for (const std::int64_t cost : {1, 100000}) {
      std::vector<int> times(static_cast<std::size_t>(count));
      pool.run_ranges(count, cost, [&](std::int32_t first, std::int32_t n) {
        for (std::int32_t i = first; i < first + n; ++i) ++times[static_cast<std::size_t>(i)];
      });
      for (const int n : times) ASSERT_EQ(n, 1) << count;
    }
  }
}

// Field 3 of /proc/self/task/TID/stat, proc(5): 'S' is asleep.
char state_of(const std::string& tid) {
  std::ifstream in("/proc/self/task/" + tid + "/stat");
  std::string line;
  std::getline(in, line);
  const auto end = line.rfind(')');
  return end == std::string::npos || end + 2 >= line.size() ? '?' : line[end + 2];
}

// Other processes share the cores: a caller whose jobs are not done, and threads without a job, go to sleep. (A pool that
// spins without a bound never ends this test.)
TEST(ThreadPool, WhoHasNothingToDoFallsAsleep) {
  const std::string caller = std::to_string(gettid());
  std::atomic<bool> taken{false}, release{false};
  {
    ThreadPool pool(3);
    std::thread watcher([&] {
      while (!taken.load() || state_of(caller) != 'S') std::this_thread::yield();
      release.store(true);
      release.notify_all();
    });
    pool.run(2, [&](std::int32_t, int thread) {
      if (thread == 0) {
        while (!taken.load()) std::this_thread::yield();
      } else {
        taken.store(true);
        release.wait(false);
      }
    });
    watcher.join();
    // The pool's own threads, which are all that is left beside the caller.
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      const std::string tid = task.path().filename();
      while (tid != caller && state_of(tid) != 'S') std::this_thread::yield();
    }
  }
  EXPECT_TRUE(release.load());
}

// A thread that is late from a small round must not take a job of the larger round that is being set up.
TEST(ThreadPool, RoundsOfChangingSizesRunEveryJobExactlyOnce) {
  ThreadPool pool(6);
  std::vector<std::atomic<int>> runs(64);
  for (int round = 0; round < 40'000; ++round) {
    const std::int32_t jobs = round % 2 == 0 ? 2 : 64;
    for (auto& r : runs) r.store(0, std::memory_order_relaxed);
    pool.run(jobs, [&](std::int32_t job, int) { runs[static_cast<std::size_t>(job)].fetch_add(1); });
    for (std::int32_t j = 0; j < 64; ++j) ASSERT_EQ(runs[static_cast<std::size_t>(j)].load(), j < jobs ? 1 : 0) << "round " << round;
  }
}

}  // namespace
}  // namespace tokenworks::backend
