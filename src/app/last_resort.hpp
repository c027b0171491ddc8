#pragma once
// LastResort: ends the process when its orderly end, or the thread that watches the engines, hangs. A step that never returns
// may have stopped anywhere, with a lock in its hands that the rest of the plant waits for; then nobody is left to end it, and a
// daemon that answers nothing would go on standing. What the ledger committed stands, and recovery settles the rest at the start
// (DESIGN.md "Ledger and money").
// Time is counted in ticks that really ran, so that a process that was stopped or a machine that slept is not taken for hanging.
// Thread: alive() and within() from any, without a lock. tick() from one.
#include <atomic>
#include <cstdint>
#include <functional>
#include <semaphore>
#include <thread>

namespace tokenworks::app {

class LastResort {
 public:
  static constexpr std::int64_t kTickNs = 250'000'000;

  // `expired` is called once, by tick(), when nobody said alive() for `patience_ns` of ticks, or within() is over.
  LastResort(std::int64_t patience_ns, std::function<void()> expired) : patience_(ticks(patience_ns)), expired_(std::move(expired)) {
    left_ = patience_;
  }
  void alive() { left_ = patience_; }
  void within(std::int64_t ns) { left_ = ticks(ns); }  // from now on: the last word; alive() is not said any more
  void rest() { left_ = kNever; }                    // an orderly stop takes the time it takes
  void tick() {
    std::int64_t left = left_;
    while (left > 0 && left != kNever && !left_.compare_exchange_weak(left, left - 1)) {
    }
    if (left == 1) expired_();
  }

 private:
  static constexpr std::int64_t kNever = INT64_MAX;
  static std::int64_t ticks(std::int64_t ns) { return ns / kTickNs + 1; }

  const std::int64_t patience_;
  const std::function<void()> expired_;
  std::atomic<std::int64_t> left_;
};

// Runs a LastResort's ticks on a thread of its own that takes no lock and no memory, until it is destroyed.
class LastResortThread {
 public:
  explicit LastResortThread(LastResort& resort);
  ~LastResortThread();
  LastResortThread(const LastResortThread&) = delete;
  LastResortThread& operator=(const LastResortThread&) = delete;

 private:
  std::binary_semaphore stop_{0};
  std::thread thread_;
};

// Says on standard error that the device is lost and that the orderly end hung, and leaves with `code`. No lock, no destructor.
[[noreturn]] void leave_at_once(int code);

}  // namespace tokenworks::app
