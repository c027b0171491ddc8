#pragma once
// Snapshot<T>: read-mostly state that is replaced whole. Readers keep what they got for as long as they hold the pointer.
// A mutex around a shared_ptr: std::atomic<shared_ptr> in libstdc++ 12 makes TSan report races. Never hold one across
// a co_await longer than needed: an old snapshot pins its memory.
#include <memory>
#include <mutex>

namespace tokenworks {

template <class T>
class Snapshot {
 public:
  explicit Snapshot(std::shared_ptr<const T> value = nullptr) : value_(std::move(value)) {}

  std::shared_ptr<const T> get() const {
    std::lock_guard lock(mutex_);
    return value_;
  }
  void set(std::shared_ptr<const T> value) {
    {
      std::lock_guard lock(mutex_);
      value_.swap(value);
    }                                                // the old one dies outside the lock
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
};

}  // namespace tokenworks
