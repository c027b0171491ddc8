#pragma once
// What CudaBackend hands out: device memory behind Buffer, Weight, Activations and KvCache. Each frees its memory with the
// object; the Device outlives them all, being the backend's.
#include <memory>
#include <utility>
#include <vector>

#include "backend/cuda/device.hpp"
#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend::cuda {

// Memory that its owner frees: the device's, or host memory that copies may use later.
template <bool kPinned>
class Owned {
 public:
  Owned() = default;
  static Result<Owned> make(Device& device, std::size_t bytes, const char* what) {
    auto at = kPinned ? device.allocate_pinned(bytes) : device.allocate(bytes, what);
    if (!at) return at.error();
    Owned m;
    m.device_ = &device;
    m.at_ = *at;
    m.bytes_ = bytes;
    return m;
  }
  Owned(Owned&& other) noexcept { swap(other); }
  Owned& operator=(Owned&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Owned() {
    if (at_ != nullptr) kPinned ? device_->free_pinned(at_) : device_->free(at_);
  }
  std::byte* data() const { return static_cast<std::byte*>(at_); }
  float* floats() const { return static_cast<float*>(at_); }
  std::size_t bytes() const { return bytes_; }

 private:
  void swap(Owned& other) {
    std::swap(device_, other.device_);
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
  }
  Device* device_ = nullptr;
  void* at_ = nullptr;
  std::size_t bytes_ = 0;
};
using Memory = Owned<false>;
using Pinned = Owned<true>;

class CudaBuffer final : public Buffer {
 public:
  explicit CudaBuffer(Memory memory) : memory_(std::move(memory)) {}
  std::size_t bytes() const override { return memory_.bytes(); }
  std::byte* data() const { return memory_.data(); }
  float* floats() const { return memory_.floats(); }
  Memory release() { return std::move(memory_); }

 private:
  Memory memory_;
};

struct Matrix {                                      // shared by a table and a linear of the same tensor
  Memory data, scales, bias;
  kernels::cuda::Weights view;
};

class CudaWeight final : public Weight {
 public:
  std::size_t bytes() const override {
    if (!matrix) return vector.bytes();
    return shares ? 0 : matrix->data.bytes() + matrix->scales.bytes() + matrix->bias.bytes();
  }
  std::shared_ptr<const Matrix> matrix;              // of make_linear and make_table
  bool shares = false;                               // counted by another weight already
  Memory vector;                                     // of make_vector and make_rope
  std::int32_t rope_dims = 0;
  bool rope_interleaved = false;
};

class CudaActivations final : public Activations {
 public:
  Memory data, scales;
  Memory unquantised;                                // fp8 only: bf16 rows of what no producer quantises (attention)
  kernels::cuda::Element element = kernels::cuda::Element::bf16;
  std::int32_t rows_max = 0, stride_max = 0;
  std::int32_t columns = 0;                          // of what the last op left

  static std::int32_t stride_of(std::int32_t columns) {
    return (columns + kernels::cuda::kColumnPad - 1) / kernels::cuda::kColumnPad * kernels::cuda::kColumnPad;
  }
  kernels::cuda::Rows view(std::int32_t of_columns) const {
    return {data.data(), scales.floats(), element, of_columns, stride_of(of_columns)};
  }
};

class CudaKvCache final : public KvCache {
 public:
  CudaKvCache(Memory memory, const KvShape& shape, std::int32_t blocks, kernels::cuda::Element element)
      : memory_(std::move(memory)), shape_(shape), blocks_(blocks), element_(element) {}
  const KvShape& shape() const override { return shape_; }
  std::int32_t blocks() const override { return blocks_; }

  std::size_t half_bytes() const {                   // keys or values of a layer in a block
    return half_bytes_of(shape_, element_);
  }
  std::size_t block_bytes() const { return half_bytes() * 2 * static_cast<std::size_t>(shape_.layers); }
  static std::size_t half_bytes_of(const KvShape& shape, kernels::cuda::Element element) {
    return static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(kernels::cuda::kv_stride(shape.head_dim)) *
           kBlockTokens * kernels::cuda::bytes_of(element);
  }
  std::byte* data() const { return memory_.data(); }
  kernels::cuda::Kv layer(std::int32_t index) const {
    return {memory_.data() + half_bytes() * 2 * static_cast<std::size_t>(index), block_bytes(), half_bytes(), element_};
  }

 private:
  Memory memory_;
  KvShape shape_;
  std::int32_t blocks_;
  kernels::cuda::Element element_;
};

}  // namespace tokenworks::backend::cuda
