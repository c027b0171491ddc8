#pragma once
// PlacedThread: a thread as the others of its pool see it: does it run, and where. Made by the thread itself, then looked at and
// placed by any other for as long as it lives. A thread that was given other cores than its process's main thread is somebody's
// decision and is left alone; so is everything where the system does not tell or allow it (more than 1,024 cores, seccomp).
// Functions that place one thread are called by one thread at a time.
#include <sys/types.h>
#include <time.h>

#include <cstdint>
#include <vector>

namespace tokenworks::backend {

struct PlacedThread {
  pid_t tid = 0;                                     // 0: unknown, is never placed
  clockid_t clock{};                                 // of its CPU time

  static PlacedThread self();                        // the calling thread; asked of the system once per thread

  std::int64_t cpu_ns() const;                       // CPU time so far, exact also while it runs; -1: unknown

  // From now on it runs on that core alone, at once. `held`: the core it was held on before, -1: none. False, and nothing done,
  // if it may not run there.
  bool hold_on(int core, int held) const;
  // No longer: it may run where the process's main thread may. Left alone if somebody gave it other cores meanwhile.
  void let_go(int held) const;
  // There now, and where the system likes afterwards.
  bool move_to(int core) const;
};

int current_core();                                  // -1: unknown
std::vector<int> process_cores();                    // where the process's main thread may run

}  // namespace tokenworks::backend
