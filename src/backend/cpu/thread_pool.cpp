#include "backend/cpu/thread_pool.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

namespace tokenworks::backend {
namespace {

constexpr std::uint64_t kClosed = 0x7FFFFFFF;        // a job number above every count
constexpr int kSpins = 4000;                         // pauses, some 50-150 us: longer than any serial part of a step
constexpr int kLook = 200;                           // pauses in which the CPU time of a thread that runs has moved
constexpr timespec kLookAgain{0, 200'000};           // while the caller sleeps, and nobody has its core
constexpr timespec kIdle{0, 100'000'000};            // after which a worker that is held lets itself go

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::atomic_signal_fence(std::memory_order_seq_cst);
#endif
}

// False: the time was over.
bool sleep_while(const std::atomic<std::uint32_t>& word, std::uint32_t value, const timespec* at_most = nullptr) {
  return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, at_most, nullptr, 0) == 0 || errno != ETIMEDOUT;
}
void wake_all(const std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// Preempted, as far as can be told from outside. (One that waits for a page looks the same, and does not mind.)
bool stands_still(const PlacedThread& thread) {
  const std::int64_t before = thread.cpu_ns();
  for (int i = 0; i < kLook; ++i) pause();
  return before >= 0 && thread.cpu_ns() == before;
}

}  // namespace

void ThreadPool::Member::takes() {
  const PlacedThread self = PlacedThread::self();
  tid.store(self.tid, std::memory_order_relaxed);
  clock.store(self.clock, std::memory_order_relaxed);
  core.store(current_core(), std::memory_order_relaxed);
  holds.store(a_job, std::memory_order_release);
}

bool ThreadPool::Member::hold_on(int on) {
  std::lock_guard lock(placing);
  if (!thread().hold_on(on, held.load(std::memory_order_relaxed))) return false;
  held.store(on, std::memory_order_relaxed);
  return true;
}

void ThreadPool::Member::let_go() {
  std::lock_guard lock(placing);
  const int from = held.exchange(-1, std::memory_order_relaxed);
  if (from >= 0) thread().let_go(from);
}

ThreadPool::ThreadPool(int threads) {
  for (int t = 1; t < threads; ++t) members_.push_back(std::make_unique<Member>());
  try {
    for (int t = 1; t < threads; ++t) {
      workers_.emplace_back([this, t] { work_loop(*members_[static_cast<std::size_t>(t - 1)], t); });
    }
  } catch (const std::exception&) {                  // the system gives no more threads: those there are must be joined first
    end();
    throw;
  }
}

ThreadPool::~ThreadPool() { end(); }

void ThreadPool::end() {
  stop_.store(true);
  round_.fetch_add(1);
  wake_all(round_);
  for (std::thread& t : workers_) t.join();
}

void ThreadPool::run_jobs(std::int32_t jobs, Function function, const void* context) {
  if (apart_rounds_.load(std::memory_order_relaxed) > 0) keep_apart();
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
  caller_.takes();
  const std::int32_t mine = take_jobs(round, 0);
  caller_leaves();
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
  bool lent = lend_to_worker();
  while (true) {
    caller_sleeps_.store(1);
    if (done_.load() == jobs) break;
    sleep_while(caller_sleeps_, 1, lent ? nullptr : &kLookAgain);
    if (!lent && done_.load() != jobs) lent = lend_to_worker();
  }
  caller_sleeps_.store(0);
}

// A core for a worker that nobody of the pool has; -1: none.
int ThreadPool::free_core(int besides) const {
  std::vector<int> cores = process_cores();
  std::erase(cores, besides);
  for (const auto& worker : members_) std::erase(cores, worker->held.load(std::memory_order_relaxed));
  return cores.empty() ? -1 : cores.front();
}

// Before a round, while others compete for the cores: the system may have put the caller where a worker is held.
void ThreadPool::keep_apart() {
  const bool over = apart_rounds_.fetch_sub(1, std::memory_order_relaxed) == 1;
  if (over) std::atomic_thread_fence(std::memory_order_seq_cst);   // work_loop: one of the two sees what the other wrote
  const int here = current_core();
  for (const auto& worker : members_) {
    const int held = worker->held.load(std::memory_order_relaxed);
    if (held >= 0 && over) worker->let_go();
    if (held < 0 || over || held != here) continue;
    const int core = free_core(here);
    if (core < 0 || !worker->hold_on(core)) worker->let_go();
  }
}

// A worker that holds a job but does not run was preempted. On this core it runs as soon as the caller sleeps, instead of when
// the process that took its own core has used up its time; the kernel's balancing often leaves it where it is, because it ran a
// moment ago and its caches count as hot. Afterwards it goes back to wait for its turn where it was, or, if that was here already,
// where nobody of us is.
bool ThreadPool::lend_to_worker() {
  const int here = current_core();
  for (const auto& worker : members_) {
    if (worker->holds.load(std::memory_order_acquire) != Member::a_job || !stands_still(worker->thread())) continue;
    const int core = worker->core.load(std::memory_order_relaxed);
    const int home = core != here ? core : free_core(here);
    if (home < 0 || worker->holds.load(std::memory_order_acquire) != Member::a_job) continue;
    worker->home.store(home, std::memory_order_relaxed);
    if (!worker->hold_on(here)) {
      worker->home.store(-1, std::memory_order_relaxed);
      continue;
    }
    lent_.fetch_add(1, std::memory_order_relaxed);
    apart_rounds_.store(kApartRounds, std::memory_order_relaxed);
    return true;
  }
  return false;
}

// The other way round: the caller was preempted, and this worker would sleep. They change cores, since the caller has the longer
// way to go: between two ops it works alone. If they stand on the same one, the worker leaves it.
void ThreadPool::lend_to_caller(Member& self) {
  if (caller_.holds.load(std::memory_order_acquire) != Member::a_job || !stands_still(caller_.thread())) return;
  int expected = Member::a_job;                      // from here it cannot leave the op, so the thread is there
  if (!caller_.holds.compare_exchange_strong(expected, Member::being_moved)) return;
  const int here = current_core(), there = caller_.core.load(std::memory_order_relaxed);
  const bool moved = here != there && caller_.thread().move_to(here);
  caller_.holds.store(Member::a_job, std::memory_order_release);
  if (here != there && !moved) return;
  const int home = moved ? there : free_core(here);
  if (home < 0 || !self.hold_on(home)) return;
  lent_.fetch_add(1, std::memory_order_relaxed);
  apart_rounds_.store(kApartRounds, std::memory_order_relaxed);
}

void ThreadPool::caller_leaves() {
  int expected = Member::a_job;
  while (!caller_.holds.compare_exchange_strong(expected, Member::nothing)) {
    expected = Member::a_job;
    sched_yield();                                   // the worker that moved this thread may wait for this core now
  }
}

void ThreadPool::work_loop(Member& self, int thread) {
  std::uint32_t seen = 0;
  while (true) {
    std::uint32_t round = round_.load(std::memory_order_acquire);
    for (int i = 0; i < kSpins && round == seen; ++i) {
      pause();
      round = round_.load(std::memory_order_acquire);
    }
    if (round == seen) {
      lend_to_caller(self);
      sleepers_.fetch_add(1);
      while ((round = round_.load()) == seen) {
        const bool held = self.held.load(std::memory_order_relaxed) >= 0;
        if (!sleep_while(round_, seen, held ? &kIdle : nullptr)) self.let_go();
      }
      sleepers_.fetch_sub(1);
    }
    if (stop_.load()) return;
    seen = round;
    self.takes();
    const std::int32_t taken = take_jobs(round, thread);
    const std::int32_t jobs = jobs_.load(std::memory_order_relaxed);
    const bool last = taken > 0 && done_.fetch_add(taken) + taken == jobs;
    self.holds.store(Member::nothing, std::memory_order_release);
    if (last && caller_sleeps_.exchange(0) == 1) wake_all(caller_sleeps_);
    if (const int home = self.home.exchange(-1, std::memory_order_relaxed); home >= 0 && self.hold_on(home)) {
      // It may come here after the rounds in which workers are held, having been preempted all that time.
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (apart_rounds_.load(std::memory_order_relaxed) == 0) self.let_go();
    }
  }
}

}  // namespace tokenworks::backend
