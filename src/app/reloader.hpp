#pragma once
// Reloader: a thread that reads the configuration again when it is asked to, so that the thread that watches the engines
// goes on doing so while weights load. Asked again meanwhile, it runs once more.
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace tokenworks::app {

class Reloader {
 public:
  explicit Reloader(std::function<void()> reload) : reload_(std::move(reload)), thread_([this] { run(); }) {}
  ~Reloader() { stop(); }
  Reloader(const Reloader&) = delete;
  Reloader& operator=(const Reloader&) = delete;

  void ask() {
    {
      std::lock_guard lock(mutex_);
      asked_ = true;
    }
    changed_.notify_one();
  }
  void stop() {                                      // after the reload that runs
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return asked_ || stopping_; });
      if (stopping_) return;
      asked_ = false;
      lock.unlock();
      reload_();
      lock.lock();
    }
  }

  const std::function<void()> reload_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool asked_ = false, stopping_ = false;
  std::thread thread_;                               // last: starts when everything else stands
};

}  // namespace tokenworks::app
