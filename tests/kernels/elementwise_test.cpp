// quantize, norm, gate and rope of every table against their definitions in double.
#include <gtest/gtest.h>

#include <limits>

#include "support.hpp"

namespace tokenworks::kernels {
namespace {

const float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

TEST(Quantize, FollowsItsDefinitionToTheBitInEveryTable) {
  std::mt19937 random(1);
  for (const std::int32_t columns : {1, 15, 31, 32, 33, 48, 80, 576}) {
    for (int trial = 0; trial < 40; ++trial) {
      std::vector<float> x =
          normal(static_cast<std::size_t>(columns), random(), std::pow(10.0f, static_cast<float>(trial % 20) - 10));
      if (trial % 5 == 0) x[random() % x.size()] *= 1000;             // an outlier
      if (trial % 7 == 0) std::fill(x.begin(), x.end(), trial % 2 == 0 ? 0.0f : -2.5f);
      const Activation first(ops(CpuPath::portable), x, 1, columns);
      for (std::int32_t c = 0; c < columns; ++c) {
        const std::int32_t g = c / 32;
        float maximum = 0;
        for (std::int32_t i = g * 32; i < std::min(columns, g * 32 + 32); ++i)
          maximum = std::max(maximum, std::fabs(x[static_cast<std::size_t>(i)]));
        const auto code =
            maximum == 0 ? 0 : static_cast<int>(std::nearbyintf(x[static_cast<std::size_t>(c)] * (127.0f / maximum)));
        ASSERT_EQ(first.codes[static_cast<std::size_t>(c)], code);
        ASSERT_EQ(first.groups[static_cast<std::size_t>(g)].scale, maximum * (1.0f / 127.0f));
      }
      for (std::size_t g = 0; g < first.groups.size(); ++g) {
        int sum = 0, half = 0;
        for (std::size_t i = 0; i < 32; ++i) (i < 16 ? half : sum) += first.codes[g * 32 + i];
        sum += half;
        ASSERT_EQ(first.groups[g].negated_sum, -sum);
        ASSERT_EQ(first.groups[g].negated_first, -half);
        ASSERT_EQ(first.groups[g].scaled_sum, first.groups[g].scale * static_cast<float>(sum));
      }
      for (const CpuPath path : paths()) {
        const Activation other(ops(path), x, 1, columns);
        ASSERT_EQ(other.codes, first.codes) << name(path);
        ASSERT_EQ(std::memcmp(other.groups.data(), first.groups.data(), first.groups.size() * sizeof(GroupScale)), 0)
            << name(path);
      }
    }
  }
}

TEST(Quantize, WhatIsNotANumberSpoilsItsGroupAndOnlyThat) {
  for (const CpuPath path : paths()) {
    for (const float bad : {kNan, -kNan, kInf, -kInf}) {
      std::vector<float> x = normal(96, 3);
      x[40] = bad;
      const Activation a(ops(path), x, 1, 96);
      EXPECT_TRUE(std::isnan(a.groups[1].scale)) << name(path);
      EXPECT_TRUE(std::isnan(a.groups[1].scaled_sum));
      EXPECT_TRUE(std::isfinite(a.groups[0].scale) && std::isfinite(a.groups[2].scale));
      for (int c = 32; c < 64; ++c) EXPECT_EQ(a.codes[static_cast<std::size_t>(c)], 0);
    }
    const Activation tiny(ops(path), std::vector<float>(32, 1e-38f), 1, 32);
    EXPECT_EQ(tiny.groups[0].scale, 0.0f);
  }
}

// Runs `op(rows)` into fresh activations and returns the fp32 rows; checks that the int8 form is what quantize makes of them.
template <class Op>
std::vector<float> produced(const CpuOps& table, std::int32_t rows, std::int32_t columns, const Op& op) {
  Activation out(table, std::vector<float>(static_cast<std::size_t>(rows) * columns), rows, columns);
  op(out.rows);
  std::vector<float> values(static_cast<std::size_t>(rows) * columns);
  for (std::int32_t r = 0; r < rows; ++r)
    std::memcpy(&values[static_cast<std::size_t>(r) * columns],
                out.rows.values + static_cast<std::ptrdiff_t>(r) * out.rows.stride,
                static_cast<std::size_t>(columns) * 4);
  const Activation expected(table, values, rows, columns);
  EXPECT_EQ(out.codes, expected.codes) << table.name;
  EXPECT_EQ(std::memcmp(out.groups.data(), expected.groups.data(), expected.groups.size() * sizeof(GroupScale)), 0)
      << table.name;
  Rows only_codes = out.rows;                         // without fp32 rows the codes are the same
  only_codes.values = nullptr;
  std::fill(out.codes.begin(), out.codes.end(), std::int8_t{99});
  op(only_codes);
  EXPECT_EQ(out.codes, expected.codes) << table.name;
  return values;
}

TEST(Norm, IsTheDoubleFormulaAtAnyWidth) {
  for (const CpuPath path : paths()) {
    for (const std::int32_t columns : {1, 7, 31, 48, 80, 576, 1537}) {
      constexpr std::int32_t kRows = 5;
      const auto x = normal(kRows * static_cast<std::size_t>(columns), 4, 20.0f),
                 w = normal(static_cast<std::size_t>(columns), 5);
      const auto got = produced(ops(path), kRows, columns, [&](const Rows& out) {
        ops(path).norm(x.data(), w.data(), 1e-5f, columns, {0, kRows}, out);
      });
      for (std::int32_t r = 0; r < kRows; ++r) {
        double squares = 0;
        for (std::int32_t c = 0; c < columns; ++c)
          squares += std::pow(x[static_cast<std::size_t>(r * columns + c)], 2.0);
        const double factor = 1 / std::sqrt(squares / columns + 1e-5);
        for (std::int32_t c = 0; c < columns; ++c) {
          const double want = x[static_cast<std::size_t>(r * columns + c)] * factor * w[static_cast<std::size_t>(c)];
          ASSERT_NEAR(got[static_cast<std::size_t>(r * columns + c)], want, 2e-6 * std::abs(want) + 1e-7)
              << name(path) << " " << columns;
        }
      }
    }
  }
}

TEST(Gate, IsTheDoubleFormulaIncludingTheTails) {
  for (const CpuPath path : paths()) {
    for (const bool gelu : {false, true}) {
      for (const std::int32_t columns : {1, 5, 31, 80, 112, 1536}) {
        constexpr std::int32_t kRows = 3;
        auto x = normal(kRows * 2 * static_cast<std::size_t>(columns), 6, 6.0f);
        if (columns > 100) x[0] = 90, x[2] = -90, x[4] = 200, x[6] = -200, x[8] = 0, x[10] = 1e-8f;
        const auto got = produced(ops(path), kRows, columns,
                                  [&](const Rows& out) { ops(path).gate(x.data(), gelu, columns, {0, kRows}, out); });
        for (std::size_t i = 0; i < got.size(); ++i) {
          const double g = x[2 * i], up = x[2 * i + 1];
          const double u = gelu ? 2 * 0.7978845608028654 * (g + 0.044715 * g * g * g) : g;
          const double want = g / (1 + std::exp(-u)) * up;
          ASSERT_NEAR(got[i], want, 2e-6 * std::abs(want) + 1e-7 * std::abs(up))
              << name(path) << " gelu " << gelu << " at " << g;
        }
      }
    }
  }
}

struct RopeCase {
  std::int32_t q_heads, kv_heads, dim, dims;
  bool interleaved, norms, fp32;
};

TEST(Rope, RotatesNormsAndStoresWhatTheDoubleFormulaSays) {
  for (const RopeCase& c : {RopeCase{9, 3, 64, 64, true, false, false}, {4, 2, 32, 32, false, true, true},
                            {3, 1, 24, 16, false, false, false}, {2, 2, 80, 80, false, true, false},
                            {6, 2, 8, 8, true, false, true}, {2, 1, 128, 64, false, false, false}}) {
    const std::int32_t position = 37, half = c.dims / 2, columns = (c.q_heads + 2 * c.kv_heads) * c.dim;
    std::vector<float> table(static_cast<std::size_t>(position + 1) * c.dims);
    for (std::int32_t i = 0; i < half; ++i) {
      const double angle = position * std::pow(1e4, -2.0 * i / c.dims);
      table[static_cast<std::size_t>(position * c.dims + i)] = static_cast<float>(std::cos(angle));
      table[static_cast<std::size_t>(position * c.dims + half + i)] = static_cast<float>(std::sin(angle));
    }
    const auto q_norm = normal(static_cast<std::size_t>(c.dim), 7), k_norm = normal(static_cast<std::size_t>(c.dim), 8);
    const auto start = normal(static_cast<std::size_t>(columns), 9);
    std::vector<double> want(start.begin(), start.end());
    for (std::int32_t h = 0; h < c.q_heads + c.kv_heads; ++h) {
      double* head = &want[static_cast<std::size_t>(h * c.dim)];
      const auto& weight = h < c.q_heads ? q_norm : k_norm;
      if (c.norms) {
        double squares = 0;
        for (std::int32_t d = 0; d < c.dim; ++d) squares += head[d] * head[d];
        for (std::int32_t d = 0; d < c.dim; ++d)
          head[d] *= weight[static_cast<std::size_t>(d)] / std::sqrt(squares / c.dim + 1e-6);
      }
      for (std::int32_t i = 0; i < half; ++i) {
        double &a = head[c.interleaved ? 2 * i : i], &b = head[c.interleaved ? 2 * i + 1 : i + half];
        const double angle = position * std::pow(1e4, -2.0 * i / c.dims), x = a, y = b;
        a = x * std::cos(angle) - y * std::sin(angle);
        b = y * std::cos(angle) + x * std::sin(angle);
      }
    }
    for (const CpuPath path : paths()) {
      auto qkv = start;
      const std::size_t element = c.fp32 ? 4 : 2,
                        layer = static_cast<std::size_t>(c.kv_heads * c.dim) * kBlockTokens * element;
      std::vector<std::byte> cache(3 * 2 * layer);
      const KvView view{cache.data(), 2 * layer, layer, c.fp32};
      ops(path).rope_and_store(qkv.data(), {c.q_heads, c.kv_heads, c.dim, 1.0f, 0, 0.0f},
                               {table.data(), c.dims, c.interleaved}, c.norms ? q_norm.data() : nullptr,
                               c.norms ? k_norm.data() : nullptr, 1e-6f, position, 2, view);
      for (std::size_t i = 0; i < qkv.size(); ++i) ASSERT_NEAR(qkv[i], want[i], 3e-6) << name(path) << " at " << i;
      // Block 2, slot 37 % 16 = 5: keys [dim][16], values [16][dim], rounded to the cache's element.
      std::size_t nonzero = 0;
      const auto stored = [&](std::size_t index) {
        float v = 0;
        if (c.fp32) std::memcpy(&v, &cache[index * 4], 4);
        else std::memcpy(reinterpret_cast<char*>(&v) + 2, &cache[index * 2], 2);
        return v;
      };
      const std::size_t per_block = 2 * layer / element, half_block = layer / element;
      for (std::size_t i = 0; i < cache.size() / element; ++i) nonzero += stored(i) != 0;
      EXPECT_EQ(nonzero, static_cast<std::size_t>(2 * c.kv_heads * c.dim)) << "exactly one token's keys and values";
      for (std::int32_t h = 0; h < c.kv_heads; ++h) {
        for (std::int32_t d = 0; d < c.dim; ++d) {
          const auto tile = static_cast<std::size_t>(h * c.dim * kBlockTokens);
          const float k = qkv[static_cast<std::size_t>((c.q_heads + h) * c.dim + d)];
          const float v = qkv[static_cast<std::size_t>((c.q_heads + c.kv_heads + h) * c.dim + d)];
          const float got_k = stored(2 * per_block + tile + static_cast<std::size_t>(d * kBlockTokens + 5));
          const float got_v = stored(2 * per_block + half_block + tile + static_cast<std::size_t>(5 * c.dim + d));
          ASSERT_NEAR(got_k, k, c.fp32 ? 0 : std::fabs(k) * 0x1p-8) << name(path);
          ASSERT_NEAR(got_v, v, c.fp32 ? 0 : std::fabs(v) * 0x1p-8) << name(path);
        }
      }
    }
  }
}

TEST(Rope, BfloatsRoundToNearestEven) {
  // fp32 bits and the bf16 bits they round to: exact, below, at (to even, both ways) and above half, negative, the
  // overflow to infinity, infinity, subnormal.
  const std::pair<std::uint32_t, std::uint16_t> cases[] = {
      {0x3F800000, 0x3F80}, {0x3F807FFF, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F818000, 0x3F82}, {0x3F808001, 0x3F81},
      {0xC0490FDB, 0xC049}, {0x7F7FFFFF, 0x7F80}, {0x7F800000, 0x7F80}, {0x00018000, 0x0002}, {0x80000000, 0x8000}};
  for (const CpuPath path : paths()) {
    for (const auto& [bits, wanted] : cases) {
      float qkv[24] = {}, none[2] = {};
      std::memcpy(&qkv[16], &bits, 4);               // the first value of v
      const std::size_t layer = 8 * kBlockTokens * 2;
      std::vector<std::byte> cache(2 * layer);
      ops(path).rope_and_store(qkv, {1, 1, 8, 1.0f, 0, 0.0f}, {none, 0, false}, nullptr, nullptr, 1e-6f, 0, 0,
                               {cache.data(), 2 * layer, layer, false});
      std::uint16_t got = 0;
      std::memcpy(&got, &cache[layer], 2);
      EXPECT_EQ(got, wanted) << name(path) << " " << std::hex << bits;
    }
  }
}

}  // namespace
}  // namespace tokenworks::kernels
