#pragma once
// fp32 to the 16- and 8-bit floats that kernels read, rounded to nearest even, on the host while weights are packed. Pure.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace tokenworks::backend::cuda {

inline std::uint16_t narrow_bf16(float f) {
  const auto u = std::bit_cast<std::uint32_t>(f);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;
  return static_cast<std::uint16_t>((u + 0x7FFFu + (u >> 16 & 1u)) >> 16);
}

// A number of `exponent_bits` and `mantissa_bits` and a sign, everything beyond its largest finite becoming `beyond`.
inline std::uint32_t narrow(float f, int exponent_bits, int mantissa_bits, std::uint32_t beyond) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const std::uint32_t sign = std::signbit(f) ? 1u << (exponent_bits + mantissa_bits) : 0u;
  const float size = std::abs(f);
  const int exponent = size == 0 ? 1 - bias : std::max(std::ilogb(size), 1 - bias);
  if (exponent > bias + 1) return sign | beyond;
  const auto steps = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(size, mantissa_bits - exponent)));
  const std::uint32_t bits = steps + (static_cast<std::uint32_t>(exponent + bias - 1) << mantissa_bits);
  return sign | std::min(bits, beyond);
}
inline std::uint16_t narrow_f16(float f) {
  if (std::isnan(f)) return 0x7FFF;
  return static_cast<std::uint16_t>(narrow(f, 5, 10, 0x7C00));
}
inline std::uint8_t narrow_fp8(float f) {            // e4m3, saturating at 448
  if (std::isnan(f)) return 0x7F;
  return static_cast<std::uint8_t>(narrow(f, 4, 3, 0x7E));
}

}  // namespace tokenworks::backend::cuda
