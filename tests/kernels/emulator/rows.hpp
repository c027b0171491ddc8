#pragma once
// Activation rows of a kernel test: made on the emulated device, read back, compared in units of the format's rounding.
#include <cmath>
#include <random>

#include "harness.hpp"

namespace tokenworks::emulator {

inline std::vector<float> normal(std::size_t n, unsigned seed, float spread = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> d(0.0f, spread);
  std::vector<float> x(n);
  for (float& v : x) v = d(random);
  return x;
}

// Conversions of this file's own, by arithmetic, so that a mistake in the kernels' is not shared.
inline double decode(kernels::cuda::Element e, std::uint32_t bits) {
  using kernels::cuda::Element;
  const int exponent_bits = e == Element::bf16 ? 8 : e == Element::f16 ? 5 : 4, mantissa_bits = e == Element::bf16 ? 7 : e == Element::f16 ? 10 : 3;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto mantissa = static_cast<int>(bits & ((1u << mantissa_bits) - 1));
  const auto exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  const double sign = (bits >> (mantissa_bits + exponent_bits) & 1u) != 0 ? -1 : 1;
  if (e == Element::fp8 ? (bits & 0x7Fu) == 0x7Fu : exponent == (1 << exponent_bits) - 1) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
}
// Nearest, ties to even mantissa; saturating for fp8, infinite beyond the range for the others.
inline std::uint32_t encode(kernels::cuda::Element e, double value) {
  using kernels::cuda::Element;
  const int exponent_bits = e == Element::bf16 ? 8 : e == Element::f16 ? 5 : 4, mantissa_bits = e == Element::bf16 ? 7 : e == Element::f16 ? 10 : 3;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const std::uint32_t sign = std::signbit(value) ? 1u << (mantissa_bits + exponent_bits) : 0;
  const double size = std::abs(value);
  int exponent = size == 0 ? 1 - bias : std::max(std::ilogb(size), 1 - bias);
  const double steps = std::nearbyint(std::ldexp(size, mantissa_bits - exponent));
  std::uint32_t bits = static_cast<std::uint32_t>(steps) + (static_cast<std::uint32_t>(exponent + bias - 1) << mantissa_bits);
  const std::uint32_t most = e == Element::fp8 ? 0x7Eu : ((1u << exponent_bits) - 1) << mantissa_bits;
  return sign | std::min(bits, most);
}
// Half a unit in the last place of `value` in the format.
inline double rounding(kernels::cuda::Element e, double value) {
  using kernels::cuda::Element;
  const int mantissa_bits = e == Element::bf16 ? 7 : e == Element::f16 ? 10 : 3, lowest = e == Element::bf16 ? -126 : e == Element::f16 ? -14 : -6;
  const int exponent = value == 0 ? lowest : std::max(std::ilogb(value), lowest);
  return std::ldexp(0.5, exponent - mantissa_bits);
}

inline std::int32_t padded(std::int32_t columns) {
  return (columns + kernels::cuda::kColumnPad - 1) / kernels::cuda::kColumnPad * kernels::cuda::kColumnPad;
}

class OutRows {                                      // for a kernel to fill
 public:
  OutRows(EmulatedDevice& device, kernels::cuda::Element e, std::int32_t rows, std::int32_t columns)
      : element_(e), columns_(columns), stride_(padded(columns)),
        data_(device, static_cast<std::size_t>(rows) * stride_ * kernels::cuda::bytes_of(e), "rows out"),
        scales_(device, static_cast<std::size_t>(rows), "scales out") {}
  kernels::cuda::Rows view() const { return {data_.get(), scales_.get(), element_, columns_, stride_}; }

  double value(std::int32_t row, std::int32_t column) const {
    const std::size_t at = static_cast<std::size_t>(row) * stride_ + column, size = kernels::cuda::bytes_of(element_);
    std::uint32_t bits = 0;
    std::memcpy(&bits, data_.get() + at * size, size);
    return decode(element_, bits) * scale(row);
  }
  double scale(std::int32_t row) const { return element_ == kernels::cuda::Element::fp8 ? scales_.get()[row] : 1.0; }
  // The largest error of a row in units of half a last place (at least fp32's own), padding must be zero.
  double error_of_row(std::int32_t row, const std::vector<double>& expected) const {
    double worst = 0;
    for (std::int32_t c = 0; c < columns_; ++c) {
      const double e = expected[static_cast<std::size_t>(c)], s = scale(row);
      const double unit = rounding(element_, e / s) * s + std::abs(e) * 0x1p-20;
      const double error = std::abs(value(row, c) - e) / unit;
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
    for (std::int32_t c = columns_; c < stride_; ++c)
      if (value(row, c) != 0) return INFINITY;
    return worst;
  }

 private:
  kernels::cuda::Element element_;
  std::int32_t columns_, stride_;
  DeviceArray<unsigned char> data_;
  DeviceArray<float> scales_;
};

// Rows for a kernel to read: rounded to the format here; values() is what they then mean.
class InRows {
 public:
  InRows(EmulatedDevice& device, kernels::cuda::Element e, const std::vector<float>& x, std::int32_t rows, std::int32_t columns)
      : InRows(pack(e, x, rows, columns), device, e, columns) {}
  kernels::cuda::Rows view() const { return {data_.get(), scales_.get(), element_, columns_, stride_}; }
  const std::vector<double>& values() const { return values_; }      // [rows, columns]

 private:
  struct Packed {
    std::vector<unsigned char> data;
    std::vector<float> scales;
    std::vector<double> values;
  };
  InRows(Packed p, EmulatedDevice& device, kernels::cuda::Element e, std::int32_t columns)
      : element_(e), columns_(columns), stride_(padded(columns)), values_(std::move(p.values)),
        data_(device, p.data, "rows in"), scales_(device, p.scales, "scales in") {}
  static Packed pack(kernels::cuda::Element e, const std::vector<float>& x, std::int32_t rows, std::int32_t columns) {
    Packed p;
    const std::size_t size = kernels::cuda::bytes_of(e);
    p.data.resize(static_cast<std::size_t>(rows) * padded(columns) * size);
    p.scales.assign(static_cast<std::size_t>(rows), 1.0f);
    for (std::int32_t r = 0; r < rows; ++r) {
      const float* row = &x[static_cast<std::size_t>(r) * columns];
      float largest = 0;
      for (std::int32_t c = 0; c < columns; ++c) largest = std::max(largest, std::abs(row[c]));
      if (e == kernels::cuda::Element::fp8) p.scales[static_cast<std::size_t>(r)] = largest > 0 ? largest / 448 : 1;
      const double s = p.scales[static_cast<std::size_t>(r)];
      for (std::int32_t c = 0; c < columns; ++c) {
        const std::uint32_t bits = encode(e, row[c] / s);
        std::memcpy(&p.data[(static_cast<std::size_t>(r) * padded(columns) + c) * size], &bits, size);
        p.values.push_back(decode(e, bits) * s);
      }
    }
    return p;
  }
  kernels::cuda::Element element_;
  std::int32_t columns_, stride_;
  std::vector<double> values_;
  DeviceArray<unsigned char> data_;
  DeviceArray<float> scales_;
};

}  // namespace tokenworks::emulator
