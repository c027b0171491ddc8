#pragma once
// StepGraphs: decode steps as CUDA graphs, one per batch bucket, without the model knowing. The ops of a step pass through
// `run` with a key that names everything they depend on. A bucket's first step runs eagerly (it warms the libraries up), the
// second is captured op by op and launched when somebody wants its result, later ones are only compared with the recorded
// keys and launched whole; an op that differs makes the step eager from where it stands, its past run from the record. The
// engine thread.
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "backend/cuda/device.hpp"

namespace tokenworks::backend::cuda {

using OpKey = std::array<std::uint64_t, 9>;

class StepGraphs {
 public:
  explicit StepGraphs(Device& device) : device_(device) {}

  // A step begins. bucket 0: eager. `copy` brings the step's rows over, before anything runs.
  void begin(std::int32_t bucket, std::function<void()> copy);
  template <class F>
  void run(const OpKey& key, F op) {
    if (mode_ == Mode::replay) {
      if (cursor_ < entry_->keys.size() && entry_->keys[cursor_] == key) {
        ++cursor_;
        return;
      }
      leave_replay();
    }
    if (mode_ == Mode::capture) {
      entry_->keys.push_back(key);
      entry_->ops.emplace_back(op);
    }
    op();
  }
  // What was recorded or matched is launched; everything after it is eager. Called before results are read.
  void finish();
  bool eager() const { return mode_ == Mode::eager; }
  void clear();                                      // addresses changed
  std::size_t graphs() const;

 private:
  enum class Mode : std::uint8_t { eager, capture, replay };
  struct Entry {
    bool seen = false;
    std::unique_ptr<Graph> graph;
    std::vector<OpKey> keys;
    std::vector<std::function<void()>> ops;
  };
  void leave_replay();

  Device& device_;
  std::map<std::int32_t, Entry> entries_;
  Entry* entry_ = nullptr;
  Mode mode_ = Mode::eager;
  std::size_t cursor_ = 0;
  std::function<void()> copy_;
};

}  // namespace tokenworks::backend::cuda
