// The accuracy gate: what the default arithmetic costs against the exact path is no more than the peer's arithmetic (Q8_1,
// emulated over the exact path) costs there, on two fixed texts and for every type of weights. The texts and the small
// models come from tests/golden/weight_types.py. TOKENWORKS_LONG=1 takes 6,144 tokens of each text, as the gate is defined;
// the short run has noise of its own, and a tolerance for it. tests/bench/accuracy.py does the same with whole models.
#include <gtest/gtest.h>

#include <cstdio>

#include "backend/cpu/rounding.hpp"
#include "golden.hpp"
#include "tokenworks/model/eval.hpp"

namespace tokenworks::model {
namespace {

using namespace test;

const LoadOptions kOptions{.context_tokens = 512, .kv_cache_bytes = 64 << 20, .sequences_max = 32, .rows_max = 256};

std::vector<TokenId> text_of(const std::string& name, std::size_t tokens, TokenId vocab) {
  std::vector<TokenId> text;
  const auto golden = golden_json("weight_types", "texts.json");
  if (golden.is_null()) return text;
  for (const TokenId id : golden.at(name).get<std::vector<TokenId>>())
    if (id < vocab && text.size() < tokens) text.push_back(id);
  return text;
}

Evaluation cost_of(const std::string& model, const std::string& scheme, Runner& exact,
                   const std::vector<TokenId>& text) {
  const auto runner = load_runner(model, scheme, kOptions);
  if (!runner) return {};
  const auto e = evaluate(*runner, &exact, text, {.window = 512});
  EXPECT_TRUE(e) << e.error().message;
  if (!e) return {};
  std::printf("[ measured ] %-8s %lld positions: perplexity %.4f, exact %.4f (%+.3f %% +- %.3f), mean KL %.3e, "
              "top-1 %.2f %%\n",
              scheme.c_str(), static_cast<long long>(e->predicted), e->perplexity, e->reference_perplexity,
              e->perplexity_change_percent, e->change_error_percent, e->mean_kl, 100 * e->top1_agreement);
  return *e;
}

class EitherText : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Fixed, EitherText, ::testing::Values("gpl", "code"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(EitherText, TheDefaultCostsNoMoreThanThePeersArithmetic) {
  const auto exact = load_runner(demo_model_path(), "exact", kOptions);
  ASSERT_TRUE(exact);
  const auto text = text_of(GetParam(), long_run() ? 6144 : 512, exact->info().vocab);
  ASSERT_GE(text.size(), 512u);
  const Evaluation ours = cost_of(demo_model_path(), "default", *exact, text);
  const Evaluation peers = cost_of(demo_model_path(), "q8_1", *exact, text);
  EXPECT_GT(peers.mean_kl, 1e-4);                    // the emulation rounds at all
  EXPECT_LE(ours.mean_kl, peers.mean_kl * (long_run() ? 1.05 : 1.2));
  if (long_run()) EXPECT_LE(ours.perplexity_change_percent, 0.5);
  else EXPECT_LE(ours.perplexity_change_percent, 0.5 + 2 * ours.change_error_percent);
  EXPECT_GE(ours.top1_agreement, 0.95);
}

class EveryWeightType : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Types, EveryWeightType,
                         ::testing::Values("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "f16", "bf16"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(EveryWeightType, CostsNoMoreThanThePeersArithmetic) {
  const std::string model = golden_path("weight_types") + "/" + GetParam() + ".gguf";
  const auto exact = load_runner(model, "exact", kOptions);
  ASSERT_TRUE(exact);
  const auto text = text_of("gpl", long_run() ? 6144 : 1024, exact->info().vocab);
  ASSERT_GE(text.size(), 1024u);
  const Evaluation ours = cost_of(model, "default", *exact, text);
  const Evaluation peers = cost_of(model, "q8_1", *exact, text);
  EXPECT_GT(peers.mean_kl, 1e-6);
  EXPECT_LE(ours.mean_kl, peers.mean_kl * (long_run() ? 1.05 : 1.15));
}

TEST(Rounding, SchemesAreReadAndRoundAsTheySay) {
  EXPECT_FALSE(backend::rounding_of("default"));
  EXPECT_FALSE(backend::rounding_of("int8-g"));
  EXPECT_FALSE(backend::rounding_of("int8-g0"));
  EXPECT_FALSE(backend::rounding_of("int8-g32x"));
  EXPECT_EQ(backend::rounding_of("int8-g96")->group, 96);

  std::vector<float> row(40);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>(i) - 17.3f;
  for (const char* scheme : {"q8_1", "int8-g16", "int8-row", "int16-row"}) {
    const auto rounding = backend::rounding_of(scheme);
    ASSERT_TRUE(rounding) << scheme;
    std::vector<float> rounded = row;
    rounding->apply(rounded.data(), 40);
    for (std::size_t i = 0; i < row.size(); ++i) {   // half a step of the widest group, and the fp16 scale's own error
      EXPECT_NEAR(rounded[i], row[i], 22.8f / static_cast<float>(rounding->highest) * 0.501f + 22.8f * 0.0005f) << scheme;
    }
  }
  // 10 / 127 in fp16 is 0x2D0A (by Python's struct "e"): the largest value comes back as 127 of those.
  std::vector<float> ten(32, 0.0f);
  ten[5] = 10.0f;
  backend::rounding_of("q8_1")->apply(ten.data(), 32);
  EXPECT_EQ(ten[5], 127.0f * 0.07873535156250f);
  EXPECT_EQ(ten[6], 0.0f);
}

}  // namespace
}  // namespace tokenworks::model
