#pragma once
// Clock: where time comes from. Pure code takes `now` as an argument; the rest takes a Clock&, so that a test can cross
// midnight or a suspended machine in a microsecond. Thread-safe.
#include <atomic>
#include <cstdint>

namespace tokenworks {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::int64_t steady_ns() const = 0;        // never steps back; for intervals and deadlines
  virtual std::int64_t unix_ns() const = 0;          // wall clock; may step; for entries and calendars
  std::int64_t steady_ms() const { return steady_ns() / 1'000'000; }
  std::int64_t unix_ms() const { return unix_ns() / 1'000'000; }
};

class SystemClock final : public Clock {
 public:
  std::int64_t steady_ns() const override;
  std::int64_t unix_ns() const override;
};

class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::int64_t unix_ns) : unix_(unix_ns) {}
  std::int64_t steady_ns() const override { return steady_.load(); }
  std::int64_t unix_ns() const override { return unix_.load(); }
  void advance_ns(std::int64_t ns) { steady_ += ns, unix_ += ns; }
  void step_wall_ns(std::int64_t ns) { unix_ += ns; }   // a clock that was set, not one that ran

 private:
  std::atomic<std::int64_t> steady_{1'000'000'000};
  std::atomic<std::int64_t> unix_;
};

}  // namespace tokenworks
