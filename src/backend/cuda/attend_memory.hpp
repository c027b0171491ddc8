#pragma once
// AttendMemory: where the plan of a step's attention lies on the device, and the partial results of its pieces. Sized once for
// the most rows a step may have, so that a step allocates nothing and a captured graph finds the plan in the same place. Owned
// by CudaBackend, the engine thread.
#include "backend/cuda/objects.hpp"

namespace tokenworks::backend::cuda {

class AttendMemory {
 public:
  // Sequences of at most so many rows (decoding, verifying drafts) are cut along their context.
  static constexpr std::int32_t kDecodeRows = 8;
  static constexpr std::int32_t kChunk = 128;        // positions of a piece, doubled until the pieces fit their list

  // Room for steps of `rows_max` rows of a model of this shape; true in `moved` when addresses changed.
  Result<> reserve(Device& device, std::int32_t rows_max, const kernels::cuda::HeadShape& shape, bool* moved);
  // What `reserve` will take, for planning memory before there is a step.
  static std::size_t bytes(const Device& device, std::int32_t rows_max, const kernels::cuda::HeadShape& shape);
  const kernels::cuda::AttendPlan& plan() const { return plan_; }
  float* partials() const { return partials_.floats(); }

 private:
  Memory lists_, partials_;
  kernels::cuda::AttendPlan plan_;
  std::int32_t rows_max_ = 0;
  kernels::cuda::HeadShape shape_;
};

}  // namespace tokenworks::backend::cuda
