// Pooled vectors of the CUDA backend whole, on the emulator, against transformers in fp32 (tests/golden/encoders.py): encoders and
// a decoder, every way of pooling, texts cut and batched; one row a text comes to the host, however long it is.
#include "backend/cuda/cuda_backend.hpp"
#include "harness.hpp"
#include "model/golden.hpp"
#include "model/pooled.hpp"
#include "tokenworks/model/tensor_parallel.hpp"

namespace tokenworks::model {
namespace {

using namespace test;
using backend::cuda::CudaBackend;
using backend::cuda::CudaOptions;
using emulator::EmulatedDevice;
using kernels::cuda::Element;

const LoadOptions kOptions{.context_tokens = 8192, .kv_cache_bytes = 2 << 20, .sequences_max = 16, .rows_max = 64};

std::unique_ptr<Runner> load_over(const std::string& name, Element compute, int cards, std::vector<EmulatedDevice*>* devices = nullptr) {
  const auto file = formats::ModelFile::open(golden_path("encoders") + "/" + name + "/hf");
  if (!file) {
    ADD_FAILURE() << file.error().message;
    return nullptr;
  }
  std::vector<std::unique_ptr<backend::Backend>> backends;
  for (int r = 0; r < cards; ++r) {
    auto device = std::make_unique<EmulatedDevice>();
    if (devices != nullptr) devices->push_back(device.get());
    backends.push_back(std::make_unique<CudaBackend>(std::move(device), CudaOptions{.compute = compute}));
  }
  auto runner = load_tensor_parallel(*file, std::move(backends), kOptions);
  EXPECT_TRUE(runner) << runner.error().message;
  return runner ? std::move(*runner) : nullptr;
}

const std::size_t kTokensMost = std::getenv("TOKENWORKS_LONG") != nullptr ? 300 : 40;              // longer texts take the emulator long, and the CPU's tests have them

struct Case {
  std::string model;
  Element compute;
  std::int32_t rows;                                 // of a step
  int cards;
  double cosine;                                     // at least
};

class EmulatorEmbedding : public testing::TestWithParam<Case> {};

TEST_P(EmulatorEmbedding, IsWhatTransformersComputesInEveryWayOfPoolingAndChunking) {
  const Case& c = GetParam();
  const auto golden = golden_json("encoders", c.model + "/cases.json");
  const auto rows = golden_floats("encoders", c.model + "/rows.bin");
  const auto columns = golden.at("hidden").get<std::size_t>();
  const auto runner = load_over(c.model, c.compute, c.cards);
  ASSERT_TRUE(runner);
  EXPECT_EQ(runner->info().generates, c.model == "llama");
  Texts texts;
  std::vector<std::size_t> which;                    // of the golden cases
  for (const auto& one : golden.at("cases")) {
    auto tokens = one.at("tokens").get<std::vector<TokenId>>();
    if (tokens.size() > kTokensMost) continue;
    texts.push_back(std::move(tokens));
    which.push_back(static_cast<std::size_t>(&one - &golden.at("cases")[0]));
  }
  ASSERT_GE(texts.size(), 2u);
  const Pooling kinds[] = {Pooling::mean, Pooling::first, Pooling::last};
  double lowest = 1;
  for (std::size_t k = 0; k < 3; ++k) {
    const auto found = pool(*runner, texts, kinds[k], c.rows);
    for (std::size_t i = 0; i < texts.size(); ++i) lowest = std::min(lowest, cosine(found[i], std::span<const float>(&rows[(3 * which[i] + k) * columns], columns)));
  }
  std::printf("[ measured ] %s %d, %d cards: lowest cosine %.6f\n", c.model.c_str(), static_cast<int>(c.compute), c.cards, lowest);
  EXPECT_GE(lowest, c.cosine);
}

INSTANTIATE_TEST_SUITE_P(Models, EmulatorEmbedding,
                         testing::Values(Case{"bert", Element::bf16, 64, 1, 0.999}, Case{"bert", Element::f16, 7, 1, 0.99999},
                                         Case{"bert_mlm", Element::bf16, 13, 1, 0.999}, Case{"bert_mlm", Element::fp8, 64, 1, 0.97},
                                         Case{"llama", Element::bf16, 64, 1, 0.999}, Case{"llama", Element::f16, 5, 1, 0.9999},
                                         Case{"llama", Element::bf16, 64, 2, 0.999}),
                         [](const auto& info) {
                           return info.param.model + "_" + std::to_string(static_cast<int>(info.param.compute)) + "_" + std::to_string(info.param.rows) +
                                  "_" + std::to_string(info.param.cards);
                         });

// A row of so many columns for each text, whatever its length.
TEST(EmulatorEmbeddings, OneRowATextComesToTheHost) {
  for (const char* name : {"bert", "llama"}) {
    std::vector<EmulatedDevice*> devices;
    const auto runner = load_over(name, Element::bf16, 1, &devices);
    ASSERT_TRUE(runner);
    const Texts texts{std::vector<TokenId>(18, 5), std::vector<TokenId>(5, 9)};
    (void)pool(*runner, texts, Pooling::mean, 64);
    const auto before = devices[0]->counts();
    (void)pool(*runner, texts, Pooling::mean, 64);
    const auto after = devices[0]->counts();
    EXPECT_EQ(after.bytes_to_host - before.bytes_to_host, 2 * sizeof(float) * static_cast<std::size_t>(runner->info().embedding_columns)) << name;
    EXPECT_EQ(after.allocations, before.allocations) << name;
  }
}

TEST(EmulatorEmbeddings, ATextsVectorDoesNotDependOnTheTextsBesideIt) {
  const auto runner = load_over("bert", Element::bf16, 1);
  ASSERT_TRUE(runner);
  Texts texts;
  for (const std::size_t length : {9u, 1u, 17u}) {
    auto& text = texts.emplace_back(length);
    for (std::size_t i = 0; i < length; ++i) text[i] = static_cast<TokenId>((i * 7 + length) % 311);
  }
  const auto together = pool(*runner, texts, Pooling::mean, 64);
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_GE(cosine(pool(*runner, {texts[i]}, Pooling::mean, 64)[0], std::vector<float>(together[i].begin(), together[i].end())), 0.99999) << i;
}

}  // namespace
}  // namespace tokenworks::model
