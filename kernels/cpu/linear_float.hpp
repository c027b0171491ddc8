// The linear op from fp32 activations: y = fma over the columns ascending, one chain per output. Weights in fp32, fp16 or
// bf16 are widened as they are read; quantised ones are dequantised exactly, a panel at a time, into scratch.
#pragma once
#include "panels.hpp"

namespace tokenworks::kernels::TW_PATH {

inline constexpr int kFloatTokens = kWidth == 16 ? 8 : kWidth == 8 ? 3 : 2;
inline constexpr int kRowVectors = kWidth == 16 ? 2 : kWidth == 8 ? 4 : 4;   // rows at a time: 32, 32, 16

TW_INLINE F widen(const float* p, PanelKind) { return load(p); }
TW_INLINE F widen(const uint16_t* p, PanelKind kind) { return kind == PanelKind::f16 ? load_f16(p) : load_bf16(p); }

TW_INLINE void finish(F y, const float* bias, int valid, float* out, bool accumulate) {
  if (bias != nullptr) y = add(y, load(bias));
  if (valid >= kWidth) {
    store(out, accumulate ? add(load(out), y) : y);
  } else if (valid > 0) {
    store_n(out, accumulate ? add(load_n(out, valid), y) : y, valid);
  }
}

template <class T, int kTokens>
TW_INLINE void float_tile(const T* panel, PanelKind kind, int32_t columns, const float* x, int64_t stride,
                          const float* bias, int valid, float* out, int64_t out_stride, bool accumulate) {
  for (int row = 0; row < kPanelRows; row += kRowVectors * kWidth) {
    F acc[kTokens][kRowVectors];
    for (int t = 0; t < kTokens; ++t)
      for (int v = 0; v < kRowVectors; ++v) acc[t][v] = set1(0);
    for (int32_t c = 0; c < columns; ++c) {
      F w[kRowVectors];
      for (int v = 0; v < kRowVectors; ++v)
        w[v] = widen(panel + static_cast<size_t>(c) * kPanelRows + row + v * kWidth, kind);
      for (int t = 0; t < kTokens; ++t) {
        const F a = set1(x[t * stride + c]);
        for (int v = 0; v < kRowVectors; ++v) acc[t][v] = fma(w[v], a, acc[t][v]);
      }
    }
    for (int t = 0; t < kTokens; ++t)
      for (int v = 0; v < kRowVectors; ++v) {
        const int at = row + v * kWidth;
        finish(acc[t][v], bias != nullptr ? bias + at : nullptr, valid - at, out + t * out_stride + at, accumulate);
      }
  }
}

template <class T>
TW_INLINE void float_rows(const T* panel, PanelKind kind, const Panels& w, int32_t p, const Rows& in, Range rows,
                          float* out, int64_t out_stride, bool accumulate) {
  const int valid = w.rows - p * kPanelRows < kPanelRows ? w.rows - p * kPanelRows : kPanelRows;
  const float* bias = w.bias != nullptr ? w.bias + p * kPanelRows : nullptr;
  int32_t r = rows.first;
  const int32_t end = rows.first + rows.count;
  for (; r + kFloatTokens <= end; r += kFloatTokens)
    float_tile<T, kFloatTokens>(panel, kind, w.columns, in.values + static_cast<int64_t>(r) * in.stride, in.stride,
                                bias, valid, out + r * out_stride + p * kPanelRows, out_stride, accumulate);
  for (; r < end; ++r)
    float_tile<T, 1>(panel, kind, w.columns, in.values + static_cast<int64_t>(r) * in.stride, in.stride, bias, valid,
                     out + r * out_stride + p * kPanelRows, out_stride, accumulate);
}

static void linear_float(const Panels& w, Range panels, const Rows& in, Range rows, float* out, int64_t out_stride,
                         bool accumulate, float* scratch) {
  for (int32_t p = panels.first; p < panels.first + panels.count; ++p) {
    const std::byte* panel = w.data + static_cast<size_t>(p) * w.panel_bytes;
    if (w.kind == PanelKind::f32) {
      float_rows(reinterpret_cast<const float*>(panel), w.kind, w, p, in, rows, out, out_stride, accumulate);
    } else if (w.kind == PanelKind::f16) {
      float_rows(reinterpret_cast<const uint16_t*>(panel), PanelKind::f16, w, p, in, rows, out, out_stride, accumulate);
    } else if (w.kind == PanelKind::bf16) {
      float_rows(reinterpret_cast<const uint16_t*>(panel), PanelKind::bf16, w, p, in, rows, out, out_stride,
                 accumulate);
    } else {
      for (int32_t c = 0; c < w.columns; c += kGroup)
        unpack_group(w.kind, zero_of(w), panel + static_cast<size_t>(c / kGroup) * unit_bytes(w.kind),
                     scratch + static_cast<size_t>(c) * kPanelRows);
      float_rows(scratch, PanelKind::f32, w, p, in, rows, out, out_stride, accumulate);
    }
  }
}

}  // namespace tokenworks::kernels::TW_PATH
