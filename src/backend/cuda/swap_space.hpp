#pragma once
// CudaSwapSpace: SwapSpace in pinned memory, copied by the device's own engines on the backend's stream; blocks that lie side
// by side in both places go as one copy. Owned by the model, the engine thread; the backend and its cache outlive it.
#include <functional>

#include "backend/cuda/objects.hpp"
#include "backend/cuda/step_graphs.hpp"

namespace tokenworks::backend::cuda {

class CudaSwapSpace final : public SwapSpace {
 public:
  // bad_config when the host does not give that much pinned memory. Times a few copies, so the cache must not be in use yet.
  static Result<std::unique_ptr<SwapSpace>> make(Device& device, StepGraphs& graphs, const CudaKvCache& cache, std::int32_t slots,
                                                 const std::function<std::int64_t()>& now_ns);
  ~CudaSwapSpace() override;

  std::int32_t slots() const override { return slots_; }
  double move_ns() const override { return move_ns_; }
  void out(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) override;
  void in(std::span<const std::int32_t> blocks, std::span<const std::int32_t> slots) override;
  void zero(std::span<const std::int32_t> slots) override;

 private:
  CudaSwapSpace(Device& device, StepGraphs& graphs, const CudaKvCache& cache, Pinned memory, std::int32_t slots)
      : device_(device), graphs_(graphs), cache_(cache), memory_(std::move(memory)), slots_(slots) {}
  std::byte* block(std::int32_t index) const { return cache_.data() + static_cast<std::size_t>(index) * cache_.block_bytes(); }
  std::byte* slot(std::int32_t index) const { return memory_.data() + static_cast<std::size_t>(index) * cache_.block_bytes(); }
  Result<> measure(const std::function<std::int64_t()>& now_ns);

  Device& device_;
  StepGraphs& graphs_;
  const CudaKvCache& cache_;
  Pinned memory_;
  std::int32_t slots_;
  double move_ns_ = 0;
};

}  // namespace tokenworks::backend::cuda
