// Pooled vectors against transformers in fp32 (tests/golden/encoders.py): tiny random encoders, a decoder, all-MiniLM-L6-v2.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "golden.hpp"
#include "pooled.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::model {
namespace {

using namespace test;

struct Case {
  std::string model, compute;
  std::int32_t rows;                                 // of a step
};

class Pooled : public testing::TestWithParam<Case> {};

TEST_P(Pooled, IsWhatTransformersComputesInEveryWayOfPoolingAndChunking) {
  const Case& c = GetParam();
  const auto golden = golden_json("encoders", c.model + "/cases.json");
  const auto rows = golden_floats("encoders", c.model + "/rows.bin");
  const auto columns = golden.at("hidden").get<std::size_t>();
  auto runner = load_runner(golden_path("encoders") + "/" + c.model + "/hf", c.compute,
                            {.context_tokens = 8192, .kv_cache_bytes = 8 << 20, .sequences_max = 16, .rows_max = 64});
  ASSERT_TRUE(runner);
  ASSERT_EQ(runner->info().embedding_columns, static_cast<std::int32_t>(columns));
  EXPECT_EQ(runner->info().generates, c.model == "llama");
  EXPECT_EQ(runner->info().pooling, c.model == "llama" ? Pooling::last : Pooling::mean);
  Texts texts;
  for (const auto& one : golden.at("cases")) texts.push_back(one.at("tokens").get<std::vector<TokenId>>());
  const Pooling kinds[] = {Pooling::mean, Pooling::first, Pooling::last};
  for (std::size_t k = 0; k < 3; ++k) {
    const auto found = pool(*runner, texts, kinds[k], c.rows);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::span<const float> expected(&rows[(3 * i + k) * columns], columns);
      double largest = 0;
      for (std::size_t x = 0; x < columns; ++x) largest = std::max(largest, std::abs(found[i][x] - expected[x]));
      EXPECT_LT(largest, 2e-5) << c.model << " pooling " << k << " text of " << texts[i].size();
    }
  }
}

// The cache of a decoder holds bf16 unless the backend computes exactly; an encoder has none.
INSTANTIATE_TEST_SUITE_P(Models, Pooled,
                         testing::Values(Case{"bert", "default", 64}, Case{"bert", "exact", 7}, Case{"bert_mlm", "default", 64},
                                         Case{"bert_mlm", "exact", 13}, Case{"llama", "exact", 64}, Case{"llama", "exact", 5}),
                         [](const auto& info) { return info.param.model + "_" + info.param.compute + "_" + std::to_string(info.param.rows); });

TEST(Encoder, ATextsVectorDoesNotDependOnTheTextsBesideIt) {
  auto runner = load_runner(golden_path("encoders") + "/bert/hf", "default",
                            {.context_tokens = 300, .kv_cache_bytes = 8 << 20, .sequences_max = 16, .rows_max = 512});
  ASSERT_TRUE(runner);
  Texts texts;
  for (const std::size_t length : {40u, 1u, 130u, 17u, 256u}) {
    auto& text = texts.emplace_back(length);
    for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<TokenId>((i * 7 + length) % 311);
  }
  const auto together = pool(*runner, texts, Pooling::mean, 512);
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(pool(*runner, {texts[i]}, Pooling::mean, 512)[0], together[i]) << "text " << i;
}

TEST(Encoder, ItsFileIsCheckedBeforeItIsUsed) {
  const auto file = formats::ModelFile::open(golden_path("encoders") + "/bert_mlm/hf");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->config().token_types, 1);
  EXPECT_NE((*file)->find("encoder.layer.0.attention.self.query.weight"), nullptr) << "without the prefix of the head's class";
  EXPECT_EQ((*file)->find("cls.predictions.bias"), nullptr);
  const auto plan = plan_memory(**file, {.context_tokens = 64, .kv_cache_bytes = 1 << 20, .sequences_max = 4, .rows_max = 64});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_GT(plan->weight_bytes, 100'000u);
}

TEST(MiniLm, VectorsAreThoseOfTransformersAndIdsThoseOfItsTokenizer) {
  const char* folder = std::getenv("TOKENWORKS_MINILM");
  const std::string path = folder != nullptr ? folder : std::string(std::getenv("HOME")) + "/.cache/tokenworks/models/all-MiniLM-L6-v2";
  if (!std::ifstream(path + "/model.safetensors")) GTEST_SKIP() << "deploy/fetch-embedding-model has not run";
  const auto golden = golden_json("encoders", "minilm.json");
  const auto file = formats::ModelFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->config().pooling, "mean");
  const auto tokenizer = tokenizer::Tokenizer::make((*file)->tokenizer());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  auto runner = load_runner(path, "default", {.context_tokens = 512, .kv_cache_bytes = 1 << 20, .sequences_max = 32, .rows_max = 512});
  ASSERT_TRUE(runner);
  Texts texts;
  std::vector<std::vector<float>> expected;
  for (const auto& one : golden.at("texts")) {
    std::vector<TokenId> ids{*(*tokenizer)->bos()};
    for (const TokenId id : (*tokenizer)->encode(one.at("text").get<std::string>())) ids.push_back(id);
    ids.push_back(*(*tokenizer)->end_of_text());
    ASSERT_EQ(ids, one.at("ids").get<std::vector<TokenId>>()) << one.at("text");
    texts.push_back(std::move(ids));
    expected.push_back(one.at("vector").get<std::vector<float>>());
  }
  const auto found = pool(*runner, texts, Pooling::mean, 512);
  double lowest = 1;
  for (std::size_t i = 0; i < texts.size(); ++i) lowest = std::min(lowest, cosine(found[i], expected[i]));
  EXPECT_GE(lowest, 0.99999);
  RecordProperty("lowest_cosine", std::to_string(lowest));
  std::printf("lowest cosine to transformers over %zu texts: %.9f\n", texts.size(), lowest);
}

}  // namespace
}  // namespace tokenworks::model
