// The ops of encoders against double, in every table.
#include <gtest/gtest.h>

#include "support.hpp"

namespace tokenworks::kernels {
namespace {

struct Out {
  std::vector<float> values;
  std::vector<std::int8_t> codes;
  std::vector<GroupScale> groups;
  Rows rows;
  Out(std::int32_t count, std::int32_t columns, bool quantised) {
    const std::int32_t stride = (columns + 31) / 32 * 32, groups_each = stride / 32;
    values.resize(static_cast<std::size_t>(count * stride), -7);
    if (quantised) codes.resize(values.size()), groups.resize(static_cast<std::size_t>(count * groups_each));
    rows = {values.data(), quantised ? codes.data() : nullptr, quantised ? groups.data() : nullptr, columns, stride, groups_each};
  }
  float at(std::int32_t row, std::int32_t column) const { return values[static_cast<std::size_t>(row * rows.stride + column)]; }
  float decoded(std::int32_t row, std::int32_t column) const {
    return groups[static_cast<std::size_t>(row * rows.group_stride + column / 32)].scale *
           static_cast<float>(codes[static_cast<std::size_t>(row * rows.stride + column)]);
  }
};

TEST(LayerNorm, IsTheDoubleOneInPlaceAndInTheOutput) {
  for (const CpuPath path : paths()) {
    for (const std::int32_t columns : {1, 7, 32, 48, 80, 384, 1000}) {
      const std::int32_t rows = 5;
      const auto weight = normal(static_cast<std::size_t>(columns), 1), bias = normal(static_cast<std::size_t>(columns), 2);
      auto hidden = normal(static_cast<std::size_t>(rows * columns), 3, 4.0f);
      for (std::int32_t c = 0; c < columns; ++c) hidden[static_cast<std::size_t>(2 * columns + c)] += 1000;   // far from zero
      const auto before = hidden;
      Out out(rows, columns, true);
      ops(path).layer_norm(hidden.data(), weight.data(), bias.data(), 1e-5f, columns, {0, rows}, out.rows);
      for (std::int32_t r = 0; r < rows; ++r) {
        const auto at = [&](std::int32_t c) { return static_cast<double>(before[static_cast<std::size_t>(r * columns + c)]); };
        double mean = 0, variance = 0, largest = 0;
        for (std::int32_t c = 0; c < columns; ++c) mean += at(c) / columns;
        for (std::int32_t c = 0; c < columns; ++c) variance += (at(c) - mean) * (at(c) - mean) / columns;
        for (std::int32_t c = 0; c < columns; ++c) {
          const double want = (at(c) - mean) / std::sqrt(variance + 1e-5) * weight[static_cast<std::size_t>(c)] + bias[static_cast<std::size_t>(c)];
          const double bound = (r == 2 ? 1e-3 : 2e-5) * (1 + std::abs(want));
          largest = std::max(largest, std::abs(want));
          ASSERT_NEAR(hidden[static_cast<std::size_t>(r * columns + c)], want, bound) << name(path) << " columns " << columns << " row " << r;
          ASSERT_EQ(out.at(r, c), hidden[static_cast<std::size_t>(r * columns + c)]);
        }
        for (std::int32_t c = 0; c < columns; ++c) ASSERT_NEAR(out.decoded(r, c), out.at(r, c), largest / 127);
      }
    }
  }
}

TEST(Activate, IsTheDefinitionInDouble) {
  const double kPi = 3.14159265358979323846;
  const auto want = [&](double x, std::int32_t act) {
    switch (act) {
      case 0: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
      case 1: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / kPi) * (x + 0.044715 * x * x * x)));
      case 2: return std::max(x, 0.0);
      default: return x / (1 + std::exp(-x));
    }
  };
  for (const CpuPath path : paths()) {
    for (std::int32_t act = 0; act < 4; ++act) {
      const std::int32_t rows = 3, columns = 77;
      auto in = normal(static_cast<std::size_t>(rows * columns), 9, 3.0f);
      in[0] = 0, in[1] = 40, in[2] = -40, in[3] = 1e-20f;
      Out out(rows, columns, true);
      ops(path).activate(in.data(), act, columns, {0, rows}, out.rows);
      for (std::int32_t r = 0; r < rows; ++r) {
        for (std::int32_t c = 0; c < columns; ++c) {
          const double x = in[static_cast<std::size_t>(r * columns + c)];
          ASSERT_NEAR(out.at(r, c), want(x, act), 1e-6 * (1 + std::abs(x))) << name(path) << " act " << act << " x " << x;
        }
      }
    }
  }
}

}  // namespace
}  // namespace tokenworks::kernels
