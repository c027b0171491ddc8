#pragma once
// DeviceSampler: rows of logits to tokens on the device. What the rows ask for goes over in one copy, one kernel draws, and one
// copy brings the tokens back (with logprobs behind them only when a row wants any). Memory grows to what was ever needed, so
// a steady step allocates nothing. Owned by CudaBackend, the engine thread.
#include <span>
#include <vector>

#include "backend/cuda/step_state.hpp"

namespace tokenworks::backend::cuda {

class DeviceSampler {
 public:
  // Enqueues the draw and the copy back; `read` may be called when the stream was waited for.
  Result<> enqueue(Device& device, StepState& state, const float* logits, std::int32_t vocab, std::span<const SampleRow> rows);
  void read(std::span<const SampleRow> rows, std::span<Sampled> out) const;

 private:
  // Specs, then the lists they point into, as words.
  void pack(std::span<const SampleRow> rows, std::int32_t vocab);
  Result<> reserve(Device& device, std::size_t rows, std::size_t changed_floats);

  std::vector<std::int32_t> words_;
  std::int32_t changed_rows_ = 0, top_max_ = 0;
  Memory results_, changed_;
  Pinned results_pinned_;
};

}  // namespace tokenworks::backend::cuda
