// A thread of the pool that holds a job but does not run is given another's core, and may run afterwards where it might before. What
// stands in here for being preempted is waiting inside of the job: its CPU time does not move either.
#include <gtest/gtest.h>

#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "backend/cpu/placed_thread.hpp"
#include "backend/cpu/thread_pool.hpp"

namespace tokenworks::backend {
namespace {

std::vector<int> cores_of(pid_t tid) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  EXPECT_EQ(sched_getaffinity(tid, sizeof mask, &mask), 0);
  std::vector<int> cores;
  for (int c = 0; c < CPU_SETSIZE; ++c) {
    if (CPU_ISSET(static_cast<std::size_t>(c), &mask)) cores.push_back(c);
  }
  return cores;
}

void allow(pid_t tid, const std::vector<int>& cores) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (const int c : cores) CPU_SET(static_cast<std::size_t>(c), &mask);
  ASSERT_EQ(sched_setaffinity(tid, sizeof mask, &mask), 0);
}

// Field 3 of /proc/self/task/TID/stat, proc(5): 'S' is asleep.
char state_of(pid_t tid) {
  std::ifstream in("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string line;
  std::getline(in, line);
  const auto end = line.rfind(')');
  return end == std::string::npos || end + 2 >= line.size() ? '?' : line[end + 2];
}

void wait_until_asleep(pid_t tid) {
  while (state_of(tid) != 'S') std::this_thread::yield();
}

// A pool of two whose rounds end once the one that was chosen waits in its job and the other one has fallen asleep over it. Its
// caller is a thread of its own, as the engine's is: the process's main thread is never moved.
class LentCores : public ::testing::Test {
 protected:
  void TearDown() override { allow(getpid(), cores_); }

  template <class Body>
  void as_caller(const Body& body) {
    std::thread caller([&] {
      caller_ = gettid();
      ThreadPool pool(2);
      pool_ = &pool;
      body();
    });
    caller.join();
  }

  // Thread `late` (0: the caller, 1: the worker) waits in its job until the other sleeps. Both jobs write what they were.
  void round(int late) {
    std::atomic<int> inside{0};
    std::atomic<bool> released{false};
    std::thread watcher([&] {
      while (inside.load() < 2) std::this_thread::yield();
      wait_until_asleep(late == 0 ? worker_.load() : caller_.load());
      released.store(true);
      released.notify_all();
    });
    std::int32_t result[2] = {-1, -1};
    pool_->run(2, [&](std::int32_t job, int thread) {
      if (thread == 1) worker_.store(gettid());
      inside.fetch_add(1);
      while (inside.load() < 2) std::this_thread::yield();   // each of them holds one job
      if (thread == late) released.wait(false);
      result[job] = job;
    });
    watcher.join();
    ASSERT_EQ(result[0], 0);
    ASSERT_EQ(result[1], 1);
  }
  // Rounds until cores were lent so often. One in which both stood on the same core does not count.
  void lend(int late, std::uint64_t times) {
    const std::uint64_t enough = pool_->lent() + times;
    for (int i = 0; i < 100'000 && pool_->lent() < enough; ++i) round(late);
    ASSERT_GE(pool_->lent(), enough);
  }
  // Until the worker, without work, has let itself go: it then may run where it might before. (Else the test does not end.)
  void settle() {
    wait_until_asleep(worker_);                      // where it was to go after its last job, it is
    while (cores_of(worker_) != cores_) std::this_thread::yield();
  }

  const std::vector<int> cores_ = cores_of(getpid());
  std::atomic<pid_t> caller_{0}, worker_{0};
  ThreadPool* pool_ = nullptr;
};

TEST_F(LentCores, AWorkerThatDoesNotRunIsLentTheCallersCoreAndIsAsFreeAsBeforeInTheEnd) {
  as_caller([&] {
    if (cores_.size() < 2) {                         // nothing to lend
      for (int i = 0; i < 20; ++i) round(1);
      EXPECT_EQ(pool_->lent(), 0u);
      return;
    }
    lend(1, 20);
    settle();
    EXPECT_EQ(cores_of(worker_), cores_);
    EXPECT_EQ(cores_of(caller_), cores_);
  });
}

TEST_F(LentCores, ACallerThatDoesNotRunIsGivenTheWorkersCoreAndIsAsFreeAsBefore) {
  if (cores_.size() < 2) return;
  as_caller([&] {
    lend(0, 20);
    EXPECT_EQ(cores_of(caller_), cores_);
    settle();
    EXPECT_EQ(cores_of(worker_), cores_);
  });
}

// Without a pause for it to let itself go in. On a machine that is never quiet for so long this shows nothing.
TEST_F(LentCores, AWorkerIsHeldOnACoreOfItsOwnOnlyForAWhile) {
  if (cores_.size() < 2) return;
  as_caller([&] {
    for (int i = 0; i < 5; ++i) {
      lend(1, 1);
      const std::uint64_t before = pool_->lent();
      for (std::uint32_t n = 0; n <= ThreadPool::kApartRounds; ++n) pool_->run(2, [](std::int32_t, int) {});
      if (pool_->lent() != before) continue;         // lent again meanwhile, in earnest
      wait_until_asleep(worker_);
      EXPECT_EQ(cores_of(worker_), cores_);
      return;
    }
  });
}

TEST_F(LentCores, WhoWasGivenCoresOfHisOwnKeepsThem) {
  as_caller([&] {
    round(1);
    settle();                                        // not held: what is set now is not to be mistaken for that
    for (const pid_t tid : {caller_.load(), worker_.load()}) {
      const int other = tid == caller_ ? 0 : 1;      // who is late in the rounds in which this one could be moved
      allow(tid, {cores_.back()});
      for (int i = 0; i < 20; ++i) round(other);
      EXPECT_EQ(cores_of(tid), std::vector<int>{cores_.back()});
      allow(tid, cores_);
      settle();
    }
  });
}

// An operator sets all threads of the live process, the main one first, while cores are lent at full speed.
TEST_F(LentCores, WhatAnOperatorSetsMeanwhileStays) {
  if (cores_.size() < 2) return;
  as_caller([&] {
    round(1);
    std::atomic<bool> stop{false};
    std::atomic<int> rounds{0};
    int widened = 0;
    std::thread operator_thread([&] {
      const auto pass = [&] {
        const int seen = rounds.load();
        while (rounds.load() < seen + 3) std::this_thread::yield();   // what was being moved has arrived
      };
      for (int i = 0; i < 60; ++i) {
        for (const pid_t tid : {getpid(), caller_.load(), worker_.load()}) allow(tid, cores_);
        pass();
        const std::vector<int> one{cores_[static_cast<std::size_t>(i) % 2]};
        for (const pid_t tid : {getpid(), caller_.load(), worker_.load()}) allow(tid, one);
        pass();
        widened += cores_of(worker_) != one || cores_of(caller_) != one;
      }
      stop.store(true);
    });
    for (int i = 0; !stop.load(); ++i) {
      round(i % 2);
      rounds.fetch_add(1);
    }
    operator_thread.join();
    EXPECT_EQ(widened, 0);
  });
}

TEST(PlacedThread, GoesWhereItMayRunAndNowhereElse) {
  const std::vector<int> cores = cores_of(getpid());
  std::atomic<bool> ready{false}, stop{false};
  PlacedThread other;
  std::thread runs([&] {
    other = PlacedThread::self();
    ready.store(true);
    while (!stop.load()) std::atomic_signal_fence(std::memory_order_seq_cst);
  });
  while (!ready.load()) std::this_thread::yield();
  const std::int64_t cpu = other.cpu_ns();
  while (other.cpu_ns() <= cpu) std::this_thread::yield();   // it runs
  int held = -1;
  for (int i = 0; i < 20; ++i) {
    for (const int core : cores) {
      EXPECT_TRUE(other.hold_on(core, held));
      EXPECT_EQ(cores_of(other.tid), std::vector<int>{core});
      held = core;
    }
  }
  other.let_go(held);
  EXPECT_EQ(cores_of(other.tid), cores);
  for (const int core : cores) {
    EXPECT_TRUE(other.move_to(core));
    EXPECT_EQ(cores_of(other.tid), cores);
  }
  for (const int core : {-1, CPU_SETSIZE, CPU_SETSIZE - 1}) {
    if (core != cores.back()) { EXPECT_FALSE(other.move_to(core)) << core; }
  }
  EXPECT_EQ(cores_of(other.tid), cores);
  stop.store(true);
  runs.join();
  EXPECT_FALSE(PlacedThread::self().move_to(cores.front())) << "the main thread was moved";
  EXPECT_FALSE(PlacedThread{}.move_to(cores.front()));
  EXPECT_EQ(PlacedThread{}.cpu_ns(), -1);
}

}  // namespace
}  // namespace tokenworks::backend
