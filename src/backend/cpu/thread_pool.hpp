#pragma once
// ThreadPool: the compute threads of a CPU backend. The thread that calls `run` (the engine's) works too; the others wait
// for it between ops, spinning only for a bounded while, then asleep: HTTP threads share the cores.
//
// Jobs are handed out one by one, so a thread that the system took away delays an op by at most the job it holds. `run`
// returns when all jobs are done, and does not wait for a thread that took none. Which thread does a job never changes
// its result.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace tokenworks::backend {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);                  // the caller counts: `threads` - 1 are started
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

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

 private:
  static constexpr std::int64_t kWorthSharing = 3000;

  using Function = void (*)(const void*, std::int32_t, int);

  void run_jobs(std::int32_t jobs, Function function, const void* context);
  void work_loop(int thread);
  std::int32_t take_jobs(std::uint32_t round, int thread);
  void wait_done(std::int32_t jobs);

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
  std::vector<std::thread> workers_;
};

}  // namespace tokenworks::backend
