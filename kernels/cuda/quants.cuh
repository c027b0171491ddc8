#pragma once
// GGUF blocks in registers (layouts of ggml-common.h): the 32 values of a group in four lanes, lane t taking elements
// 4t .. 4t+3 and 16+4t .. 16+4t+3, which is what four lanes of an mma fragment want of one column. Blocks are 18, 20, 34 or
// 144 bytes, so nothing wider than two bytes is sure to be aligned.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

template <Quant kQuant>
struct GgufBlock;
template <> struct GgufBlock<Quant::q8_0> { static constexpr int kGroups = 1, kBytes = 34; };
template <> struct GgufBlock<Quant::q4_0> { static constexpr int kGroups = 1, kBytes = 18; };
template <> struct GgufBlock<Quant::q4_1> { static constexpr int kGroups = 1, kBytes = 20; };
template <> struct GgufBlock<Quant::q4_k> { static constexpr int kGroups = 8, kBytes = 144; };

__device__ __forceinline__ float half_at(const unsigned char* at) {
  return to_float(f16{*reinterpret_cast<const std::uint16_t*>(at)});
}
__device__ __forceinline__ std::uint32_t four_bytes(const unsigned char* at) {
  const auto* two = reinterpret_cast<const std::uint16_t*>(at);
  return two[0] | static_cast<std::uint32_t>(two[1]) << 16;
}

// Lane t's eight values of group `group` (32 values each) of a row.
template <Quant kQuant>
__device__ __forceinline__ void group_values(const unsigned char* row, std::int32_t group, int t, float (&v)[8]) {
  using B = GgufBlock<kQuant>;
  const unsigned char* block = row + static_cast<std::size_t>(group / B::kGroups) * B::kBytes;
  const float d = half_at(block);
  if constexpr (kQuant == Quant::q8_0) {
    const std::uint32_t low = four_bytes(block + 2 + 4 * t), high = four_bytes(block + 18 + 4 * t);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = d * static_cast<float>(static_cast<std::int8_t>(low >> (8 * i)));
      v[4 + i] = d * static_cast<float>(static_cast<std::int8_t>(high >> (8 * i)));
    }
  } else if constexpr (kQuant == Quant::q4_k) {
    const float least = half_at(block + 2);
    const unsigned char* s = block + 4;
    const int j = group % 8;
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    const int offset = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
    const unsigned char* bytes = block + 16 + j / 2 * 32;
    const std::uint32_t low = four_bytes(bytes + 4 * t) >> (j % 2 * 4), high = four_bytes(bytes + 16 + 4 * t) >> (j % 2 * 4);
    const float by = d * static_cast<float>(scale), from = least * static_cast<float>(offset);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = by * static_cast<float>(low >> (8 * i) & 15u) - from;
      v[4 + i] = by * static_cast<float>(high >> (8 * i) & 15u) - from;
    }
  } else {
    constexpr bool kOffset = kQuant == Quant::q4_1;
    const float from = kOffset ? half_at(block + 2) : -8 * d;
    const std::uint32_t bytes = four_bytes(block + (kOffset ? 4 : 2) + 4 * t);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = d * static_cast<float>(bytes >> (8 * i + (TW_PLANT(206) ? 4 : 0)) & 15u) + from;
      v[4 + i] = d * static_cast<float>(bytes >> (8 * i + 4) & 15u) + from;
    }
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
