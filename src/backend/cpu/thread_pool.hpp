#pragma once
// ThreadPool: the compute threads of a CPU backend. The thread that calls `run` (the engine's) works too; the others wait
// for it between ops, spinning only for a bounded while, then asleep: HTTP threads share the cores.
//
// Jobs are handed out one by one, so a thread that the system took away delays an op by at most the job it holds. `run`
// returns when all jobs are done, and does not wait for a thread that took none. Which thread does a job never changes
// its result.
//
// When another process takes a thread's core in the middle of a job, the others would wait for that process's whole time
// slice. They lend the thread a core that they do not need while they wait: the caller its own for as long as the job takes, a
// worker without a job its own for good, against the one the caller was on. Until that has not happened for a while each worker is
// held on a core of its own, since the system, to which two of our threads on one core and the other process on the other look
// balanced, would leave them so (Linux affinities; placed_thread.hpp says what is respected).
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/cpu/placed_thread.hpp"

namespace tokenworks::backend {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);                  // the caller counts: `threads` - 1 are started, or std::system_error
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // How often a thread was given another core because one that held a job did not run, since the start; any thread.
  std::uint64_t lent() const { return lent_.load(std::memory_order_relaxed); }

  // Calls work(job, thread) for every job in [0, jobs), thread in [0, threads()). One caller at a time; no nesting.
  template <class Work>
  void run(std::int32_t jobs, const Work& work) {
    if (jobs <= 1 || workers_.empty()) {
      for (std::int32_t j = 0; j < jobs; ++j) work(j, 0);
      return;
    }
    run_jobs(
        jobs, [](const void* w, std::int32_t job, int thread) { (*static_cast<const Work*>(w))(job, thread); }, &work);
  }

  // Calls work(first, count) over ranges that make up [0, count), in parallel when it is worth waking another thread:
  // `cost` is what an item takes, roughly, in nanoseconds.
  template <class Work>
  void run_ranges(std::int32_t count, std::int64_t cost, const Work& work) {
    if (count <= 0) return;
    if (workers_.empty() || count * cost < kWorthSharing) return work(0, count);
    const std::int32_t ranges = std::min(count, threads() * 4);
    run(ranges, [&](std::int32_t job, int) {
      const auto first = static_cast<std::int32_t>(std::int64_t{count} * job / ranges);
      work(first, static_cast<std::int32_t>(std::int64_t{count} * (job + 1) / ranges) - first);
    });
  }

  // So many calls of run after the last time workers are no longer held on cores of their own: a second of work, more or less.
  static constexpr std::uint32_t kApartRounds = 30'000;

 private:
  static constexpr std::int64_t kWorthSharing = 3000;

  using Function = void (*)(const void*, std::int32_t, int);

  // A thread that takes jobs. What others read of it is written before `holds` says that it has one.
  struct alignas(64) Member {
    enum Holds : int { nothing, a_job, being_moved };
    std::atomic<int> holds{nothing};                 // a job that is not counted as done; being_moved: only the caller's
    std::atomic<int> core{-1};                       // where it was when it took that job
    std::atomic<int> home{-1};                       // where it goes to after that job
    std::atomic<pid_t> tid{0};
    std::atomic<clockid_t> clock{};
    std::mutex placing;
    std::atomic<int> held{-1};                       // a worker's: the only core it may run on; changed under `placing`
    void takes();                                    // the thread itself
    PlacedThread thread() const { return {tid.load(std::memory_order_relaxed), clock.load(std::memory_order_relaxed)}; }
    bool hold_on(int on);
    void let_go();
  };

  void run_jobs(std::int32_t jobs, Function function, const void* context);
  void work_loop(Member& self, int thread);
  void end();
  std::int32_t take_jobs(std::uint32_t round, int thread);
  void wait_done(std::int32_t jobs);
  void caller_leaves();
  bool lend_to_worker();
  void lend_to_caller(Member& self);
  void keep_apart();
  int free_core(int besides) const;

  // The round in the high half, the next job in the low one: a job can only be taken for the round it belongs to.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  std::atomic<std::int32_t> jobs_{0};
  std::atomic<Function> function_{nullptr};
  std::atomic<const void*> context_{nullptr};
  alignas(64) std::atomic<std::int32_t> done_{0};
  std::atomic<std::uint32_t> caller_sleeps_{0};
  alignas(64) std::atomic<std::uint32_t> round_{0};  // what idle threads sleep on
  std::atomic<std::int32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> lent_{0};
  std::atomic<std::uint32_t> apart_rounds_{0};       // how many more rounds the workers are held on cores of their own
  Member caller_;
  std::vector<std::unique_ptr<Member>> members_;     // of workers_
  std::vector<std::thread> workers_;
};

}  // namespace tokenworks::backend
