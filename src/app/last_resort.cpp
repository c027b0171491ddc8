#include "last_resort.hpp"

#include <pthread.h>
#include <unistd.h>

#include <chrono>

namespace tokenworks::app {

LastResortThread::LastResortThread(LastResort& resort)
    : thread_([this, &resort] {
        while (!stop_.try_acquire_for(std::chrono::nanoseconds(LastResort::kTickNs))) resort.tick();
      }) {
  pthread_setname_np(thread_.native_handle(), "tw-last-resort");
}

LastResortThread::~LastResortThread() {
  stop_.release();
  thread_.join();
}

void leave_at_once(int code) {
  // Not the logger: who hangs may hold its lock.
  constexpr char kLine[] = "{\"level\":\"error\",\"event\":\"device_lost\",\"action\":\"exit for restart\","
                           "\"reason\":\"the thread that watches the engines, or the orderly end, hung\"}\n";
  (void)!::write(STDERR_FILENO, kLine, sizeof kLine - 1);
  _exit(code);
}

}  // namespace tokenworks::app
