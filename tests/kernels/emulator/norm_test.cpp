// RMS norm against double arithmetic, over odd sizes and every output element.
#include <cmath>

#include "harness.hpp"
#include "rows.hpp"

namespace tokenworks::emulator {
namespace {

using namespace kernels::cuda;

// Empty, or the fault; the largest error in units of the format's own rounding goes to *worst.
std::string run_norm(Element element, std::int32_t rows, std::int32_t columns, double* worst) {
  EmulatedDevice device;
  const auto x = normal(static_cast<std::size_t>(rows) * columns, 1, 3.0f), w = normal(columns, 2);
  const DeviceArray<float> hidden(device, x, "hidden"), weight(device, w, "weight");
  OutRows out(device, element, rows, columns);
  device.ops().norm(device.stream(), {.hidden = hidden, .weight = weight, .epsilon = 1e-5f, .rows = rows, .out = out.view()});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  *worst = 0;
  for (std::int32_t r = 0; r < rows; ++r) {
    double squares = 0;
    const float* row = &x[static_cast<std::size_t>(r) * columns];
    for (std::int32_t c = 0; c < columns; ++c) squares += static_cast<double>(row[c]) * row[c];
    const double factor = 1 / std::sqrt(squares / columns + 1e-5);
    std::vector<double> expected(static_cast<std::size_t>(columns));
    for (std::int32_t c = 0; c < columns; ++c) expected[static_cast<std::size_t>(c)] = row[c] * factor * w[static_cast<std::size_t>(c)];
    *worst = std::max(*worst, out.error_of_row(r, expected));
  }
  return {};
}

TEST(EmulatorNorm, EqualsDoubleArithmeticWithinOneRoundingOverOddSizes) {
  for (const Element e : {Element::bf16, Element::f16, Element::fp8})
    for (const std::int32_t columns : {1, 2, 31, 32, 33, 64, 96, 255, 256, 257, 576, 1000})
      for (const std::int32_t rows : {0, 1, 2, 5}) {
        double worst = 0;
        ASSERT_EQ(run_norm(e, rows, columns, &worst), "") << rows << " x " << columns;
        EXPECT_LE(worst, 1.01) << static_cast<int>(e) << ": " << rows << " x " << columns;
      }
}

TEST(EmulatorNorm, AMissingBarrierInTheBlockSumIsFound) {
  const Planted planted(1);
  double worst = 0;
  const std::string fault = run_norm(Element::bf16, 2, 300, &worst);
  EXPECT_TRUE(fault.find("race in shared memory") != std::string::npos || fault.find("no thread has written") != std::string::npos)
      << fault;
}

TEST(EmulatorNorm, AWritePastTheLastRowIsFound) {
  const Planted planted(2);
  double worst = 0;
  EXPECT_NE(run_norm(Element::bf16, 2, 96, &worst).find("norm: "), std::string::npos);
}

}  // namespace
}  // namespace tokenworks::emulator
