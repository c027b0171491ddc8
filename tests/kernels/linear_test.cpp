// The linear ops of every table against a double sum over formats::dequantize's values, and against one another bit by bit.
#include <gtest/gtest.h>

#include "support.hpp"

namespace tokenworks::kernels {
namespace {

using formats::TensorType;

std::string named(const ::testing::TestParamInfo<TensorType>& info) { return formats::name(info.param); }

class EveryType : public ::testing::TestWithParam<TensorType> {
 protected:
  static std::int32_t columns(int blocks, int odd) {
    const auto block = static_cast<std::int32_t>(formats::block_elements(GetParam()));
    return block == 1 ? odd : block * blocks;
  }
};
class QuantisedType : public EveryType {};
INSTANTIATE_TEST_SUITE_P(All, EveryType, ::testing::ValuesIn(every_type()), named);
INSTANTIATE_TEST_SUITE_P(All, QuantisedType, ::testing::ValuesIn([] {
                           std::vector<TensorType> types;
                           for (const TensorType t : every_type())
                             if (quantised(t)) types.push_back(t);
                           return types;
                         }()), named);

// [rows, n] in double: x(row, column) * weight.
template <class X>
std::vector<double> oracle(const RandomTensor& w, const float* bias, std::int32_t rows, const X& x) {
  const auto n = static_cast<std::int32_t>(w.view.rows()), k = static_cast<std::int32_t>(w.view.columns());
  std::vector<double> out(static_cast<std::size_t>(rows) * n);
  for (std::int32_t r = 0; r < rows; ++r) {
    for (std::int32_t i = 0; i < n; ++i) {
      double sum = bias != nullptr ? static_cast<double>(bias[i]) : 0;
      for (std::int32_t c = 0; c < k; ++c)
        sum += static_cast<double>(w.values[static_cast<std::size_t>(i) * k + c]) * x(r, c);
      out[static_cast<std::size_t>(r) * n + i] = sum;
    }
  }
  return out;
}

void expect_close(const std::vector<float>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  const double scale = rms(want);
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), want[i], tolerance * scale) << "at " << i;
}

TEST_P(EveryType, ATableGivesBackExactlyTheFilesValues) {
  const RandomTensor w(GetParam(), 41, columns(2, 83), 1);
  const Packed packed(w.view);
  for (const CpuPath path : paths()) {
    std::vector<float> row(static_cast<std::size_t>(w.view.columns()));
    for (std::int32_t r = 0; r < 41; ++r) {
      ops(path).embed(packed.panels, r, row.data());
      ASSERT_EQ(std::memcmp(row.data(), &w.values[static_cast<std::size_t>(r) * row.size()], row.size() * 4), 0)
          << name(path) << " row " << r;
    }
  }
}

TEST_P(EveryType, FloatLinearIsTheDoubleSumOfTheFilesValues) {
  for (const auto& [n, k] :
       {std::pair{1, columns(1, 1)}, {31, columns(1, 48)}, {70, columns(3, 81)}, {64, columns(2, 257)}}) {
    const RandomTensor w(GetParam(), n, k, 2);
    const Packed packed(w.view, 5);
    for (const CpuPath path : paths()) {
      for (const std::int32_t rows : {1, 2, 7, 17}) {
        const Activation x(ops(path), normal(static_cast<std::size_t>(rows) * k, 3), rows, k);
        std::vector<float> out(static_cast<std::size_t>(rows) * n);
        std::vector<float> scratch(static_cast<std::size_t>(k) * kPanelRows + 16);
        float* aligned = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) / 4 % 16;
        ops(path).linear_float(packed.panels, {0, (n + 31) / 32}, x.rows, {0, rows}, out.data(), n, false, aligned);
        SCOPED_TRACE(std::string(name(path)) + " rows " + std::to_string(rows) + " n " + std::to_string(n));
        expect_close(out,
                     oracle(w, packed.panels.bias, rows,
                            [&](int r, int c) {
                              return static_cast<double>(x.values[static_cast<std::size_t>(r) * x.rows.stride + c]);
                            }),
                     1e-5);
      }
    }
  }
}

