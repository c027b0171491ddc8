#include "backend/cpu/pack.hpp"

#include <cassert>
#include <cstring>
#include <vector>

// Block layouts: ggml-common.h of ggml (MIT); formats::dequantize is the reference for what they mean.

namespace tokenworks::backend {
namespace {

using formats::TensorType;
using kernels::kGroup;
using kernels::kPanelRows;
using kernels::PanelKind;
using Byte = std::uint8_t;

struct Group {                                       // 32 columns of a row: value = d * code + m, or d * (code - zero)
  Byte codes[kGroup];
  float d[2];                                        // second: of the upper half, b8_f_16 only
  float m;
  std::uint16_t half_d, half_m;                      // as in the file, for kinds with fp16 scales
};

std::uint16_t u16(const Byte* p) { return static_cast<std::uint16_t>(p[0] | p[1] << 8); }

float half(std::uint16_t h) {
  const bool negative = (h & 0x8000) != 0;
  const std::uint32_t exponent = h >> 10 & 31, mantissa = h & 1023;
  std::uint32_t bits = exponent == 31 ? 0x7F800000u | mantissa << 13 : (exponent + 112) << 23 | mantissa << 13;
  float f;
  std::memcpy(&f, &bits, 4);
  if (exponent == 0) f = static_cast<float>(mantissa) * 0x1p-24f;
  return negative ? -f : f;
}

void nibbles(const Byte* packed, Byte* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = packed[i] & 15;
    codes[i + 16] = packed[i] >> 4;
  }
}

void fifth_bits(const Byte* bits, Byte* codes) {
  std::uint32_t mask;
  std::memcpy(&mask, bits, 4);
  for (int i = 0; i < kGroup; ++i) codes[i] = static_cast<Byte>(codes[i] | (mask >> i & 1u) << 4);
}

void set_scales(Group& g, std::uint16_t d, std::uint16_t m) {
  g.half_d = d;
  g.half_m = m;
  g.d[0] = g.d[1] = half(d);
  g.m = half(m);
}

// Scale and minimum j of the eight that a K-quant packs into 12 bytes, six bits each.
void k_scale(const Byte* packed, int j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *minimum = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4;
    *minimum = packed[j + 4] >> 4 | (packed[j] >> 6) << 4;
  }
}

void k_group(const Byte* block, int j, bool five_bits, Group& g) {
  const Byte* quants = block + 16 + (five_bits ? 32 : 0) + j / 2 * 32;
  for (int i = 0; i < kGroup; ++i) {
    g.codes[i] = static_cast<Byte>(j % 2 == 0 ? quants[i] & 15 : quants[i] >> 4);
    if (five_bits) g.codes[i] = static_cast<Byte>(g.codes[i] | (block[16 + i] >> j & 1) << 4);
  }
  int scale = 0, minimum = 0;
  k_scale(block + 4, j, &scale, &minimum);
  g.d[0] = g.d[1] = half(u16(block)) * static_cast<float>(scale);
  g.m = -(half(u16(block + 2)) * static_cast<float>(minimum));
}

void q6_group(const Byte* block, int j, Group& g) {
  const int side = j / 4, quarter = j % 4;           // 128 elements a side, 32 a quarter
  const Byte* low = block + side * 64 + quarter % 2 * 32;
  const Byte* high = block + 128 + side * 32;
  for (int i = 0; i < kGroup; ++i) {
    const int four = quarter < 2 ? low[i] & 15 : low[i] >> 4;
    g.codes[i] = static_cast<Byte>(four | (high[i] >> (2 * quarter) & 3) << 4);
  }
  const float d = half(u16(block + 208));
  for (int h = 0; h < 2; ++h)
    g.d[h] = d * static_cast<float>(static_cast<std::int8_t>(block[192 + side * 8 + quarter * 2 + h]));
  g.m = 0;
}

void decode(TensorType type, const Byte* row, std::int32_t group, Group& g) {
  const Byte* b = row + group * formats::block_bytes(type);
  const Byte* super = row + group / 8 * formats::block_bytes(type);   // K-quants: eight groups to a block
  switch (type) {
    case TensorType::q4_0: nibbles(b + 2, g.codes); set_scales(g, u16(b), 0); return;
    case TensorType::q4_1: nibbles(b + 4, g.codes); set_scales(g, u16(b), u16(b + 2)); return;
    case TensorType::q5_0: nibbles(b + 6, g.codes); fifth_bits(b + 2, g.codes); set_scales(g, u16(b), 0); return;
    case TensorType::q5_1:
      nibbles(b + 8, g.codes);
      fifth_bits(b + 4, g.codes);
      set_scales(g, u16(b), u16(b + 2));
      return;
    case TensorType::q8_0:
      for (int i = 0; i < kGroup; ++i) g.codes[i] = b[2 + i] ^ 0x80;   // int8 + 128
      set_scales(g, u16(b), 0);
      return;
    case TensorType::q4_k: k_group(super, group % 8, false, g); return;
    case TensorType::q5_k: k_group(super, group % 8, true, g); return;
    case TensorType::q6_k: q6_group(super, group % 8, g); return;
    case TensorType::f32:
    case TensorType::f16:
    case TensorType::bf16: break;
  }
  assert(false && "a float type has no groups");
}

float zero_of(TensorType type) {
  const PanelForm form = form_of(type);
  return kernels::has_offsets(form.kind) ? 0.0f : static_cast<float>(1 << form.zero_shift);
}

