// The linear op on quantised weights without assumptions about the processor: exact integers, and the float operations
// of ops.hpp one by one, with a true fused multiply-add (a library call where the instruction is missing).
#pragma once
#include "panels.hpp"

namespace tokenworks::kernels::TW_PATH {

TW_INLINE void dots_of(const Panels& w, const std::byte* unit, const int8_t* x, int from, int to, int32_t* dots) {
  for (int row = 0; row < kPanelRows; ++row) {
    int32_t sum = 0;
    for (int j = from; j < to; ++j) {
      for (int i = 0; i < 4; ++i) {
        const int32_t code = has_nibbles(w.kind)
                                 ? static_cast<int32_t>(unit[(j / 2) * 128 + row * 4 + i]) >> (j % 2 * 4) & 15
                                 : static_cast<int32_t>(unit[j * 128 + row * 4 + i]);
        sum += code * x[4 * j + i];
      }
    }
    dots[row] = sum;
  }
}

static void linear(const Panels& w, Range panels, const Rows& in, Range rows, float* out, int64_t out_stride,
                   bool accumulate, const Later&) {
  const int32_t groups = w.columns / kGroup;
  const int32_t zero = has_offsets(w.kind) ? 0 : 1 << w.zero_shift;
  for (int32_t p = panels.first; p < panels.first + panels.count; ++p) {
    for (int32_t r = rows.first; r < rows.first + rows.count; ++r) {
      const std::byte* unit = w.data + static_cast<size_t>(p) * w.panel_bytes;
      float y[kPanelRows] = {};
      for (int32_t g = 0; g < groups; ++g, unit += unit_bytes(w.kind)) {
        const int8_t* x = in.codes + static_cast<size_t>(r) * in.stride + static_cast<size_t>(g) * kGroup;
        const GroupScale& s = in.groups[static_cast<size_t>(r) * in.group_stride + g];
        const int halves = w.kind == PanelKind::b8_f_16 ? 2 : 1;
        alignas(64) float d[2][kPanelRows];
        for (int which = 0; which < 2; ++which)
          if (which == 0 || halves == 2 || has_offsets(w.kind))
            for (int row = 0; row < kPanelRows; row += kWidth)
              store(d[which] + row, load_scale(w.kind, unit, which, row));
        for (int half = 0; half < halves; ++half) {
          int32_t dots[kPanelRows];
          dots_of(w, unit, x, half * 4, halves == 2 ? half * 4 + 4 : 8, dots);
          const int32_t negated = halves == 1 ? s.negated_sum
                                  : half == 0 ? s.negated_first
                                              : s.negated_sum - s.negated_first;
          for (int row = 0; row < kPanelRows; ++row) {
            const float dot = static_cast<float>(dots[row] + zero * negated);
            y[row] = __builtin_fmaf(dot * d[half][row], s.scale, y[row]);
          }
        }
        if (has_offsets(w.kind))
          for (int row = 0; row < kPanelRows; ++row) y[row] = __builtin_fmaf(d[1][row], s.scaled_sum, y[row]);
      }
      float* to = out + r * out_stride + p * kPanelRows;
      for (int row = 0; row < kPanelRows && p * kPanelRows + row < w.rows; ++row) {
        const float with_bias = w.bias != nullptr ? y[row] + w.bias[p * kPanelRows + row] : y[row];
        to[row] = accumulate ? to[row] + with_bias : with_bias;
      }
    }
  }
}

}  // namespace tokenworks::kernels::TW_PATH