TEST_P(QuantisedType, LinearIsTheDoubleSumOverTheQuantisedActivations) {
  for (const auto& [n, k] :
       {std::pair{1, columns(1, 0)}, {31, columns(2, 0)}, {96, columns(3, 0)}, {70, columns(5, 0)}}) {
    const RandomTensor w(GetParam(), n, k, 4);
    const Packed packed(w.view, n % 2 == 0 ? 6 : 0);
    for (const CpuPath path : paths()) {
      for (const std::int32_t rows : {1, 2, 3, 4, 5, 6, 7, 13, 70}) {
        const Activation x(ops(path), normal(static_cast<std::size_t>(rows) * k, 5, 3.0f), rows, k);
        std::vector<float> out(static_cast<std::size_t>(rows) * n);
        ops(path).linear(packed.panels, {0, (n + 31) / 32}, x.rows, {0, rows}, out.data(), n, false, {});
        SCOPED_TRACE(std::string(name(path)) + " rows " + std::to_string(rows) + " n " + std::to_string(n));
        expect_close(out, oracle(w, packed.panels.bias, rows, [&](int r, int c) { return x.dequantised(r, c); }), 1e-5);
      }
    }
  }
}

// The promise on which reproducible output stands.
TEST_P(QuantisedType, ARowHasTheSameBitsInEveryTableBatchAndRange) {
  constexpr std::int32_t kRows = 70, kOut = 150;
  const std::int32_t k = columns(4, 0);
  const RandomTensor w(GetParam(), kOut, k, 7);
  const Packed packed(w.view, 8);
  const Activation x(ops(CpuPath::portable), normal(static_cast<std::size_t>(kRows) * k, 9), kRows, k);
  std::vector<float> reference(static_cast<std::size_t>(kRows) * kOut);
  ops(CpuPath::portable).linear(packed.panels, {0, 5}, x.rows, {0, kRows}, reference.data(), kOut, false, {});
  std::mt19937 random(10);
  const std::vector<std::byte> elsewhere(3 * 1000);  // asked for beside the work, and past its end: neither faults nor shows
  const std::int32_t blocks[] = {2, 0, 1};
  for (const CpuPath path : paths()) {
    for (int trial = 0; trial < 12; ++trial) {
      const std::int64_t first = static_cast<std::int64_t>(random() % 40);
      const Later later{elsewhere.data(), blocks, 1000, 15, first, trial % 2 == 0 ? 45 : first};
      std::vector<float> out(reference.size(), -7.0f);
      for (std::int32_t row = 0; row < kRows;) {
        const auto rows = std::min(kRows - row, trial == 0 ? kRows : 1 + static_cast<std::int32_t>(random() % 20));
        for (std::int32_t panel = 0; panel < 5;) {
          const auto panels = std::min(5 - panel, trial == 0 ? 5 : 1 + static_cast<std::int32_t>(random() % 5));
          ops(path).linear(packed.panels, {panel, panels}, x.rows, {row, rows}, out.data(), kOut, false, later);
          panel += panels;
        }
        row += rows;
      }
      ASSERT_EQ(std::memcmp(out.data(), reference.data(), out.size() * 4), 0) << name(path) << " trial " << trial;
    }
    std::vector<float> twice = reference;
    ops(path).linear(packed.panels, {0, 5}, x.rows, {0, kRows}, twice.data(), kOut, true, {});
    for (std::size_t i = 0; i < twice.size(); ++i) ASSERT_EQ(twice[i], reference[i] + reference[i]);
  }
}