void put_group(PanelForm form, const Group& g, int lane, std::byte* unit) {
  std::uint32_t quads[kGroup / 4];
  std::memcpy(quads, g.codes, sizeof quads);
  if (kernels::has_nibbles(form.kind)) {
    for (int j = 0; j < kGroup / 8; ++j) {
      const std::uint32_t both = quads[2 * j] | quads[2 * j + 1] << 4;
      std::memcpy(unit + j * 128 + lane * 4, &both, 4);
    }
  } else {
    for (int j = 0; j < kGroup / 4; ++j) std::memcpy(unit + j * 128 + lane * 4, &quads[j], 4);
  }
  std::byte* scales = unit + kernels::code_bytes(form.kind);
  if (kernels::has_half_scales(form.kind)) {
    std::memcpy(scales + lane * 2, &g.half_d, 2);
    if (kernels::has_offsets(form.kind)) std::memcpy(scales + 64 + lane * 2, &g.half_m, 2);
  } else {
    const float second = form.kind == PanelKind::b8_f_16 ? g.d[1] : g.m;
    std::memcpy(scales + lane * 4, &g.d[0], 4);
    if (kernels::has_offsets(form.kind) || form.kind == PanelKind::b8_f_16)
      std::memcpy(scales + 128 + lane * 4, &second, 4);
  }
}

void pack_floats(PanelForm form, std::span<const RowSource> rows, std::int32_t columns, std::byte* out) {
  const std::size_t element = form.kind == PanelKind::f32 ? 4 : 2;
  std::vector<float> values;
  for (std::size_t lane = 0; lane < kPanelRows; ++lane) {
    const RowSource row = lane < rows.size() ? rows[lane] : RowSource{TensorType::f32, nullptr};
    const std::byte* from = row.bytes;
    if (from != nullptr && form_of(row.type).kind != form.kind) {       // fp32 holds the values of every type exactly
      values.resize(static_cast<std::size_t>(columns));
      const std::size_t blocks = static_cast<std::size_t>(columns / formats::block_elements(row.type));
      formats::dequantize(row.type, {from, blocks * static_cast<std::size_t>(formats::block_bytes(row.type))}, values);
      from = reinterpret_cast<const std::byte*>(values.data());
    }
    std::byte* to = out + lane * element;
    for (std::int32_t c = 0; c < columns; ++c, to += kPanelRows * element) {
      if (from == nullptr)
        std::memset(to, 0, element);
      else
        std::memcpy(to, from + static_cast<std::size_t>(c) * element, element);
    }
  }
}

}  // namespace

PanelForm form_of(TensorType type) {
  switch (type) {
    case TensorType::f32: return {PanelKind::f32, 0};
    case TensorType::f16: return {PanelKind::f16, 0};
    case TensorType::bf16: return {PanelKind::bf16, 0};
    case TensorType::q8_0: return {PanelKind::b8_h, 7};
    case TensorType::q4_0: return {PanelKind::n4_h, 3};
    case TensorType::q4_1: return {PanelKind::n4_hm, 0};
    case TensorType::q5_0: return {PanelKind::b8_h, 4};
    case TensorType::q5_1: return {PanelKind::b8_hm, 0};
    case TensorType::q4_k: return {PanelKind::n4_fm, 0};
    case TensorType::q5_k: return {PanelKind::b8_fm, 0};
    case TensorType::q6_k: return {PanelKind::b8_f_16, 5};
  }
  return {PanelKind::f32, 0};
}

PanelForm common_form(std::span<const TensorType> types) {
  assert(!types.empty());
  bool same = true, groups = true;
  for (const TensorType type : types) {
    same = same && type == types[0];
    const PanelKind kind = form_of(type).kind;
    groups = groups && !kernels::is_float(kind) && kind != PanelKind::b8_f_16 && type != TensorType::q8_0;
  }
  return same ? form_of(types[0]) : groups ? PanelForm{PanelKind::b8_fm, 0} : PanelForm{PanelKind::f32, 0};
}

std::size_t panel_bytes(PanelForm form, std::int32_t columns) {
  const std::int32_t units = kernels::is_float(form.kind) ? columns : columns / kGroup;
  return static_cast<std::size_t>(units) * kernels::unit_bytes(form.kind);
}

void pack_panel(PanelForm form, std::span<const RowSource> rows, std::int32_t columns, std::byte* out) {
  if (kernels::is_float(form.kind)) return pack_floats(form, rows, columns, out);
  for (std::size_t lane = 0; lane < kPanelRows; ++lane) {
    const RowSource row = lane < rows.size() ? rows[lane] : RowSource{TensorType::f32, nullptr};
    const bool promoted = row.bytes != nullptr && form_of(row.type).kind != form.kind;
    const float zero = promoted ? zero_of(row.type) : 0;
    for (std::int32_t group = 0; group < columns / kGroup; ++group) {
      Group g{};
      if (row.bytes != nullptr) decode(row.type, reinterpret_cast<const Byte*>(row.bytes), group, g);
      if (promoted && zero != 0) g.m = -zero * g.d[0];                  // a power of two: exact
      put_group(form, g, static_cast<int>(lane),
                out + static_cast<std::size_t>(group) * kernels::unit_bytes(form.kind));
    }
  }
}

}  // namespace tokenworks::backend
