// RMS norm of rows, leaving fp32, int8 groups, or both. The sum of squares runs over a row in a fixed order of vector lanes.
#pragma once
#include "quantize.hpp"

namespace tokenworks::kernels::TW_PATH {

TW_INLINE float sum_of_squares(const float* x, int32_t n) {
  F a = set1(0), b = set1(0);
  int32_t i = 0;
  for (; i + 2 * kWidth <= n; i += 2 * kWidth) {
    const F u = load(x + i), v = load(x + i + kWidth);
    a = fma(u, u, a);
    b = fma(v, v, b);
  }
  for (; i < n; i += kWidth) {
    const F u = n - i >= kWidth ? load(x + i) : load_n(x + i, n - i);
    a = fma(u, u, a);
  }
  return reduce_add(add(a, b));
}

// out may be x.
TW_INLINE void scale_by(const float* x, float factor, const float* weight, int32_t n, float* out) {
  const F f = set1(factor);
  for (int32_t i = 0; i < n; i += kWidth) {
    const int32_t left = n - i;
    if (left >= kWidth)
      store(out + i, mul(mul(load(x + i), f), load(weight + i)));
    else
      store_n(out + i, mul(mul(load_n(x + i, left), f), load_n(weight + i, left)), left);
  }
}

TW_INLINE float rms_factor(const float* x, int32_t n, float epsilon) {
  return 1.0f / __builtin_sqrtf(sum_of_squares(x, n) / static_cast<float>(n) + epsilon);
}

static void norm(const float* hidden, const float* weight, float epsilon, int32_t columns, Range rows,
                 const Rows& out) {
  for (int32_t r = rows.first; r < rows.first + rows.count; ++r) {
    const float* x = hidden + static_cast<size_t>(r) * static_cast<size_t>(columns);
    const float factor = rms_factor(x, columns, epsilon);
    if (out.values != nullptr) scale_by(x, factor, weight, columns, out.values + static_cast<size_t>(r) * out.stride);
    if (out.codes == nullptr) continue;
    int8_t* codes = out.codes + static_cast<size_t>(r) * out.stride;
    GroupScale* groups = out.groups + static_cast<size_t>(r) * out.group_stride;
    alignas(64) float y[kGroup];
    for (int32_t c = 0; c < columns; c += kGroup, ++groups) {
      const int32_t n = columns - c < kGroup ? columns - c : kGroup;
      scale_by(x + c, factor, weight + c, n, y);
      quantize_group(y, n, codes + c, groups);
    }
  }
}

}  // namespace tokenworks::kernels::TW_PATH
