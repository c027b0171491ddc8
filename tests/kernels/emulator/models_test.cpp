// CudaBackend whole, on the emulator: tiny models of every architecture against transformers in fp32 (the expectations of
// tests/golden/tiny_models.py), teacher-forced greedy agreement, steps cut and batched at random, decode as graphs.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "backend/cuda/cuda_backend.hpp"
#include "harness.hpp"
#include "model/golden.hpp"
#include "model/steps.hpp"

namespace tokenworks::model {
namespace {

using namespace test;
using backend::cuda::CudaBackend;
using backend::cuda::CudaOptions;
using emulator::EmulatedDevice;
using kernels::cuda::Element;

const LoadOptions kOptions{.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 8, .rows_max = 64};

struct Loaded {
  std::unique_ptr<Runner> runner;
  CudaBackend* backend = nullptr;                    // the runner's
  EmulatedDevice* device = nullptr;                  // the backend's
};

Loaded load_on_emulator(const std::string& path, const CudaOptions& how, const LoadOptions& options = kOptions) {
  Loaded l;
  const auto file = formats::ModelFile::open(path);
  if (!file) {
    ADD_FAILURE() << file.error().message;
    return l;
  }
  auto device = std::make_unique<EmulatedDevice>();
  l.device = device.get();
  auto backend = std::make_unique<CudaBackend>(std::move(device), how);
  l.backend = backend.get();
  auto runner = load(*file, std::move(backend), options);
  if (!runner) {
    ADD_FAILURE() << runner.error().message;
    return l;
  }
  l.runner = std::move(*runner);
  return l;
}

// What an element may cost against fp32, as the root mean square of the differences of logits over that of the logits:
// roundings of weights and activations of these random models, which damp nothing. docs/cuda.md states these numbers.
double tolerance(Element compute, Element kv) {
  const double own = compute == Element::fp8 ? 0.16 : compute == Element::f16 ? 0.0025 : 0.022;
  return own + (kv == Element::fp8 ? 0.08 : 0.0);
}

std::string model_path(const std::string& arch) { return golden_path("tiny_models") + "/" + arch + "/model.gguf"; }

struct Found {
  double rms = 0, scale = 0, largest = 0;
  int rows = 0, decided = 0, agreed = 0;             // decided: the reference's margin is above what the tolerance allows
};

Found compare(std::span<const float> found, std::span<const float> expected, std::size_t vocab, double allowed) {
  Found f;
  double differences = 0, squares = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(static_cast<double>(found[i]) - expected[i]);
    f.largest = std::isnan(d) ? INFINITY : std::max(f.largest, d);
    differences += d * d;
    squares += static_cast<double>(expected[i]) * expected[i];
  }
  f.rms = std::sqrt(differences / static_cast<double>(expected.size()));
  f.scale = std::sqrt(squares / static_cast<double>(expected.size()));
  for (std::size_t at = 0; at < expected.size(); at += vocab, ++f.rows) {
    const auto begin = expected.begin() + static_cast<std::ptrdiff_t>(at);
    std::vector<float> order(begin, begin + static_cast<std::ptrdiff_t>(vocab));
    std::nth_element(order.begin(), order.begin() + 1, order.end(), std::greater<>());
    const double margin = *std::max_element(order.begin(), order.begin() + 1) - order[1];
    if (margin <= 6 * allowed * f.scale) continue;   // six sigma of the difference of two logits, about
    ++f.decided;
    const auto mine = found.begin() + static_cast<std::ptrdiff_t>(at);
    f.agreed += std::max_element(mine, mine + static_cast<std::ptrdiff_t>(vocab)) - mine ==
                std::max_element(begin, begin + static_cast<std::ptrdiff_t>(vocab)) - begin;
  }
  return f;
}

Found run_cases(Runner& runner, const std::string& arch, double allowed, std::size_t cases_max) {
  const auto golden = golden_json("tiny_models", arch + "/cases.json");
  const auto expected = golden_floats("tiny_models", arch + "/logits.bin");
  const auto vocab = static_cast<std::size_t>(runner.info().vocab);
  std::vector<float> all;
  for (const auto& one : golden.at("cases")) {
    if (cases_max-- == 0) break;
    const auto logits = logits_of(runner, one.at("tokens").get<std::vector<TokenId>>());
    EXPECT_TRUE(logits) << (logits ? "" : logits.error().message);
    if (!logits) return {.largest = INFINITY};
    all.insert(all.end(), logits->begin(), logits->end());
  }
  return compare(all, std::span(expected).first(all.size()), vocab, allowed);
}

class EmulatorModels : public testing::TestWithParam<std::string> {};

TEST_P(EmulatorModels, LogitsAreThoseOfTransformersWithinTheToleranceOfEachElement) {
  const struct { Element compute, kv; } kinds[] = {{Element::bf16, Element::bf16}, {Element::f16, Element::f16},
                                                   {Element::fp8, Element::fp8}, {Element::bf16, Element::fp8}};
  for (const auto& [compute, kv] : kinds) {
    const auto m = load_on_emulator(model_path(GetParam()), {.compute = compute, .kv = kv});
    ASSERT_TRUE(m.runner);
    const double allowed = tolerance(compute, kv);
    const Found f = run_cases(*m.runner, GetParam(), allowed, compute == Element::bf16 && kv == Element::bf16 ? 5 : 2);
    std::printf("[ measured ] %s %d/%d: rms %.4f of the logits', largest %.3f; %d of %d rows decided, %d agree\n",
                GetParam().c_str(), static_cast<int>(compute), static_cast<int>(kv), f.rms / f.scale, f.largest, f.decided,
                f.rows, f.agreed);
    EXPECT_LE(f.rms, allowed * f.scale);
    EXPECT_EQ(f.agreed, f.decided);
    if (compute != Element::fp8 && kv != Element::fp8) {
      EXPECT_GT(f.decided, f.rows / 2);
    }
  }
}

// Decode in steps of several sequences through graphs, prompts in chunks between them: the same tokens as one sequence
// alone without a graph, wherever the margin decides; logits within rounding of each other.
TEST_P(EmulatorModels, ChunksBatchesAndGraphsStayWithinTheTolerance) {
  const auto eager = load_on_emulator(model_path(GetParam()), {.graphs = false});
  const auto graphs = load_on_emulator(model_path(GetParam()), {});
  ASSERT_TRUE(eager.runner && graphs.runner);
  std::mt19937 random(5);
  std::vector<Sequence> sequences;
  std::vector<std::vector<float>> alone, together(3);
  BlockDealer dealer(*graphs.runner, 3);
  for (int s = 0; s < 3; ++s) {
    Sequence q;
    for (int i = 0; i < 14 + 9 * s; ++i) q.tokens.push_back(static_cast<TokenId>(3 + random() % static_cast<unsigned>(graphs.runner->info().vocab - 3)));
    q.blocks = dealer.deal(q.tokens.size());
    auto logits = logits_of(*eager.runner, q.tokens);
    ASSERT_TRUE(logits) << logits.error().message;
    alone.push_back(std::move(*logits));
    sequences.push_back(std::move(q));
  }
  ASSERT_NO_FATAL_FAILURE(advance(*graphs.runner, sequences, {6, 17, 20}, together));
  for (int step = 0; step < 6; ++step) ASSERT_NO_FATAL_FAILURE(advance(*graphs.runner, sequences, {1, 1, 1}, together));
  ASSERT_NO_FATAL_FAILURE(advance(*graphs.runner, sequences, {2, 0, 4}, together));
  EXPECT_EQ(graphs.backend->graphs(), 1u);
  EXPECT_GE(graphs.device->counts().graph_launches, 5u);
  EXPECT_EQ(eager.device->counts().graph_launches, 0u);
  for (std::size_t s = 0; s < 3; ++s) {
    const std::span<const float> reference = std::span(alone[s]).first(together[s].size());
    const Found f = compare(together[s], reference, static_cast<std::size_t>(graphs.runner->info().vocab), 0.002);
    EXPECT_LE(f.rms, 0.004 * f.scale);
    EXPECT_EQ(f.agreed, f.decided);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EmulatorModels,
                         testing::Values("llama", "llama3", "llama_linear", "mistral", "qwen2", "qwen2_yarn", "qwen3"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace tokenworks::model
