// Both matrix kernels against sums in double over odd shapes, all elements, with and without bias and accumulation.
#include <cmath>

#include "checks.hpp"

namespace tokenworks::emulator {

using namespace kernels::cuda;

std::string check_linear(const LinearCase& c) {
  EmulatedDevice device;
  const auto rows = static_cast<std::size_t>(c.rows), n = static_cast<std::size_t>(c.n), k = static_cast<std::size_t>(c.k);
  const InRows in(device, c.element, normal(rows * k, 1), c.rows, c.k);
  const InRows weights(device, c.element, normal(n * k, 2), c.n, c.k);
  const auto bias = normal(n, 3), before = normal(rows * n, 4);
  const DeviceArray<float> b(device, bias, "bias");
  DeviceArray<float> out(device, before, "out");
  LinearArgs args;
  args.in = in.view();
  args.weights = {.data = weights.view().data, .element = c.element, .scales = weights.view().scales,
                  .bias = c.bias ? b.get() : nullptr, .n = c.n, .k = c.k, .stride = weights.view().stride};
  args.rows = c.rows;
  args.out = out;
  args.accumulate = c.accumulate;
  (c.small ? device.ops().linear_small : device.ops().linear)(device.stream(), args);
  if (auto fault = run_all(device); !fault.empty()) return fault;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0, size = 1;
      for (std::size_t i = 0; i < k; ++i) {
        const double product = in.values()[r * k + i] * weights.values()[j * k + i];
        sum += product;
        size += std::abs(product);
      }
      if (c.bias) sum += bias[j];
      if (c.accumulate) sum += before[r * n + j];
      if (!(std::abs(out.get()[r * n + j] - sum) <= 1e-6 * size + 1e-6 * std::abs(sum)))
        return "element [" + std::to_string(r) + ", " + std::to_string(j) + "] is " + std::to_string(out.get()[r * n + j]) + ", not " + std::to_string(sum);
    }
  return {};
}

namespace {

TEST(EmulatorLinear, EqualsSumsInDoubleOverOddShapes) {
  for (const Element e : {Element::bf16, Element::f16, Element::fp8})
    for (const auto& [rows, n, k] : {std::tuple{0, 5, 64}, {1, 1, 1}, {17, 33, 96}, {64, 64, 64}, {65, 70, 300}, {3, 130, 80}})
      for (const bool extras : {false, true})
        EXPECT_EQ(check_linear({e, rows, n, k, extras, extras, false}), "") << static_cast<int>(e) << ": " << rows << " " << n << " " << k;
}

TEST(EmulatorLinearSmall, EqualsSumsInDoubleOverOddShapes) {
  for (const Element e : {Element::bf16, Element::f16, Element::fp8})
    for (const auto& [rows, n, k] : {std::tuple{0, 5, 64}, {1, 1, 1}, {1, 33, 96}, {8, 16, 64}, {16, 40, 1100}, {17, 20, 80}, {32, 17, 640}})
      for (const bool extras : {false, true})
        EXPECT_EQ(check_linear({e, rows, n, k, extras, extras, true}), "") << static_cast<int>(e) << ": " << rows << " " << n << " " << k;
}

}  // namespace
}  // namespace tokenworks::emulator
