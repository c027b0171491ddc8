// Gated activation: act(gate) * up, from interleaved columns. silu(x) = x / (1 + e^-x); gelu_tanh(x) =
// 0.5 x (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks and Gimpel, 2016).
#pragma once
#include "quantize.hpp"

namespace tokenworks::kernels::TW_PATH {

TW_INLINE F gated(F gate, F up, bool gelu) {
  F u = gate;
  if (gelu) u = mul(mul(gate, set1(1.5957691216f)), fma(mul(gate, gate), set1(0.044715f), set1(1.0f)));
  return mul(div(gate, add(set1(1.0f), exp(sub(set1(0), u)))), up);
}

static void gate(const float* gate_up, bool gelu, int32_t columns, Range rows, const Rows& out) {
  for (int32_t r = rows.first; r < rows.first + rows.count; ++r) {
    const float* x = gate_up + static_cast<size_t>(r) * static_cast<size_t>(columns) * 2;
    GroupScale* groups = out.codes != nullptr ? out.groups + static_cast<size_t>(r) * out.group_stride : nullptr;
    for (int32_t c = 0; c < columns; c += kGroup) {
      const int32_t n = columns - c < kGroup ? columns - c : kGroup;
      alignas(64) float y[kGroup];
      alignas(64) float padded[2 * kGroup];
      const float* in = x + 2 * c;
      if (n < kGroup) {                              // a row may end at the end of its buffer
        memset(padded, 0, sizeof padded);
        memcpy(padded, in, static_cast<size_t>(n) * 8);
        in = padded;
      }
      for (int i = 0; i < kGroup; i += kWidth) {
        F even, odd;
        load_pairs(in + 2 * i, even, odd);
        store(y + i, gated(even, odd, gelu));
      }
      if (out.values != nullptr)
        memcpy(out.values + static_cast<size_t>(r) * out.stride + c, y, static_cast<size_t>(n) * 4);
      if (groups != nullptr)
        quantize_group(y, n, out.codes + static_cast<size_t>(r) * out.stride + c, groups++);
    }
  }
}

}  // namespace tokenworks::kernels::TW_PATH