TEST_P(EveryType, FloatLinearGivesARowTheSameBitsInEveryBatch) {
  constexpr std::int32_t kRows = 33, kOut = 70;
  const std::int32_t k = columns(2, 99);
  const RandomTensor w(GetParam(), kOut, k, 11);
  const Packed packed(w.view);
  std::vector<float> scratch(static_cast<std::size_t>(k) * kPanelRows + 16);
  float* aligned = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) / 4 % 16;
  for (const CpuPath path : paths()) {
    const Activation x(ops(path), normal(static_cast<std::size_t>(kRows) * k, 12), kRows, k);
    std::vector<float> all(static_cast<std::size_t>(kRows) * kOut), alone = all;
    ops(path).linear_float(packed.panels, {0, 3}, x.rows, {0, kRows}, all.data(), kOut, false, aligned);
    for (std::int32_t r = 0; r < kRows; ++r)
      ops(path).linear_float(packed.panels, {0, 3}, x.rows, {r, 1}, alone.data(), kOut, false, aligned);
    ASSERT_EQ(std::memcmp(all.data(), alone.data(), all.size() * 4), 0) << name(path);
  }
}

// Codes, scales and activations at their largest: int32 must hold, 16-bit sums must not saturate.
TEST_P(QuantisedType, ExtremeCodesAndActivationsStayExact) {
  const std::int32_t k = columns(2, 0);
  RandomTensor w(GetParam(), 64, k, 13);
  const auto block = static_cast<std::size_t>(formats::block_bytes(GetParam()));
  for (const std::uint8_t fill : {0x00, 0xFF, 0x80, 0x7F}) {
    for (std::size_t b = 0; b < w.bytes.size(); b += block) {
      std::memset(&w.bytes[b], fill, block);
      const std::uint16_t one = 0x3C00;
      std::memcpy(&w.bytes[b + (GetParam() == TensorType::q6_k ? 208 : 0)], &one, 2);
      if (formats::block_bytes(GetParam()) == 20 || GetParam() == TensorType::q5_1 || GetParam() == TensorType::q4_k ||
          GetParam() == TensorType::q5_k)
        std::memcpy(&w.bytes[b + 2], &one, 2);
    }
    formats::dequantize(GetParam(), w.bytes, w.values);
    const Packed packed(w.view);
    for (const float sign : {1.0f, -1.0f}) {
      const Activation x(ops(CpuPath::portable), std::vector<float>(static_cast<std::size_t>(k), sign), 1, k);
      const auto want = oracle(w, nullptr, 1, [&](int r, int c) { return x.dequantised(r, c); });
      for (const CpuPath path : paths()) {
        std::vector<float> out(64);
        ops(path).linear(packed.panels, {0, 2}, x.rows, {0, 1}, out.data(), 64, false, {});
        for (std::size_t i = 0; i < 64; ++i)
          ASSERT_NEAR(out[i], want[i], 1e-6 * std::abs(want[i]) + 1e-3) << name(path);
      }
    }
  }
}

TEST(Pack, RowsOfTwoTypesKeepTheirValuesInACommonForm) {
  using enum TensorType;
  for (const auto& [a, b] :
       {std::pair{q4_0, q5_1}, {q4_k, q5_0}, {q4_1, q8_0}, {q6_k, q4_k}, {f16, bf16}, {q8_0, f32}}) {
    const RandomTensor first(a, 16, 256, 21), second(b, 16, 256, 22);
    const TensorType types[] = {a, b};
    const backend::PanelForm form = backend::common_form(types);
    std::vector<backend::RowSource> rows;
    for (std::size_t r = 0; r < 16; ++r) {
      rows.push_back({a, first.bytes.data() + r * first.bytes.size() / 16});
      rows.push_back({b, second.bytes.data() + r * second.bytes.size() / 16});
    }
    std::vector<std::byte> storage(backend::panel_bytes(form, 256));
    backend::pack_panel(form, rows, 256, storage.data());
    const Panels panels{form.kind, form.zero_shift, 32, 256, storage.size(), storage.data(), nullptr};
    for (std::int32_t r = 0; r < 32; ++r) {
      std::vector<float> row(256);
      ops(CpuPath::portable).embed(panels, r, row.data());
      const float* want = (r % 2 == 0 ? first : second).values.data() + r / 2 * 256;
      for (std::size_t c = 0; c < 256; ++c) ASSERT_EQ(row[c], want[c]) << formats::name(a) << "/" << formats::name(b);
    }
  }
}

}  // namespace
}  // namespace tokenworks::kernels
