// Activations to int8 with a scale per 32 columns: the arithmetic of llama.cpp's Q8_1, with the scale in fp32 (the g32 row
// of the project's accuracy measurements). Also the tail of every producer of activations, which writes fp32 first.
#pragma once
#include "vec.hpp"

#include "kernels/ops.hpp"

namespace tokenworks::kernels::TW_PATH {

// 32 values, already in registers or memory: `full` is false when only the first n are there.
TW_INLINE void quantize_group(const float* x, int n, int8_t* codes, GroupScale* out) {
  F v[kGroup / kWidth];
  I highest = iset1(0);
  for (int i = 0; i < kGroup / kWidth; ++i) {
    const int left = n - i * kWidth;
    v[i] = left >= kWidth ? load(x + i * kWidth) : left > 0 ? load_n(x + i * kWidth, left) : set1(0);
    highest = imax(highest, iand(as_int(v[i]), iset1(0x7FFFFFFF)));   // as integers a NaN is above all
  }
  const int32_t bits = reduce_imax(highest);
  float maximum;
  memcpy(&maximum, &bits, 4);
  if (bits >= 0x7F800000 || maximum < 1e-30f) {
    memset(codes, 0, kGroup);
    const float scale = bits >= 0x7F800000 ? __builtin_nanf("") : 0.0f;
    *out = GroupScale{scale, scale, 0, 0};
    return;
  }
  const float inverse = 127.0f / maximum;
  I first = iset1(0), second = iset1(0);
  for (int i = 0; i < kGroup / kWidth; ++i) {
    const I code = to_int(mul(v[i], set1(inverse)));
    store_bytes(codes + i * kWidth, code);
    I& sum = i < kGroup / kWidth / 2 ? first : second;
    sum = iadd(sum, code);
  }
  const int32_t a = reduce_iadd(first), b = reduce_iadd(second);
  const float scale = maximum * (1.0f / 127.0f);
  *out = GroupScale{scale, scale * static_cast<float>(a + b), -(a + b), -a};
}

static void quantize(const float* x, int32_t columns, int8_t* codes, GroupScale* groups) {
  for (int32_t c = 0; c < columns; c += kGroup, ++groups)
    quantize_group(x + c, columns - c < kGroup ? columns - c : kGroup, codes + c, groups);
}

}  // namespace tokenworks::kernels::TW_PATH
