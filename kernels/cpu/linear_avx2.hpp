// The linear op on quantised weights with AVX2: 16 rows by up to 4 tokens, products of unsigned and signed bytes summed
// in 16 bits (vpmaddubsw). Codes of four bits cannot overflow there in 32 columns, codes of five in 16; symmetric bytes go
// through |q| * (x with q's sign), at most 2 * 128 * 127. All exact, so results are those of the other tables, bit for bit.
#pragma once
#include "panels.hpp"

namespace tokenworks::kernels::TW_PATH {

inline constexpr int kTileTokens = 4;
inline constexpr int kTileRows = 16;

TW_INLINE I four(const int8_t* x) {
  int32_t word;
  memcpy(&word, x, 4);
  return iset1(word);
}
TW_INLINE I widen_sum(I acc, I pairs) { return iadd(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))); }

// acc[t][v] += the dots of quads [from, to) of a group.
template <PanelKind kKind, int kTokens>
TW_INLINE void dots(const std::byte* unit, int row, int from, int to, int zero_shift, const int8_t* x, int64_t stride,
                    I (&acc)[kTokens][2]) {
  if constexpr (!has_nibbles(kKind) && !has_offsets(kKind)) {
    const I zero = _mm256_set1_epi8(static_cast<char>(1 << zero_shift));
    for (int j = from; j < to; ++j) {
      for (int v = 0; v < 2; ++v) {
        const I q = _mm256_sub_epi8(load_quad(kKind, unit, j, row + v * kWidth), zero), magnitude = _mm256_abs_epi8(q);
        for (int t = 0; t < kTokens; ++t)
          acc[t][v] =
              widen_sum(acc[t][v], _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(four(x + t * stride + 4 * j), q)));
      }
    }
  } else {
    constexpr int kRun = has_nibbles(kKind) ? 8 : 4;
    for (int begin = from; begin < to; begin += kRun) {
      I pairs[kTokens][2];
      for (int j = begin; j < begin + kRun; ++j) {
        for (int v = 0; v < 2; ++v) {
          const I codes = load_quad(kKind, unit, j, row + v * kWidth);
          for (int t = 0; t < kTokens; ++t) {
            const I products = _mm256_maddubs_epi16(codes, four(x + t * stride + 4 * j));
            pairs[t][v] = j == begin ? products : _mm256_add_epi16(pairs[t][v], products);
          }
        }
      }
      for (int t = 0; t < kTokens; ++t)
        for (int v = 0; v < 2; ++v) acc[t][v] = widen_sum(acc[t][v], pairs[t][v]);
    }
  }
}

template <PanelKind kKind, int kTokens>
__attribute__((noinline)) static void tile(const Panels& w, int32_t p, int row, const Rows& in, int32_t r, float* out,
                                           int64_t out_stride, bool accumulate) {
  constexpr int kHalves = kKind == PanelKind::b8_f_16 ? 2 : 1;
  F y[kTokens][2];
  for (int t = 0; t < kTokens; ++t) y[t][0] = y[t][1] = set1(0);
  const std::byte* unit = w.data + static_cast<size_t>(p) * w.panel_bytes;
  const int8_t* x = in.codes + static_cast<int64_t>(r) * in.stride;
  const GroupScale* scales = in.groups + static_cast<int64_t>(r) * in.group_stride;
  for (int32_t g = 0; g < w.columns / kGroup; ++g, unit += unit_bytes(kKind), x += kGroup, ++scales) {
    for (int half = 0; half < kHalves; ++half) {
      I acc[kTokens][2];
      for (int t = 0; t < kTokens; ++t) {
        const int32_t start =
            kKind == PanelKind::n4_h ? scales[t * in.group_stride].negated_sum * (1 << w.zero_shift) : 0;
        acc[t][0] = acc[t][1] = iset1(start);
      }
      dots<kKind, kTokens>(unit, row, half * 8 / kHalves, (half + 1) * 8 / kHalves, w.zero_shift, x, in.stride, acc);
      for (int v = 0; v < 2; ++v) {
        const F d = load_scale(kKind, unit, half, row + v * kWidth);
        for (int t = 0; t < kTokens; ++t)
          y[t][v] = fma(mul(to_float(acc[t][v]), d), set1(scales[t * in.group_stride].scale), y[t][v]);
        if constexpr (has_offsets(kKind)) {
          const F m = load_scale(kKind, unit, 1, row + v * kWidth);
          for (int t = 0; t < kTokens; ++t) y[t][v] = fma(m, set1(scales[t * in.group_stride].scaled_sum), y[t][v]);
        }
      }
    }
  }
  for (int v = 0; v < 2; ++v) {
    const int32_t at = p * kPanelRows + row + v * kWidth;
    const int32_t valid = w.rows - at;
    for (int t = 0; t < kTokens && valid > 0; ++t) {
      float* to = out + (r + t) * out_stride + at;
      F value = w.bias != nullptr ? add(y[t][v], load(w.bias + at)) : y[t][v];
      if (valid >= kWidth) {
        store(to, accumulate ? add(load(to), value) : value);
      } else {
        store_n(to, accumulate ? add(load_n(to, valid), value) : value, valid);
      }
    }
  }
}

template <PanelKind kKind>
static void linear_kind(const Panels& w, Range panels, const Rows& in, Range rows, float* out, int64_t out_stride,
                        bool accumulate) {
  for (int32_t p = panels.first; p < panels.first + panels.count; ++p) {
    for (int row = 0; row < kPanelRows; row += kTileRows) {
      int32_t r = rows.first;
      const int32_t end = rows.first + rows.count;
      for (; r + 4 <= end; r += 4) tile<kKind, 4>(w, p, row, in, r, out, out_stride, accumulate);
      if (end - r == 3) tile<kKind, 3>(w, p, row, in, r, out, out_stride, accumulate);
      if (end - r == 2) tile<kKind, 2>(w, p, row, in, r, out, out_stride, accumulate);
      if (end - r == 1) tile<kKind, 1>(w, p, row, in, r, out, out_stride, accumulate);
    }
  }
}

static void linear(const Panels& w, Range panels, const Rows& in, Range rows, float* out, int64_t out_stride,
                   bool accumulate, const Later&) {
  switch (w.kind) {
    case PanelKind::n4_h: return linear_kind<PanelKind::n4_h>(w, panels, in, rows, out, out_stride, accumulate);
    case PanelKind::n4_hm: return linear_kind<PanelKind::n4_hm>(w, panels, in, rows, out, out_stride, accumulate);
    case PanelKind::n4_fm: return linear_kind<PanelKind::n4_fm>(w, panels, in, rows, out, out_stride, accumulate);
    case PanelKind::b8_h: return linear_kind<PanelKind::b8_h>(w, panels, in, rows, out, out_stride, accumulate);
    case PanelKind::b8_hm: return linear_kind<PanelKind::b8_hm>(w, panels, in, rows, out, out_stride, accumulate);
    case PanelKind::b8_fm: return linear_kind<PanelKind::b8_fm>(w, panels, in, rows, out, out_stride, accumulate);
    case PanelKind::b8_f_16: return linear_kind<PanelKind::b8_f_16>(w, panels, in, rows, out, out_stride, accumulate);
    case PanelKind::f32:
    case PanelKind::f16:
    case PanelKind::bf16: break;
  }
  __builtin_trap();
}

}  // namespace tokenworks::kernels::TW_PATH
