#pragma once
// What a CPU backend hands out: memory, weights, activations, a cache. Plain owners; the ops read them directly.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/memory.hpp"
#include "kernels/ops.hpp"
#include "tokenworks/backend/backend.hpp"

namespace tokenworks::backend {

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(Pages pages) : pages_(std::move(pages)) {}
  std::size_t bytes() const override { return pages_.bytes(); }
  std::byte* data() const { return pages_.data(); }
  float* floats() const { return reinterpret_cast<float*>(pages_.data()); }

 private:
  Pages pages_;
};

// Panels of one matrix. Parts of different types are segments: each has panels of its own, side by side in the output.
struct Matrix {
  struct Segment {
    kernels::Panels panels;
    std::int32_t column = 0;                         // of the output where its rows begin
  };
  Pages pages;
  std::vector<float> bias;                           // per segment, rows rounded up to 32
  std::vector<Segment> segments;
  std::int32_t rows = 0, columns = 0;
};

class CpuWeight final : public Weight {
 public:
  std::size_t bytes() const override {                // memory that two weights share is counted at the first
    return !matrix ? vector.size() * sizeof(float) : shares ? 0 : matrix->pages.bytes();
  }

  std::shared_ptr<const Matrix> matrix;              // a linear or a table; tied ones share it
  bool shares = false;                               // it was there before this weight
  std::vector<float> vector;                         // a vector, or a rope table
  kernels::RopeView rope;                            // table points into `vector`
};

class CpuActivations final : public Activations {
 public:
  CpuActivations(Pages pages, std::int32_t rows_max, std::int32_t columns_max)
      : rows_max_(rows_max), columns_max_(columns_max), pages_(std::move(pages)) {}

  static std::size_t bytes_for(std::int32_t rows_max, std::int32_t columns_max) {
    const std::size_t stride = stride_of(columns_max), rows = static_cast<std::size_t>(rows_max);
    return rows * stride * (sizeof(float) + 1) + rows * groups_of(columns_max) * sizeof(kernels::GroupScale) + 256;
  }
  // Lays the memory out for rows of `columns`, with those forms that somebody reads.
  kernels::Rows& shape(std::int32_t columns, bool values, bool codes);
  const kernels::Rows& rows() const { return rows_; }

 private:
  // A spare cache line a row keeps the rows of a tile out of one another's cache sets.
  static std::size_t stride_of(std::int32_t columns) { return (static_cast<std::size_t>(columns) + 63) / 64 * 64 + 64; }
  static std::size_t groups_of(std::int32_t columns) { return (static_cast<std::size_t>(columns) + 31) / 32; }

  std::int32_t rows_max_, columns_max_;
  Pages pages_;
  kernels::Rows rows_;
};

class CpuKvCache final : public KvCache {
 public:
  CpuKvCache(Pages pages, const KvShape& shape, std::int32_t blocks, std::size_t block_bytes, bool fp32)
      : pages_(std::move(pages)), shape_(shape), blocks_(blocks), block_bytes_(block_bytes), fp32_(fp32) {}
  const KvShape& shape() const override { return shape_; }
  std::int32_t blocks() const override { return blocks_; }
  std::size_t block_bytes() const { return block_bytes_; }
  std::byte* block(std::int32_t b) const { return pages_.data() + static_cast<std::size_t>(b) * block_bytes_; }
  kernels::KvView layer(std::int32_t l) const {
    const std::size_t layer_bytes = block_bytes_ / static_cast<std::size_t>(shape_.layers);
    return {pages_.data() + static_cast<std::size_t>(l) * layer_bytes, block_bytes_, layer_bytes / 2, fp32_};
  }

 private:
  Pages pages_;
  KvShape shape_;
  std::int32_t blocks_;
  std::size_t block_bytes_;
  bool fp32_;
};

}  // namespace tokenworks::backend
