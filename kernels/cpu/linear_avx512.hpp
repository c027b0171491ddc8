// The linear op on quantised weights with AVX-512 VNNI. A tile is 32 rows of the matrix (one panel) by up to 6 tokens: 12
// integer and 12 float accumulators stay in registers, four columns of a token are broadcast to all lanes, and scales are
// applied once per 32 columns. A panel is read once for all tokens, in order: with one or two tokens the op is bound by
// memory, and several panels side by side were slower there (more streams than the prefetchers follow).
//
// vpdpbusd is written as one-line inline assembly: g++ 12 spills arrays of the intrinsic's accumulators (half the speed).
#pragma once
#include "panels.hpp"

namespace tokenworks::kernels::TW_PATH {

inline constexpr int kTileTokens = 6;
inline constexpr size_t kPrefetchBytes = 4096;       // ahead of what is being read, with one tile to a panel
inline constexpr int64_t kLaterLines = 4;            // a group: some 15 GB/s a core

TW_INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

TW_INLINE void dot(I& acc, I codes, I x) { asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(x)); }

TW_INLINE I four(const int8_t* x) {                  // four activations in every lane
  int32_t word;
  memcpy(&word, x, 4);
  return iset1(word);
}

struct Tokens {                                      // of a tile
  const int8_t* codes;
  const GroupScale* groups;
  int64_t stride, group_stride;
};

struct Ahead {                                       // what a tile asks memory for beside each group of columns
  const std::byte* at;                               // weights, to the nearest cache
  int32_t lines;
  int32_t later_lines = 0;                           // of Later, to the cache behind it
  const std::byte* later_at = nullptr;
};

template <PanelKind kKind, int kTokens>
TW_INLINE void multiply(const std::byte* panel, int32_t groups, int zero_shift, const Tokens& in, Ahead ahead,
                        F (&y)[kTokens][2]) {
  constexpr int kHalves = kKind == PanelKind::b8_f_16 ? 2 : 1;       // scales in a group of 32
  constexpr int kQuads = 8 / kHalves;
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < 2; ++v) y[t][v] = set1(0);
  const std::byte* unit = panel;
  const int8_t* x = in.codes;
  const GroupScale* scales = in.groups;
  for (int32_t g = 0; g < groups; ++g, unit += unit_bytes(kKind), x += kGroup, ++scales) {
    // May run past the last panel: a prefetch never faults.
    for (int32_t line = 0; line < ahead.lines; ++line, ahead.at += 64)
      _mm_prefetch(reinterpret_cast<const char*>(ahead.at), _MM_HINT_T0);
    for (int32_t line = 0; line < ahead.later_lines; ++line, ahead.later_at += 64)
      _mm_prefetch(reinterpret_cast<const char*>(ahead.later_at), _MM_HINT_T1);
    for (int half = 0; half < kHalves; ++half) {
      I acc[kTokens][2];
      for (int t = 0; t < kTokens; ++t) {
        I start = iset1(0);
        if constexpr (!has_offsets(kKind)) {
          const GroupScale& s = scales[t * in.group_stride];
          const int32_t negated = kHalves == 1 ? s.negated_sum
                                  : half == 0  ? s.negated_first
                                               : s.negated_sum - s.negated_first;
          start = _mm512_sll_epi32(iset1(negated), _mm_cvtsi32_si128(zero_shift));
        }
        for (int v = 0; v < 2; ++v) acc[t][v] = start;
      }
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q) {
        const int j = half * kQuads + q;
        I w[2];
        for (int v = 0; v < 2; ++v) w[v] = load_quad(kKind, unit, j, v * 16);
        for (int t = 0; t < kTokens; ++t) {
          const I quad = four(x + t * in.stride + 4 * j);
          for (int v = 0; v < 2; ++v) dot(acc[t][v], w[v], quad);
        }
      }
      for (int v = 0; v < 2; ++v) {
        const F d = load_scale(kKind, unit, half, v * 16);
        for (int t = 0; t < kTokens; ++t)
          y[t][v] = fma(mul(to_float(acc[t][v]), d), set1(scales[t * in.group_stride].scale), y[t][v]);
        if constexpr (has_offsets(kKind)) {
          const F m = load_scale(kKind, unit, 1, v * 16);
          for (int t = 0; t < kTokens; ++t) y[t][v] = fma(m, set1(scales[t * in.group_stride].scaled_sum), y[t][v]);
        }
      }
    }
  }
}

struct Target {
  float* out;                                        // of the first token and row
  int64_t stride;
  const float* bias;                                 // of the first row, or null
  int32_t valid;                                     // rows that exist from the first on
  bool accumulate;
};

