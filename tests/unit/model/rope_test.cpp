// Inverse frequencies against transformers (tests/golden/rope_frequencies.py).
#include "model/rope.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "support/paths.hpp"

namespace tokenworks::model {
namespace {

formats::ModelConfig plain() {
  formats::ModelConfig c;
  c.rope_base = 10000;
  c.rope_dims = c.head_dim = 8;
  return c;
}

TEST(Rope, FrequenciesOfEveryScalingAreThoseOfTransformers) {
  std::ifstream file(test::golden_path("rope_frequencies") + "/cases.json");
  ASSERT_TRUE(file) << "run tests/golden/rope_frequencies.py " << test::golden_path("rope_frequencies");
  const auto cases = nlohmann::json::parse(file);
  ASSERT_GE(cases.size(), 9u);
  for (const auto& one : cases) {
    SCOPED_TRACE(one.at("kind").get<std::string>() + " " + one.at("factor").dump());
    formats::ModelConfig c;
    c.rope_scaling = one.at("kind");
    c.rope_base = one.at("base");
    c.rope_dims = c.head_dim = one.at("dims");
    c.rope_factor = one.at("factor");
    c.rope_low_freq = one.at("low");
    c.rope_high_freq = one.at("high");
    c.rope_original_context = one.at("original");
    c.rope_beta_fast = one.at("beta_fast");
    c.rope_beta_slow = one.at("beta_slow");
    c.rope_attention_factor = one.at("attention_factor");
    const auto spec = rope_spec(c, "model");
    ASSERT_TRUE(spec) << spec.error().message;
    const auto expected = one.at("inverse").get<std::vector<double>>();
    ASSERT_EQ(spec->inverse_frequency.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)   // theirs is computed in fp32, ours rounded once from double
      EXPECT_NEAR(spec->inverse_frequency[i] / expected[i], 1, 3e-6) << i;
    EXPECT_NEAR(spec->magnitude, one.at("magnitude").get<double>(), 1e-6);
  }
}

TEST(Rope, FactorsOfAGgufFileDivideTheFrequencies) {
  formats::ModelConfig c = plain();
  const auto before = rope_spec(c, "model");
  c.rope_factors = {1, 2, 4, 8};
  const auto after = rope_spec(c, "model");
  ASSERT_TRUE(before && after);
  for (std::size_t i = 0; i < 4; ++i)
    EXPECT_FLOAT_EQ(after->inverse_frequency[i], before->inverse_frequency[i] / c.rope_factors[i]);
}

TEST(Rope, NonsenseIsRefusedWithTheNumberThatIsWrong) {
  const auto message = [](auto edit) {
    formats::ModelConfig c = plain();
    edit(c);
    const auto spec = rope_spec(c, "m.gguf");
    return spec ? "accepted" : spec.error().message;
  };
  EXPECT_EQ(message([](auto& c) { c.rope_scaling = "dynamic"; }),
            "m.gguf: rope scaling 'dynamic' is not supported; supported are none, linear, llama3 and yarn");
  EXPECT_EQ(message([](auto& c) { c.rope_base = 0; }), "m.gguf: the rope base is 0, which must be above 1");
  EXPECT_EQ(message([](auto& c) { c.rope_scaling = "linear", c.rope_factor = 0; }),
            "m.gguf: the rope scaling factor is 0, which must be positive");
  EXPECT_EQ(message([](auto& c) { c.rope_scaling = "yarn"; }),
            "m.gguf: rope scaling 'yarn' needs the original context length");
  EXPECT_EQ(message([](auto& c) { c.rope_scaling = "llama3", c.rope_original_context = 64, c.rope_high_freq = 1; }),
            "m.gguf: rope scaling 'llama3' with low 1 and high 1 frequency factors: high must be above low");
  EXPECT_EQ(message([](auto& c) { c.rope_factors = {1, 2, 3}; }),
            "m.gguf: tensor rope_freqs.weight has 3 factors; 8 rotated dimensions need 4");
  EXPECT_EQ(message([](auto& c) { c.rope_factors = {1, 2, 0, 3}; }), "m.gguf: rope_freqs.weight[2] is not positive");
}

}  // namespace
}  // namespace tokenworks::model
