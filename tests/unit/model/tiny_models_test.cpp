// Every architecture against transformers in fp32, on tiny random models of odd sizes (tests/golden/tiny_models.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "golden.hpp"
#include "kernels/ops.hpp"
#include "steps.hpp"

namespace tokenworks::model {
namespace {

using namespace test;

const LoadOptions kOptions{.context_tokens = 256, .kv_cache_bytes = 4 << 20, .sequences_max = 8, .rows_max = 128};

struct Errors {
  double largest = 0, rms = 0;                       // of the differences
  double scale = 0;                                  // root mean square of the expected
  int other_top1 = 0, rows = 0;
};

Errors compare(std::span<const float> found, std::span<const float> expected, std::size_t vocab) {
  Errors e;
  double squares = 0, differences = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(found[i]) - expected[i]);
    e.largest = std::isnan(difference) ? INFINITY : std::max(e.largest, difference);
    differences += difference * difference;
    squares += static_cast<double>(expected[i]) * expected[i];
  }
  e.rms = std::sqrt(differences / static_cast<double>(expected.size()));
  e.scale = std::sqrt(squares / static_cast<double>(expected.size()));
  for (std::size_t at = 0; at < expected.size(); at += vocab, ++e.rows) {
    const auto top = [&](std::span<const float> l) { return std::max_element(&l[at], &l[at] + vocab) - &l[at]; };
    e.other_top1 += top(found) != top(expected);
  }
  return e;
}

// All cases of one golden folder through a runner.
Errors run_cases(Runner& runner, const std::string& arch, const std::string& logits_file) {
  const auto golden = golden_json("tiny_models", arch + "/cases.json");
  const auto expected = golden_floats("tiny_models", arch + "/" + logits_file);
  const auto vocab = static_cast<std::size_t>(runner.info().vocab);
  EXPECT_EQ(vocab, golden.at("vocab").get<std::size_t>());
  std::vector<float> all;
  for (const auto& one : golden.at("cases")) {
    EXPECT_EQ(all.size(), one.at("offset").get<std::size_t>());
    const auto logits = logits_of(runner, one.at("tokens").get<std::vector<TokenId>>());
    EXPECT_TRUE(logits) << logits.error().message;
    if (logits) all.insert(all.end(), logits->begin(), logits->end());
  }
  EXPECT_EQ(all.size(), expected.size());
  if (all.size() != expected.size()) return {.largest = INFINITY};
  return compare(all, expected, vocab);
}

class TinyModels : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  std::string arch() const { return std::get<0>(GetParam()); }
  std::unique_ptr<Runner> open(const std::string& compute) const {
    return load_runner(golden_path("tiny_models") + "/" + arch() + "/" + std::get<1>(GetParam()), compute, kOptions);
  }
};

// The stated bound of the exact path: what fp32 summed in another order may differ.
constexpr double kExactTolerance = 2e-5;

TEST_P(TinyModels, ExactLogitsAreThoseOfTransformers) {
  const auto runner = open("exact");
  ASSERT_TRUE(runner);
  const Errors e = run_cases(*runner, arch(), "logits.bin");
  std::printf("[ measured ] %s %s: largest difference %.2e at logits of rms %.2f\n", arch().c_str(),
              std::get<1>(GetParam()).c_str(), e.largest, e.scale);
  EXPECT_LE(e.largest, kExactTolerance * e.scale);
  EXPECT_EQ(e.other_top1, 0);
}

TEST_P(TinyModels, GreedyContinuationIsThatOfTransformers) {
  const auto runner = open("exact");
  ASSERT_TRUE(runner);
  const auto golden = golden_json("tiny_models", arch() + "/cases.json").at("greedy");
  EXPECT_EQ(greedy(*runner, golden.at("prompt"), 16), golden.at("tokens").get<std::vector<TokenId>>());
}

// However a prompt is cut into steps, and whatever runs beside it, each row's logits are the same bits.
TEST_P(TinyModels, ChunksAndNeighboursDoNotChangeABit) {
  for (const std::string compute : {"exact", "default"}) {
    SCOPED_TRACE(compute);
    const auto runner = open(compute);
    ASSERT_TRUE(runner);
    expect_same_bits(*runner, {.sequences = 5, .tokens_max = 100, .rounds = 6});
  }
}

