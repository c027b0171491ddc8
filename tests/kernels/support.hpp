#pragma once
// What the kernel tests share: tensors of every type with random blocks, packed panels, activations, and a double oracle.
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/pack.hpp"
#include "kernels/ops.hpp"
#include "tokenworks/formats/tensor.hpp"

namespace tokenworks::kernels {

inline std::vector<CpuPath> paths() {                // those that this machine can run
  std::vector<CpuPath> all;
  for (const CpuPath p : {CpuPath::portable, CpuPath::avx2, CpuPath::avx512})
    if (machine_has(p)) all.push_back(p);
  return all;
}

inline const std::vector<formats::TensorType>& every_type() {
  using enum formats::TensorType;
  static const std::vector<formats::TensorType> types{f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k};
  return types;
}
inline bool quantised(formats::TensorType t) { return formats::block_elements(t) > 1; }

inline std::vector<float> normal(std::size_t n, unsigned seed, float spread = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> d(0.0f, spread);
  std::vector<float> x(n);
  for (float& v : x) v = d(random);
  return x;
}

// Random codes; random scales of a sensible size, among them negative, zero and subnormal ones.
struct RandomTensor {
  std::vector<std::byte> bytes;
  formats::TensorView view;
  std::vector<float> values;                         // by formats::dequantize

  RandomTensor(formats::TensorType type, std::int64_t rows, std::int64_t columns, unsigned seed) {
    using enum formats::TensorType;
    std::mt19937 random(seed);
    const auto block = static_cast<std::size_t>(formats::block_bytes(type));
    bytes.resize(static_cast<std::size_t>(rows * columns / formats::block_elements(type)) * block);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    const auto half = [&](std::size_t at) {
      std::uint16_t h = static_cast<std::uint16_t>((random() & 0x83FFu) | (12 + random() % 4) << 10);
      if (random() % 50 == 0) h = static_cast<std::uint16_t>(random() & 0x83FFu);       // subnormal or zero
      std::memcpy(&bytes[at], &h, 2);
    };
    for (std::size_t b = 0; b < bytes.size(); b += block) {
      if (type == f32) {
        const float v = std::normal_distribution<float>()(random);
        std::memcpy(&bytes[b], &v, 4);
      } else if (type == bf16) {
        const float v = std::normal_distribution<float>()(random);
        std::memcpy(&bytes[b], reinterpret_cast<const char*>(&v) + 2, 2);
      } else if (type == q6_k) {
        half(b + 208);
      } else {
        half(b);
        if (type == q4_1 || type == q5_1 || type == q4_k || type == q5_k) half(b + 2);
      }
    }
    view.name = std::string("random ") + formats::name(type);
    view.type = type;
    view.shape = {rows, columns};
    view.bytes = bytes;
    values.resize(static_cast<std::size_t>(rows * columns));
    formats::dequantize(type, bytes, values);
  }
};

struct Packed {
  std::vector<std::byte> storage;
  std::vector<float> bias;
  Panels panels;

  Packed(const formats::TensorView& t, backend::PanelForm form, unsigned bias_seed = 0) {
    const auto rows = static_cast<std::int32_t>(t.rows()), columns = static_cast<std::int32_t>(t.columns());
    const std::int32_t count = (rows + kPanelRows - 1) / kPanelRows;
    const std::size_t stride = backend::panel_bytes(form, columns);
    storage.resize(stride * static_cast<std::size_t>(count) + 64);
    std::byte* data = storage.data();
    data += (64 - reinterpret_cast<std::uintptr_t>(data) % 64) % 64;
    const std::size_t row_bytes = t.bytes.size() / static_cast<std::size_t>(rows);
    for (std::int32_t p = 0; p < count; ++p) {
      std::vector<backend::RowSource> sources;
      for (std::int32_t r = p * kPanelRows; r < std::min(rows, (p + 1) * kPanelRows); ++r)
        sources.push_back({t.type, t.bytes.data() + static_cast<std::size_t>(r) * row_bytes});
      backend::pack_panel(form, sources, columns, data + static_cast<std::size_t>(p) * stride);
    }
    panels = {form.kind, form.zero_shift, rows, columns, stride, data, nullptr};
    if (bias_seed != 0) {
      bias = normal(static_cast<std::size_t>(count) * kPanelRows, bias_seed);
      panels.bias = bias.data();
    }
  }
  explicit Packed(const formats::TensorView& t, unsigned bias_seed = 0)
      : Packed(t, backend::form_of(t.type), bias_seed) {}
};

// Activations as fp32 and as the int8 that `ops` makes of them.
struct Activation {
  std::vector<float> values;
  std::vector<std::int8_t> codes;
  std::vector<GroupScale> groups;
  Rows rows;

  Activation(const CpuOps& ops, const std::vector<float>& x, std::int32_t count, std::int32_t columns) : values(x) {
    rows.columns = columns;
    rows.stride = (columns + 31) / 32 * 32;
    rows.group_stride = rows.stride / 32;
    std::vector<float> padded(static_cast<std::size_t>(count) * rows.stride);
    codes.resize(padded.size());
    groups.resize(static_cast<std::size_t>(count) * rows.group_stride);
    for (std::int32_t r = 0; r < count; ++r) {
      const auto at = static_cast<std::size_t>(r);
      std::memcpy(&padded[at * rows.stride], &x[at * columns], static_cast<std::size_t>(columns) * 4);
      ops.quantize(&x[at * columns], columns, &codes[at * rows.stride], &groups[at * rows.group_stride]);
    }
    values = padded;
    rows.values = values.data();
    rows.codes = codes.data();
    rows.groups = groups.data();
  }
  double dequantised(std::int32_t row, std::int32_t column) const {
    const auto r = static_cast<std::size_t>(row);
    return static_cast<double>(groups[r * rows.group_stride + column / 32].scale) * codes[r * rows.stride + column];
  }
};

inline double rms(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum / static_cast<double>(x.size()));
}

}  // namespace tokenworks::kernels
