// Both matrix kernels against sums in double over odd shapes, all elements, with and without bias and accumulation.
#include <cmath>
#include <random>

#include "checks.hpp"
#include "tokenworks/formats/tensor.hpp"

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

// The deepest products of published models: 28,672 of a feed-forward's columns; and more rows than a step has.
TEST(EmulatorLinear, TheDeepestProductsAndTheMostRows) {
  for (const Element e : {Element::bf16, Element::f16, Element::fp8})
    for (const bool small : {false, true}) EXPECT_EQ(check_linear({e, 2, 9, 28672, true, false, small}), "") << static_cast<int>(e) << small;
  EXPECT_EQ(check_linear({Element::bf16, 2050, 3, 64, false, false, false}), "");
}

// GGUF blocks of random bytes with sane scales, multiplied as they are and unpacked, against formats::dequantize.
std::string check_quant(Quant quant, Element e, std::int32_t rows, std::int32_t n, std::int32_t k, bool extras) {
  using formats::TensorType;
  const TensorType type = quant == Quant::q8_0 ? TensorType::q8_0 : quant == Quant::q4_0 ? TensorType::q4_0
                          : quant == Quant::q4_1 ? TensorType::q4_1 : TensorType::q4_k;
  const std::size_t block = static_cast<std::size_t>(formats::block_bytes(type));
  const std::size_t row_bytes = static_cast<std::size_t>(k / formats::block_elements(type)) * block;
  std::mt19937 random(static_cast<unsigned>(k + n));
  std::vector<std::byte> bytes(row_bytes * static_cast<std::size_t>(n));
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  for (std::size_t at = 0; at < bytes.size(); at += block)
    for (std::size_t half = 0; half < (quant == Quant::q4_1 || quant == Quant::q4_k ? 2u : 1u); ++half) {
      const std::uint32_t scale = encode(Element::f16, 0.001 * static_cast<double>(random() % 40) - 0.01);
      std::memcpy(&bytes[at + 2 * half], &scale, 2);
    }
  std::vector<float> values(static_cast<std::size_t>(n) * static_cast<std::size_t>(k));
  formats::dequantize(type, bytes, values);

  EmulatedDevice device;
  const InRows in(device, e, normal(static_cast<std::size_t>(rows) * static_cast<std::size_t>(k), 1), rows, k);
  const DeviceArray<std::byte> blocks(device, bytes, "blocks");
  const auto bias = normal(static_cast<std::size_t>(n), 3), before = normal(static_cast<std::size_t>(rows * n), 4);
  const DeviceArray<float> b(device, bias, "bias");
  DeviceArray<float> out(device, before, "out");
  const std::int32_t stride = padded(k);
  DeviceArray<std::uint16_t> unpacked(device, static_cast<std::size_t>(n) * static_cast<std::size_t>(stride), "unpacked");
  LinearArgs args;
  args.in = in.view();
  args.weights = {.data = blocks, .element = e, .quant = quant, .bias = extras ? b.get() : nullptr, .n = n, .k = k,
                  .stride = stride, .row_bytes = row_bytes};
  args.rows = rows;
  args.out = out;
  args.accumulate = extras;
  device.ops().linear_quant(device.stream(), args);
  device.ops().unpack(device.stream(), {args.weights, unpacked, e, stride});
  if (auto fault = run_all(device); !fault.empty()) return fault;
  const double each = e == Element::bf16 ? 0x1p-8 : 0x1p-10;
  for (std::int32_t j = 0; j < n; ++j)
    for (std::int32_t i = 0; i < stride; ++i) {
      const double value = i < k ? values[static_cast<std::size_t>(j * k + i)] : 0;
      if (!(std::abs(decode(e, unpacked.get()[j * stride + i]) - value) <= each * std::abs(value) + 1e-6))
        return "unpacked [" + std::to_string(j) + ", " + std::to_string(i) + "] is wrong";
    }
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (std::int32_t i = 0; i < k; ++i) {
        const double product = in.values()[static_cast<std::size_t>(r * k + i)] * values[static_cast<std::size_t>(j * k + i)];
        sum += product;
        size += std::abs(product);
      }
      if (extras) sum += bias[static_cast<std::size_t>(j)] + before[static_cast<std::size_t>(r * n + j)];
      const double found = out.get()[r * n + j];
      if (!(std::abs(found - sum) <= each * size + 2e-6 * (std::abs(sum) + 1)))
        return "element [" + std::to_string(r) + ", " + std::to_string(j) + "] is " + std::to_string(found) + ", not " + std::to_string(sum);
    }
  return {};
}

TEST(EmulatorLinearQuant, MultipliesAndUnpacksEveryKindOfBlock) {
  for (const Quant quant : {Quant::q8_0, Quant::q4_0, Quant::q4_1, Quant::q4_k})
    for (const Element e : {Element::bf16, Element::f16})
      for (const auto& [rows, n, k] : {std::tuple{0, 3, 256}, {1, 1, 256}, {3, 17, 512}, {16, 33, 768}, {2, 3, 28672}})
        EXPECT_EQ(check_quant(quant, e, rows, n, k, n > 1), "") << static_cast<int>(quant) << " " << rows << " " << n << " " << k;
  EXPECT_EQ(check_quant(Quant::q8_0, Element::bf16, 2, 5, 96, true), "");      // a depth that the padding rounds up
}

TEST(EmulatorLinearQuant, PlantedBugsAreFound) {
  for (const int bug : {206, 207}) {
    EXPECT_EQ(check_quant(Quant::q4_0, Element::f16, 2, 9, 512, false), "");
    const Planted planted(bug);
    EXPECT_NE(check_quant(Quant::q4_0, Element::f16, 2, 9, 512, false), "") << bug;
  }
}

}  // namespace
}  // namespace tokenworks::emulator
