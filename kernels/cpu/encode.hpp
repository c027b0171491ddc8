// What encoders of BERT's kind need per row: LayerNorm, which is the residual as well, and an activation without a gate.
#pragma once
#include "gate.hpp"
#include "norm.hpp"

namespace tokenworks::kernels::TW_PATH {

// Mean first, then the squares of what is left: no difference of large numbers. Fixed order of vector lanes.
TW_INLINE float sum_of(const float* x, int32_t n) {
  F a = set1(0);
  for (int32_t i = 0; i < n; i += kWidth) a = add(a, n - i >= kWidth ? load(x + i) : load_n(x + i, n - i));
  return reduce_add(a);
}

static void layer_norm(float* hidden, const float* weight, const float* bias, float epsilon, int32_t columns, Range rows,
                       const Rows& out) {
  for (int32_t r = rows.first; r < rows.first + rows.count; ++r) {
    float* x = hidden + static_cast<size_t>(r) * static_cast<size_t>(columns);
    const F mean = set1(sum_of(x, columns) / static_cast<float>(columns));
    for (int32_t i = 0; i < columns; i += kWidth) {
      if (columns - i >= kWidth)
        store(x + i, sub(load(x + i), mean));
      else
        store_n(x + i, sub(load_n(x + i, columns - i), mean), columns - i);
    }
    const F factor = set1(rms_factor(x, columns, epsilon));
    for (int32_t i = 0; i < columns; i += kWidth) {
      if (columns - i >= kWidth)
        store(x + i, fma(mul(load(x + i), factor), load(weight + i), load(bias + i)));
      else
        store_n(x + i, fma(mul(load_n(x + i, columns - i), factor), load_n(weight + i, columns - i), load_n(bias + i, columns - i)),
                columns - i);
    }
    if (out.values != nullptr) memcpy(out.values + static_cast<size_t>(r) * out.stride, x, static_cast<size_t>(columns) * 4);
    if (out.codes != nullptr)
      quantize(x, columns, out.codes + static_cast<size_t>(r) * out.stride, out.groups + static_cast<size_t>(r) * out.group_stride);
  }
}

// erf by Abramowitz and Stegun 7.1.26: absolute error under 1.5e-7.
TW_INLINE F erf(F x) {
  const F magnitude = max(x, sub(set1(0), x));
  const F t = div(set1(1.0f), fma(magnitude, set1(0.3275911f), set1(1.0f)));
  F p = set1(1.061405429f);
  p = fma(p, t, set1(-1.453152027f));
  p = fma(p, t, set1(1.421413741f));
  p = fma(p, t, set1(-0.284496736f));
  p = fma(p, t, set1(0.254829592f));
  const F y = sub(set1(1.0f), mul(mul(p, t), exp(sub(set1(0), mul(magnitude, magnitude)))));
  return select_less(x, set1(0), sub(set1(0), y), y);
}

TW_INLINE F activated(F x, int32_t act) {
  switch (act) {
    case 0: return mul(mul(x, set1(0.5f)), add(set1(1.0f), erf(mul(x, set1(0.70710678118654752f)))));
    case 1: return gated(x, set1(1.0f), true);
    case 2: return max(x, set1(0));
    default: return gated(x, set1(1.0f), false);
  }
}

static void activate(const float* in, int32_t act, int32_t columns, Range rows, const Rows& out) {
  for (int32_t r = rows.first; r < rows.first + rows.count; ++r) {
    const float* x = in + static_cast<size_t>(r) * static_cast<size_t>(columns);
    GroupScale* groups = out.codes != nullptr ? out.groups + static_cast<size_t>(r) * out.group_stride : nullptr;
    for (int32_t c = 0; c < columns; c += kGroup) {
      const int32_t n = columns - c < kGroup ? columns - c : kGroup;
      alignas(64) float y[kGroup];
      for (int32_t i = 0; i < kGroup; i += kWidth) {
        const int32_t left = n - i;
        store(y + i, activated(left >= kWidth ? load(x + c + i) : left > 0 ? load_n(x + c + i, left) : set1(0), act));
      }
      if (out.values != nullptr) memcpy(out.values + static_cast<size_t>(r) * out.stride + c, y, static_cast<size_t>(n) * 4);
      if (groups != nullptr) quantize_group(y, n, out.codes + static_cast<size_t>(r) * out.stride + c, groups++);
    }
  }
}

}  // namespace tokenworks::kernels::TW_PATH