std::string test_name(const testing::TestParamInfo<std::tuple<std::string, std::string>>& info) {
  return std::get<0>(info.param) + (std::get<1>(info.param) == "hf" ? "_safetensors" : "_gguf");
}
INSTANTIATE_TEST_SUITE_P(All, TinyModels,
                         testing::Combine(testing::Values("llama", "llama3", "llama_linear", "mistral", "qwen2",
                                                          "qwen2_yarn", "qwen3"),
                                          testing::Values("model.gguf", "hf")),
                         test_name);

TEST(TinyModelsStoredSmaller, HalfPrecisionAndQ8WeightsMeanWhatTheGgufPackageSays) {
  for (const std::string kind : {"f16", "q8_0"}) {
    const auto runner = load_runner(golden_path("tiny_models") + "/llama/model-" + kind + ".gguf", "exact", kOptions);
    ASSERT_TRUE(runner);
    const Errors e = run_cases(*runner, "llama", "logits-" + kind + ".bin");
    std::printf("[ measured ] llama %s exact: largest difference %.2e at logits of rms %.2f\n", kind.c_str(), e.largest,
                e.scale);
    EXPECT_LE(e.largest, kExactTolerance * e.scale);
  }
}

TEST(TinyModelsDefaultPath, ChunksAndNeighboursDoNotChangeABitOfQ8Weights) {
  const auto runner = load_runner(golden_path("tiny_models") + "/llama/model-q8_0.gguf", "default", kOptions);
  ASSERT_TRUE(runner);
  expect_same_bits(*runner, {.sequences = 5, .tokens_max = 100, .rounds = 6});
}

// bf16 keys and values, and for Q8_0 int8 activations per 32: a rounding of 1/254 of each group's largest value before
// every linear, which random weights pass on undamped.
TEST(TinyModelsDefaultPath, LogitsStayWithinTheRoundingOfItsFormats) {
  const struct { const char* kind; double bound; } cases[] = {{"f16", 0.01}, {"q8_0", 0.04}};
  for (const auto& [kind, bound] : cases) {
    const std::string path = golden_path("tiny_models") + "/llama/model-" + kind + ".gguf";
    const auto runner = load_runner(path, "default", kOptions);
    ASSERT_TRUE(runner);
    const Errors e = run_cases(*runner, "llama", std::string("logits-") + kind + ".bin");
    std::printf("[ measured ] llama %s default: rms difference %.2e, largest %.2e, at logits of rms %.2f; "
                "top-1 differs %d of %d\n", kind, e.rms, e.largest, e.scale, e.other_top1, e.rows);
    EXPECT_LE(e.rms, bound * e.scale);
    EXPECT_LE(e.other_top1, e.rows / 20);
  }
}

TEST(Fingerprint, ChangesWithWhatMayChangeResultsAndWithNothingElse) {
  const std::string folder = golden_path("tiny_models") + "/llama/";
  const auto of = [&](const std::string& file, const std::string& compute, const LoadOptions& options = kOptions) {
    const auto runner = load_runner(folder + file, compute, options);
    return runner ? runner->info().fingerprint : "";
  };
  const std::string f32 = of("model.gguf", "exact");
  EXPECT_TRUE(f32.starts_with("fp_"));
  EXPECT_EQ(f32.size(), 15u);
  EXPECT_EQ(f32, of("model.gguf", "exact", {.context_tokens = 64, .kv_cache_bytes = 1 << 20, .sequences_max = 2}));
  EXPECT_NE(f32, of("model.gguf", "default"));
  EXPECT_NE(f32, of("model-f16.gguf", "exact"));
  EXPECT_NE(of("model-f16.gguf", "exact"), of("model-q8_0.gguf", "exact"));

  // Threads change nothing; another path of instructions may change last bits of the float operations.
  const auto with = [&](const char* path, int threads) {
    const char* const before = std::getenv("TOKENWORKS_CPU");
    const std::string kept = before != nullptr ? before : "";
    setenv("TOKENWORKS_CPU", path, 1);
    auto backend = backend::make_backend({.backend = "cpu", .compute = "default", .threads = threads});
    before != nullptr ? setenv("TOKENWORKS_CPU", kept.c_str(), 1) : unsetenv("TOKENWORKS_CPU");
    EXPECT_TRUE(backend) << backend.error().message;
    const auto file = formats::ModelFile::open(folder + "model-q8_0.gguf");
    return load(*file, std::move(*backend), kOptions).value()->info().fingerprint;
  };
  const std::string portable = with("portable", 1);
  EXPECT_EQ(portable, with("portable", 3));
  if (kernels::machine_has(kernels::CpuPath::avx2)) { EXPECT_NE(portable, with("avx2", 1)); }
}

}  // namespace
}  // namespace tokenworks::model
