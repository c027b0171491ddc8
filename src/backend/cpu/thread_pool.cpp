#include "backend/cpu/thread_pool.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace tokenworks::backend {
namespace {

constexpr std::uint64_t kClosed = 0x7FFFFFFF;        // a job number above every count
constexpr int kSpins = 4000;                         // pauses, some 50-150 us: longer than any serial part of a step

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

void sleep_while(const std::atomic<std::uint32_t>& word, std::uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
}
void wake_all(const std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { work_loop(t); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  round_.fetch_add(1);
  wake_all(round_);
  for (std::thread& t : workers_) t.join();
}

void ThreadPool::run_jobs(std::int32_t jobs, Function function, const void* context) {
  const std::uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  // The old round is closed before its fields change: a thread that still looks at it would else see the new job count
  // under the old ticket and take a job that is not there. Any exchange against the old ticket fails from here on.
  ticket_.exchange(std::uint64_t{round - 1} << 32 | kClosed, std::memory_order_acq_rel);
  function_.store(function, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  jobs_.store(jobs, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  ticket_.store(std::uint64_t{round} << 32, std::memory_order_release);
  round_.store(round);                               // sequentially consistent, as is the read of sleepers_: one sees the other
  if (sleepers_.load() > 0) wake_all(round_);
  const std::int32_t mine = take_jobs(round, 0);
  if (done_.fetch_add(mine) + mine < jobs) wait_done(jobs);
}

std::int32_t ThreadPool::take_jobs(std::uint32_t round, int thread) {
  std::int32_t taken = 0;
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (static_cast<std::uint32_t>(ticket >> 32) == round) {
    // Read before the exchange: if it succeeds the round was still open, so these belonged to it.
    const Function function = function_.load(std::memory_order_relaxed);
    const void* const context = context_.load(std::memory_order_relaxed);
    const std::int32_t jobs = jobs_.load(std::memory_order_relaxed);
    const auto job = static_cast<std::int32_t>(ticket & 0xFFFFFFFFu);
    if (job >= jobs) break;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    function(context, job, thread);
    ++taken;
    ticket = ticket_.load(std::memory_order_acquire);
  }
  return taken;
}

void ThreadPool::wait_done(std::int32_t jobs) {
  for (int i = 0; i < kSpins; ++i) {
    if (done_.load(std::memory_order_acquire) == jobs) return;
    pause();
  }
  while (true) {
    caller_sleeps_.store(1);
    if (done_.load() == jobs) break;
    sleep_while(caller_sleeps_, 1);
  }
  caller_sleeps_.store(0);
}

void ThreadPool::work_loop(int thread) {
  std::uint32_t seen = 0;
  while (true) {
    std::uint32_t round = round_.load(std::memory_order_acquire);
    for (int i = 0; i < kSpins && round == seen; ++i) {
      pause();
      round = round_.load(std::memory_order_acquire);
    }
    if (round == seen) {
      sleepers_.fetch_add(1);
      while ((round = round_.load()) == seen) sleep_while(round_, seen);
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
    seen = round;
    const std::int32_t taken = take_jobs(round, thread);
    if (taken == 0) continue;
    const std::int32_t jobs = jobs_.load(std::memory_order_relaxed);
    if (done_.fetch_add(taken) + taken == jobs && caller_sleeps_.exchange(0) == 1) wake_all(caller_sleeps_);
  }
}

}  // namespace tokenworks::backend
