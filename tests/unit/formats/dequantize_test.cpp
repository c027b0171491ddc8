#include <bit>
#include <cmath>

#include "support.hpp"

namespace tokenworks::formats {
namespace {

// Every 16-bit pattern, random blocks, blocks with infinite and subnormal scales, and blocks that the reference package
// quantised: bit for bit what gguf.quants.dequantize says.
TEST(Dequantize, EveryTypeAgreesWithTheGgufPackageToTheLastBit) {
  const std::string folder = test::golden_path("quants");
  const auto index = read_json(folder + "/index.json");
  ASSERT_TRUE(index.is_object());
  int types = 0;
  for (int t = 0; t <= static_cast<int>(TensorType::q6_k); ++t) {
    const auto type = static_cast<TensorType>(t);
    SCOPED_TRACE(name(type));
    const std::string blocks = read_file(folder + "/" + name(type) + ".blocks");
    const std::string expected = read_file(folder + "/" + name(type) + ".values");
    const auto count = index["types"][name(type)].get<std::size_t>();
    ASSERT_EQ(expected.size(), count * sizeof(float));
    ASSERT_EQ(blocks.size(),
              count / static_cast<std::size_t>(block_elements(type)) * static_cast<std::size_t>(block_bytes(type)));
    std::vector<float> got(count);
    dequantize(type, std::as_bytes(std::span(blocks)), got);
    std::size_t different = 0;
    for (std::size_t i = 0; i < count; ++i) {
      float want;
      std::memcpy(&want, expected.data() + i * sizeof want, sizeof want);
      if (std::isnan(want) && std::isnan(got[i])) continue;
      if (std::bit_cast<std::uint32_t>(want) != std::bit_cast<std::uint32_t>(got[i])) {
        if (++different < 4) ADD_FAILURE() << "value " << i << ": " << got[i] << " instead of " << want;
      }
    }
    EXPECT_EQ(different, 0u);
    ++types;
  }
  EXPECT_EQ(types, 11);
}

TEST(Dequantize, BlockSizesAreThoseOfGgml) {
  const std::tuple<TensorType, std::int64_t, std::int64_t> sizes[] = {
      {TensorType::f32, 1, 4},    {TensorType::f16, 1, 2},    {TensorType::bf16, 1, 2},    {TensorType::q8_0, 32, 34},
      {TensorType::q4_0, 32, 18}, {TensorType::q4_1, 32, 20}, {TensorType::q5_0, 32, 22},  {TensorType::q5_1, 32, 24},
      {TensorType::q4_k, 256, 144}, {TensorType::q5_k, 256, 176}, {TensorType::q6_k, 256, 210}};
  for (const auto& [type, elements, bytes] : sizes) {
    EXPECT_EQ(block_elements(type), elements) << name(type);
    EXPECT_EQ(block_bytes(type), bytes) << name(type);
  }
}

}  // namespace
}  // namespace tokenworks::formats
