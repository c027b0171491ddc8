#include "backend/cuda/step_graphs.hpp"

#include <utility>

namespace tokenworks::backend::cuda {

void StepGraphs::begin(std::int32_t bucket, std::function<void()> copy) {
  finish();                                          // a step that nobody asked for the result of
  copy_ = std::move(copy);
  cursor_ = 0;
  entry_ = bucket > 0 ? &entries_[bucket] : nullptr;
  if (entry_ == nullptr || !entry_->seen) {
    if (entry_ != nullptr) entry_->seen = true;
    mode_ = Mode::eager;
    copy_();
  } else if (entry_->graph) {
    mode_ = Mode::replay;
  } else {
    mode_ = Mode::capture;
    entry_->keys.clear();
    entry_->ops.clear();
    device_.begin_capture(device_.stream());
  }
}

void StepGraphs::leave_replay() {
  mode_ = Mode::eager;
  copy_();
  for (std::size_t i = 0; i < cursor_; ++i) entry_->ops[i]();
}

void StepGraphs::finish() {
  if (mode_ == Mode::capture) {
    mode_ = Mode::eager;
    auto graph = device_.end_capture(device_.stream());
    copy_();
    if (graph) {
      entry_->graph = std::move(*graph);
      device_.launch(*entry_->graph, device_.stream());
    } else {
      for (const auto& op : entry_->ops) op();       // the device's own error shows at the next synchronisation
    }
  } else if (mode_ == Mode::replay) {
    if (cursor_ == entry_->keys.size()) {
      mode_ = Mode::eager;
      copy_();
      device_.launch(*entry_->graph, device_.stream());
    } else {
      leave_replay();
    }
  }
}

void StepGraphs::clear() {
  finish();
  entries_.clear();
  entry_ = nullptr;
}

std::size_t StepGraphs::graphs() const {
  std::size_t n = 0;
  for (const auto& [bucket, entry] : entries_) n += entry.graph != nullptr;
  return n;
}

}  // namespace tokenworks::backend::cuda
