#include "backend/cpu/placed_thread.hpp"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

namespace tokenworks::backend {
namespace {

bool cores_of(pid_t tid, cpu_set_t& mask) {
  CPU_ZERO(&mask);
  return sched_getaffinity(tid, sizeof mask, &mask) == 0;
}

bool holds(const cpu_set_t& mask, int core) { return core >= 0 && core < CPU_SETSIZE && CPU_ISSET(static_cast<std::size_t>(core), &mask); }

cpu_set_t only(int core) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (core >= 0 && core < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(core), &mask);
  return mask;
}

}  // namespace

PlacedThread PlacedThread::self() {
  thread_local const PlacedThread known = [] {
    PlacedThread t;
    if (pthread_getcpuclockid(pthread_self(), &t.clock) == 0) t.tid = gettid();
    return t;
  }();
  return known;
}

std::int64_t PlacedThread::cpu_ns() const {
  timespec t{};
  return tid != 0 && clock_gettime(clock, &t) == 0 ? t.tv_sec * 1'000'000'000LL + t.tv_nsec : -1;
}

// An operator may set the masks of all threads meanwhile (taskset on the live process); whoever does begins with the main one.
// So its mask is read first and once more at the end: a change in between is followed, and one before it shows as a difference
// between the two.
bool PlacedThread::hold_on(int core, int held) const {
  cpu_set_t process, before, now;
  if (tid == 0 || !cores_of(getpid(), process) || !cores_of(tid, before)) return false;
  const cpu_set_t last = only(held), one = only(core);
  if (!CPU_EQUAL(&before, &process) && !(held >= 0 && CPU_EQUAL(&before, &last))) return false;
  if (!holds(process, core) || sched_setaffinity(tid, sizeof one, &one) != 0) return false;
  if (cores_of(getpid(), now) && !CPU_EQUAL(&now, &process)) sched_setaffinity(tid, sizeof now, &now);
  return true;
}

void PlacedThread::let_go(int held) const {
  cpu_set_t process, before, now;
  const cpu_set_t one = only(held);
  if (tid == 0 || !cores_of(getpid(), process) || !cores_of(tid, before) || !CPU_EQUAL(&before, &one)) return;
  sched_setaffinity(tid, sizeof process, &process);
  if (cores_of(getpid(), now) && !CPU_EQUAL(&now, &process)) sched_setaffinity(tid, sizeof now, &now);
}

// The main thread is what the others are compared with, and new threads inherit its mask: it is never narrowed.
bool PlacedThread::move_to(int core) const {
  if (tid == getpid() || !hold_on(core, -1)) return false;
  let_go(core);
  return true;
}

int current_core() { return sched_getcpu(); }

std::vector<int> process_cores() {
  std::vector<int> cores;
  cpu_set_t mask;
  if (!cores_of(getpid(), mask)) return cores;
  for (int c = 0; c < CPU_SETSIZE; ++c) {
    if (holds(mask, c)) cores.push_back(c);
  }
  return cores;
}

}  // namespace tokenworks::backend
