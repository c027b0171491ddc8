// Reading panels back: scales, single rows (embedding tables) and whole panels as fp32 (the float linear on quantised
// weights). Every kind's value d * code + m or d * (code - zero) is exact or rounded once, as the file format defines it.
#pragma once
#include "vec.hpp"

#include "kernels/ops.hpp"

namespace tokenworks::kernels::TW_PATH {

// Scale vector `which` (0: d, 1: m or the second half's d) of rows [row, row + width) of a group at `unit`.
TW_INLINE F load_scale(PanelKind kind, const std::byte* unit, int which, int row) {
  const std::byte* scales = unit + code_bytes(kind);
  if (has_half_scales(kind)) return load_f16(reinterpret_cast<const uint16_t*>(scales) + which * kPanelRows + row);
  return load(reinterpret_cast<const float*>(scales) + which * kPanelRows + row);
}

// Code words of element quad j of rows [row, row + width): four codes in the bytes of each lane.
TW_INLINE I load_quad(PanelKind kind, const std::byte* unit, int j, int row) {
  if (!has_nibbles(kind)) return iload(unit + j * 128 + row * 4);
  const I word = iload(unit + (j / 2) * 128 + row * 4);
#if TW_WIDTH == 16
  return iand(j % 2 == 0 ? word : _mm512_srli_epi32(word, 4), iset1(0x0F0F0F0F));
#elif TW_WIDTH == 8
  return iand(j % 2 == 0 ? word : _mm256_srli_epi32(word, 4), iset1(0x0F0F0F0F));
#else
  return (j % 2 == 0 ? word : word >> 4) & iset1(0x0F0F0F0F);
#endif
}

// The fp32 values of one group of a panel into out [32 columns][32 rows].
TW_INLINE void unpack_group(PanelKind kind, float zero, const std::byte* unit, float* out) {
  for (int row = 0; row < kPanelRows; row += kWidth) {
    for (int j = 0; j < kGroup / 4; ++j) {
      const bool second = kind == PanelKind::b8_f_16 && j >= kGroup / 8;
      const F d = load_scale(kind, unit, second ? 1 : 0, row);
      const F m = has_offsets(kind) ? load_scale(kind, unit, 1, row) : set1(0);
      const I quad = load_quad(kind, unit, j, row);
      for (int i = 0; i < 4; ++i) {
#if TW_WIDTH == 16
        const I code = iand(_mm512_srli_epi32(quad, static_cast<unsigned>(8 * i)), iset1(255));
#elif TW_WIDTH == 8
        const I code = iand(_mm256_srli_epi32(quad, 8 * i), iset1(255));
#else
        const I code = (quad >> (8 * i)) & iset1(255);
#endif
        const F value = mul(d, sub(to_float(code), set1(zero)));
        store(out + (4 * j + i) * kPanelRows + row, has_offsets(kind) ? add(value, m) : value);
      }
    }
  }
}

TW_INLINE float zero_of(const Panels& p) {
  return is_float(p.kind) || has_offsets(p.kind) ? 0.0f : static_cast<float>(1 << p.zero_shift);
}

TW_INLINE float scale_of(const Panels& p, const std::byte* unit, int which, int row) {
  alignas(64) float d[kWidth];
  store(d, load_scale(p.kind, unit, which, row / kWidth * kWidth));
  return d[row % kWidth];
}

static void embed(const Panels& table, int32_t row, float* out) {
  const std::byte* panel = table.data + static_cast<size_t>(row / kPanelRows) * table.panel_bytes;
  const int32_t lane = row % kPanelRows;
  if (is_float(table.kind)) {
    for (int32_t c = 0; c < table.columns; ++c) {
      if (table.kind == PanelKind::f32) {
        memcpy(out + c, panel + static_cast<size_t>(c) * 128 + lane * 4, 4);
        continue;
      }
      uint16_t bits[kWidth] = {};
      memcpy(bits, panel + static_cast<size_t>(c) * 64 + lane * 2, 2);
      alignas(64) float value[kWidth];
      store(value, table.kind == PanelKind::f16 ? load_f16(bits) : load_bf16(bits));
      out[c] = value[0];
    }
    return;
  }
  const float zero = zero_of(table);
  for (int32_t c = 0; c < table.columns; c += kGroup) {
    const std::byte* unit = panel + static_cast<size_t>(c / kGroup) * unit_bytes(table.kind);
    for (int j = 0; j < kGroup / 4; ++j) {
      const float d = scale_of(table, unit, table.kind == PanelKind::b8_f_16 && j >= kGroup / 8 ? 1 : 0, lane);
      const float m = has_offsets(table.kind) ? scale_of(table, unit, 1, lane) : 0.0f;
      for (int i = 0; i < 4; ++i) {
        uint32_t code;
        if (has_nibbles(table.kind))
          code = static_cast<uint32_t>(unit[(j / 2) * 128 + lane * 4 + i]) >> (j % 2 * 4) & 15u;
        else
          code = static_cast<uint32_t>(unit[j * 128 + lane * 4 + i]);
        const float value = d * (static_cast<float>(code) - zero);
        out[c + 4 * j + i] = has_offsets(table.kind) ? value + m : value;   // adding 0 would lose the sign of a zero
      }
    }
  }
}

}  // namespace tokenworks::kernels::TW_PATH
