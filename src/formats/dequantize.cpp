// Block layouts: ggml-common.h of ggml (MIT). The order of float operations is the one of ggml's own reference code, so
// that values agree to the last bit; tests/golden/quants.py checks them against the `gguf` package.
#include <bit>
#include <cassert>
#include <cstring>

#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::formats {
namespace {

using Byte = std::uint8_t;

std::uint16_t u16(const Byte* p) { return static_cast<std::uint16_t>(p[0] | p[1] << 8); }
std::uint32_t u32(const Byte* p) { return u16(p) | static_cast<std::uint32_t>(u16(p + 2)) << 16; }

float half(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000) << 16;
  const std::uint32_t exponent = h >> 10 & 31, mantissa = h & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  const float tiny = static_cast<float>(mantissa) * 0x1p-24f;       // subnormal: exact in fp32
  return (h & 0x8000) != 0 ? -tiny : tiny;
}
float half(const Byte* p) { return half(u16(p)); }

void q8_0(const Byte* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(static_cast<std::int8_t>(b[2 + i])) * d;
}

void q4_0(const Byte* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>((b[2 + i] & 15) - 8);
    y[i + 16] = d * static_cast<float>((b[2 + i] >> 4) - 8);
  }
}

void q4_1(const Byte* b, float* y) {
  const float d = half(b), m = half(b + 2);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(b[4 + i] & 15) + m;
    y[i + 16] = d * static_cast<float>(b[4 + i] >> 4) + m;
  }
}

// The five bits of element i: four from the nibbles, the fifth from a 32-bit mask.
int five(const Byte* nibbles, std::uint32_t fifth, int i) {
  const int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
  return low | static_cast<int>(fifth >> i & 1) << 4;
}

void q5_0(const Byte* b, float* y) {
  const float d = half(b);
  const std::uint32_t fifth = u32(b + 2);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(five(b + 6, fifth, i) - 16);
}

void q5_1(const Byte* b, float* y) {
  const float d = half(b), m = half(b + 2);
  const std::uint32_t fifth = u32(b + 4);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(five(b + 8, fifth, i)) + m;
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: bytes 0-3 and 4-7 hold the first four of each in their low six
// bits and the top two bits of the last four; bytes 8-11 the low nibbles of those.
struct ScaleMin {
  float scale, min;
};
ScaleMin scale_min(const Byte* packed, int i) {
  if (i < 4) return {static_cast<float>(packed[i] & 63), static_cast<float>(packed[i + 4] & 63)};
  const int scale = (packed[i + 4] & 15) | (packed[i - 4] >> 6) << 4;
  const int min = packed[i + 4] >> 4 | (packed[i] >> 6) << 4;
  return {static_cast<float>(scale), static_cast<float>(min)};
}

void q4_k(const Byte* b, float* y) {
  const float d = half(b), dmin = half(b + 2);
  for (int group = 0; group < 8; ++group) {
    const ScaleMin sm = scale_min(b + 4, group);
    const float scale = d * sm.scale, min = dmin * sm.min;
    const Byte* q = b + 16 + 32 * (group / 2);
    for (int i = 0; i < 32; ++i) *y++ = scale * static_cast<float>(group % 2 == 0 ? q[i] & 15 : q[i] >> 4) - min;
  }
}

void q5_k(const Byte* b, float* y) {
  const float d = half(b), dmin = half(b + 2);
  const Byte* high = b + 16;
  for (int group = 0; group < 8; ++group) {
    const ScaleMin sm = scale_min(b + 4, group);
    const float scale = d * sm.scale, min = dmin * sm.min;
    const Byte* q = b + 48 + 32 * (group / 2);
    for (int i = 0; i < 32; ++i) {
      const int low = group % 2 == 0 ? q[i] & 15 : q[i] >> 4;
      *y++ = scale * static_cast<float>(low | (high[i] >> group & 1) << 4) - min;
    }
  }
}

void q6_k(const Byte* b, float* y) {
  const auto* scales = reinterpret_cast<const std::int8_t*>(b + 192);
  const float d = half(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int part = i / 128, lane = i % 32, quarter = i % 128 / 32;   // each half: 4 x 32 values share 32 high bytes
    const Byte low_byte = b[64 * part + lane + 32 * (quarter % 2)];
    const int low = quarter < 2 ? low_byte & 15 : low_byte >> 4;
    const int high = b[128 + 32 * part + lane] >> 2 * quarter & 3;
    y[i] = d * static_cast<float>(scales[i / 16]) * static_cast<float>((low | high << 4) - 32);
  }
}

void f32(const Byte* b, float* y) { *y = std::bit_cast<float>(u32(b)); }
void f16(const Byte* b, float* y) { *y = half(b); }
void bf16(const Byte* b, float* y) { *y = std::bit_cast<float>(static_cast<std::uint32_t>(u16(b)) << 16); }

template <void (*kBlock)(const Byte*, float*)>
void each_block(TensorType type, const Byte* in, std::span<float> out) {
  const auto elements = static_cast<std::size_t>(block_elements(type));
  const auto bytes = static_cast<std::size_t>(block_bytes(type));
  for (std::size_t at = 0; at + elements <= out.size(); at += elements, in += bytes) kBlock(in, out.data() + at);
}

}  // namespace

void dequantize(TensorType type, std::span<const std::byte> bytes, std::span<float> out) {
  assert(out.size() % static_cast<std::size_t>(block_elements(type)) == 0);
  assert(bytes.size() / static_cast<std::size_t>(block_bytes(type)) >=
         out.size() / static_cast<std::size_t>(block_elements(type)));
  const auto* in = reinterpret_cast<const Byte*>(bytes.data());
  switch (type) {
    case TensorType::f32: return each_block<f32>(type, in, out);
    case TensorType::f16: return each_block<f16>(type, in, out);
    case TensorType::bf16: return each_block<bf16>(type, in, out);
    case TensorType::q8_0: return each_block<q8_0>(type, in, out);
    case TensorType::q4_0: return each_block<q4_0>(type, in, out);
    case TensorType::q4_1: return each_block<q4_1>(type, in, out);
    case TensorType::q5_0: return each_block<q5_0>(type, in, out);
    case TensorType::q5_1: return each_block<q5_1>(type, in, out);
    case TensorType::q4_k: return each_block<q4_k>(type, in, out);
    case TensorType::q5_k: return each_block<q5_k>(type, in, out);
    case TensorType::q6_k: return each_block<q6_k>(type, in, out);
  }
}

}  // namespace tokenworks::formats
