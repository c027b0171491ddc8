#pragma once
// TensorView: a named tensor inside a model file, as the file stores it. Bounds were checked by the reader that made it.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks::formats {

enum class TensorType : std::uint8_t { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k };

const char* name(TensorType type);
std::int64_t block_elements(TensorType type);        // 1, 32 or 256
std::int64_t block_bytes(TensorType type);           // ggml-common.h: 4, 2, 2, 34, 18, 20, 22, 24, 144, 176, 210

struct TensorView {
  std::string name;
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;                   // row-major, outermost first: [out, in] for a matrix
  std::span<const std::byte> bytes;                  // into the mapping; valid while the ModelFile lives

  std::int64_t elements() const {
    std::int64_t n = 1;
    for (const std::int64_t d : shape) n *= d;
    return n;
  }
  std::int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  std::int64_t rows() const { return columns() == 0 ? 0 : elements() / columns(); }
};

// Plain reference dequantisation of `elements` values from the start of `bytes` (the layouts of ggml-common.h).
// out.size() must be a multiple of the type's block. bf16/f16 converted exactly.
void dequantize(TensorType type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace tokenworks::formats
