#pragma once
// SwapPool: which slots of host memory hold a block of a preempted sequence. A slot given back is zeroed by the next plan
// and can be taken again from the plan after that, so that no copy of a plan meets a zeroing of the same plan. Owned by the
// Scheduler; one thread.
#include <cstdint>
#include <vector>

namespace tokenworks::scheduler {

class SwapPool {
 public:
  explicit SwapPool(std::int32_t slots) : size_(slots) {
    free_.reserve(static_cast<std::size_t>(slots));
    for (std::int32_t s = slots; s-- > 0;) free_.push_back(s);
  }
  std::int32_t size() const { return size_; }
  std::int32_t free() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t used() const { return size_ - static_cast<std::int32_t>(free_.size() + given_back_.size() + zeroed_.size()); }

  std::int32_t take() {                              // requires free() > 0
    const std::int32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give_back(const std::vector<std::int32_t>& slots) { given_back_.insert(given_back_.end(), slots.begin(), slots.end()); }
  void begin_plan() {
    free_.insert(free_.end(), zeroed_.begin(), zeroed_.end());
    zeroed_.clear();
  }
  void end_plan(std::vector<std::int32_t>& to_zero) {
    to_zero = given_back_;
    zeroed_.swap(given_back_);
  }

 private:
  std::int32_t size_;
  std::vector<std::int32_t> free_, given_back_, zeroed_;
};

}  // namespace tokenworks::scheduler