template <PanelKind kKind, int kTokens>
__attribute__((noinline)) static void tile(const std::byte* panel, int32_t groups, int zero_shift, const Tokens& in,
                                           const Ahead& ahead, const Target& to) {
  F y[kTokens][2];
  multiply<kKind, kTokens>(panel, groups, zero_shift, in, ahead, y);
  for (int v = 0; v < 2; ++v) {
    const int32_t left = to.valid - v * 16;
    const F bias = to.bias != nullptr ? load(to.bias + v * 16) : set1(0);
    const __mmask16 exists = first(left >= 16 ? 16 : left < 0 ? 0 : left);
    for (int t = 0; t < kTokens; ++t) {
      float* out = to.out + t * to.stride + v * 16;
      F value = to.bias != nullptr ? add(y[t][v], bias) : y[t][v];
      if (to.accumulate) value = add(_mm512_maskz_loadu_ps(exists, out), value);
      _mm512_mask_storeu_ps(out, exists, value);
    }
  }
}

using TileFunction = void (*)(const std::byte*, int32_t, int, const Tokens&, const Ahead&, const Target&);

template <PanelKind kKind>
static void linear_kind(const Panels& w, Range panels, const Rows& in, Range rows, float* out, int64_t out_stride,
                        bool accumulate, const Later& later) {
  static constexpr TileFunction kTiles[] = {tile<kKind, 1>, tile<kKind, 2>, tile<kKind, 3>,
                                            tile<kKind, 4>, tile<kKind, 5>, tile<kKind, 6>};
  constexpr auto kUnitLines = static_cast<int32_t>(unit_bytes(kKind) / 64);
  const int32_t tiles = (rows.count + kTileTokens - 1) / kTileTokens, groups = w.columns / kGroup;
  const int32_t lines = (kUnitLines + tiles - 1) / tiles, asking = (kUnitLines + lines - 1) / lines;
  // With one or two tiles the op is bound by memory itself.
  const int64_t all_groups = int64_t{panels.count} * tiles * groups, wanted = tiles > 2 ? later.end - later.first : 0;
  const auto later_lines = static_cast<int32_t>(wanted <= 0 ? 0 : min_of((wanted + all_groups - 1) / all_groups, kLaterLines));
  int64_t later_line = later.first;
  for (int32_t p = panels.first; p < panels.first + panels.count; ++p) {
    const std::byte* panel = w.data + static_cast<size_t>(p) * w.panel_bytes;
    const int32_t at = p * kPanelRows;
    // One tile asks for what it will read itself. Of several the last ones each ask for a part of the next panel, so that
    // memory works while they compute; else the first would wait for all of a panel and the others for nothing.
    Ahead ahead{tiles == 1 ? panel + kPrefetchBytes : panel + w.panel_bytes, 0};
    int32_t r = rows.first;
    for (int32_t t = 0; t < tiles; ++t) {
      const int32_t n = (rows.first + rows.count - r + tiles - t - 1) / (tiles - t);
      const Tokens tokens{in.codes + static_cast<int64_t>(r) * in.stride,
                          in.groups + static_cast<int64_t>(r) * in.group_stride, in.stride, in.group_stride};
      const Target to{out + r * out_stride + at, out_stride, w.bias != nullptr ? w.bias + at : nullptr, w.rows - at,
                      accumulate};
      ahead.later_lines = later_line < later.end ? later_lines : 0;
      if (ahead.later_lines > 0) {                   // may run past its piece, which harms nothing
        ahead.later_at = later.base + static_cast<size_t>(later.blocks[later_line / later.piece_lines]) * later.stride +
                         static_cast<size_t>(later_line % later.piece_lines) * 64;
        later_line += groups * later_lines;
      }
      ahead.lines = t >= tiles - asking ? lines : 0;
      kTiles[n - 1](panel, groups, w.zero_shift, tokens, ahead, to);
      ahead.at += static_cast<size_t>(groups * ahead.lines) * 64;
      r += n;
    }
  }
}

static void linear(const Panels& w, Range panels, const Rows& in, Range rows, float* out, int64_t out_stride,
                   bool accumulate, const Later& later) {
  if (rows.count <= 0) return;
  switch (w.kind) {
    case PanelKind::n4_h: return linear_kind<PanelKind::n4_h>(w, panels, in, rows, out, out_stride, accumulate, later);
    case PanelKind::n4_hm: return linear_kind<PanelKind::n4_hm>(w, panels, in, rows, out, out_stride, accumulate, later);
    case PanelKind::n4_fm: return linear_kind<PanelKind::n4_fm>(w, panels, in, rows, out, out_stride, accumulate, later);
    case PanelKind::b8_h: return linear_kind<PanelKind::b8_h>(w, panels, in, rows, out, out_stride, accumulate, later);
    case PanelKind::b8_hm: return linear_kind<PanelKind::b8_hm>(w, panels, in, rows, out, out_stride, accumulate, later);
    case PanelKind::b8_fm: return linear_kind<PanelKind::b8_fm>(w, panels, in, rows, out, out_stride, accumulate, later);
    case PanelKind::b8_f_16: return linear_kind<PanelKind::b8_f_16>(w, panels, in, rows, out, out_stride, accumulate, later);
    case PanelKind::f32:
    case PanelKind::f16:
    case PanelKind::bf16: break;
  }
  __builtin_trap();                                  // float weights are linear_float's
}

}  // namespace tokenworks::kernels::TW_PATH
