#pragma once
// DeviceSampler: rows of logits to tokens on the device. What the rows ask for goes over in one copy, one kernel draws, and one
// copy brings the tokens back (with logprobs behind them only when a row wants any). Memory grows to what was ever needed, so
// a steady step allocates nothing. Two draws may be under way, each in a slot of its own. Owned by CudaBackend, the engine thread.
#include <array>
#include <span>
#include <vector>

#include "backend/cuda/step_state.hpp"

namespace tokenworks::backend::cuda {

class DeviceSampler {
 public:
  // Enqueues the draw and the copy back; `read` may be called when they were waited for, with as many rows.
  Result<> enqueue(Device& device, StepState& state, const float* logits, std::int32_t vocab, std::span<const SampleRow> rows,
                   std::size_t slot);
  void read(std::size_t slot, std::span<Sampled> out) const;
  const std::int32_t* drawn() const { return reinterpret_cast<const std::int32_t*>(results_.data()); }   // by the last one, on the device

 private:
  // Specs, then the lists they point into, as words.
  void pack(std::span<const SampleRow> rows, std::int32_t vocab);
  Result<> reserve(Device& device, std::size_t rows, std::size_t vocab, Pinned& pinned);
  std::vector<std::size_t> share_changed(std::size_t rows, std::size_t vocab);   // where launches end

  std::vector<std::int32_t> words_;
  std::int32_t changed_rows_ = 0, top_max_ = 0;      // changed_rows_: of this step, those with rules
  Memory results_, changed_;
  struct Slot {
    Pinned results;
    std::vector<std::int32_t> wanted;                // logprobs, by row
    std::int32_t top_max = 0;
  };
  std::array<Slot, 2> slots_;
};

}  // namespace tokenworks::backend::cuda
