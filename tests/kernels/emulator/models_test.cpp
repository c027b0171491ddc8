// CudaBackend whole, on the emulator: tiny models of every architecture against transformers in fp32 (the expectations of
// tests/golden/tiny_models.py), teacher-forced greedy agreement, steps cut and batched at random, decode as graphs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "backend/cuda/cuda_backend.hpp"
#include "harness.hpp"
#include "model/golden.hpp"
#include "model/steps.hpp"
#include "tokenworks/model/tensor_parallel.hpp"

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
  const double own = compute == Element::fp8 ? 0.22 : compute == Element::f16 ? 0.0025 : 0.022;
  return std::hypot(own, kv == Element::fp8 ? 0.09 : 0.0);
}

// What cutting a context into other pieces may change: weights of values are rounded to bf16 relative to another maximum.
constexpr double kCut = 0.008;

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
                                                   {Element::fp8, Element::fp8}, {Element::bf16, Element::fp8},
                                                   {Element::fp8, Element::bf16}};
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
    const Found f = compare(together[s], reference, static_cast<std::size_t>(graphs.runner->info().vocab), kCut);
    EXPECT_LE(f.rms, kCut * f.scale);
    EXPECT_EQ(f.agreed, f.decided);
  }
}

// A step larger than any before moves the rows of a step to other memory: graphs that were captured on the old are not replayed.
TEST(EmulatorSteps, GraphsAreCapturedAnewWhenAStepsMemoryMoves) {
  const auto m = load_on_emulator(model_path("llama"), {}, {.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 8, .rows_max = 128});
  ASSERT_TRUE(m.runner);
  BlockDealer dealer(*m.runner, 3);
  std::vector<Sequence> sequences(1);
  sequences[0].tokens.assign(100, 7);
  sequences[0].blocks = dealer.deal(sequences[0].tokens.size());
  std::vector<std::vector<float>> logits(1);
  for (int step = 0; step < 4; ++step) ASSERT_NO_FATAL_FAILURE(advance(*m.runner, sequences, {1}, logits));
  EXPECT_EQ(m.backend->graphs(), 1u);
  ASSERT_NO_FATAL_FAILURE(advance(*m.runner, sequences, {90}, logits));
  const auto before = m.device->counts();
  for (int step = 0; step < 4; ++step) ASSERT_NO_FATAL_FAILURE(advance(*m.runner, sequences, {1}, logits));
  EXPECT_EQ(m.device->counts().captures - before.captures, 1u);
}

// Q8_0 as the file stores it: the logits of what the blocks mean, in less memory than bf16; the same as unpacked at load.
TEST(EmulatorModelsPacked, BlocksKeptPackedGiveTheLogitsOfWhatTheyMean) {
  const std::string path = golden_path("tiny_models") + "/llama/model-q8_0.gguf";
  const auto golden = golden_json("tiny_models", "llama/cases.json");
  const auto expected = golden_floats("tiny_models", "llama/logits-q8_0.bin");
  std::size_t bytes[2] = {};
  for (const bool packed : {true, false}) {
    const auto m = load_on_emulator(path, {.packed = packed});
    ASSERT_TRUE(m.runner);
    bytes[packed] = m.runner->info().weight_bytes;
    std::vector<float> all;
    for (std::size_t i = 0; i < 4; ++i) {            // 1, 5, 17 and 33 rows: both kernels
      const auto logits = logits_of(*m.runner, golden.at("cases")[i].at("tokens").get<std::vector<TokenId>>());
      ASSERT_TRUE(logits) << logits.error().message;
      all.insert(all.end(), logits->begin(), logits->end());
    }
    const double allowed = tolerance(Element::bf16, Element::bf16);
    const Found f = compare(all, std::span(expected).first(all.size()), static_cast<std::size_t>(m.runner->info().vocab), allowed);
    EXPECT_LE(f.rms, allowed * f.scale) << packed;
    EXPECT_EQ(f.agreed, f.decided);
    EXPECT_GT(f.decided, f.rows / 3);
  }
  EXPECT_LT(bytes[true], bytes[false] * 3 / 4);
}

// Steady decoding: nothing is allocated or captured, the host waits once a step, and what comes back is four bytes a sequence.
TEST(EmulatorSteps, ASteadyDecodeStepAllocatesNothingAndBringsBackOnlyIds) {
  const auto m = load_on_emulator(model_path("llama"), {});
  ASSERT_TRUE(m.runner);
  BlockDealer dealer(*m.runner, 3);
  std::vector<Sequence> sequences(3);
  for (std::size_t s = 0; s < 3; ++s) {
    sequences[s].tokens.assign(5 + 3 * s, static_cast<TokenId>(20 + s));
    sequences[s].blocks = dealer.deal(64);
  }
  const backend::SamplingParams params{.temperature = 0.8f, .top_p = 0.9f, .seed = 5};
  std::vector<TokenId> drawn;
  const auto step = [&] {
    StepStorage rows;
    std::vector<std::int32_t> last;
    std::vector<backend::SampleRow> asked;
    for (Sequence& q : sequences) {
      const auto n = static_cast<std::int32_t>(q.tokens.size()) - q.done;
      rows.add(q, n);
      last.push_back(static_cast<std::int32_t>(rows.tokens.size()) - 1);
      asked.push_back({.params = &params, .position = q.done});
      q.done += n;
    }
    std::vector<backend::Sampled> sampled(3);
    const auto ran = m.runner->run({rows.rows(), last, asked}, sampled);
    ASSERT_TRUE(ran) << ran.error().message;
    for (std::size_t s = 0; s < 3; ++s) {
      ASSERT_GE(sampled[s].token, 0);
      sequences[s].tokens.push_back(sampled[s].token);
      drawn.push_back(sampled[s].token);
    }
  };
  for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(step());   // prompts; the bucket's first step; its capture
  const auto before = m.device->counts();
  constexpr std::uint64_t kSteps = 4;
  for (std::uint64_t i = 0; i < kSteps; ++i) ASSERT_NO_FATAL_FAILURE(step());
  const auto after = m.device->counts();
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.frees, before.frees);
  EXPECT_EQ(after.captures, before.captures);
  EXPECT_EQ(after.graph_launches - before.graph_launches, kSteps);
  EXPECT_EQ(after.launches - before.launches, kSteps * 2);       // of what changed, and the sampler's; all else is in the graph
  EXPECT_EQ(after.synchronisations - before.synchronisations, kSteps);
  EXPECT_EQ(after.copies_to_host - before.copies_to_host, kSteps);
  EXPECT_EQ(after.bytes_to_host - before.bytes_to_host, kSteps * 3 * 4);
  EXPECT_EQ(after.copies_to_device - before.copies_to_device, kSteps * 2);   // what changed in the step's rows, what to sample
  constexpr std::uint64_t kPerRow = 32 + 8 + sizeof(kernels::cuda::SampleSpec);   // four words and their places, a block, a spec
  EXPECT_LE(after.bytes_to_device - before.bytes_to_device, kSteps * 4 * kPerRow);   // padded to a bucket of four
  EXPECT_GT(std::set<TokenId>(drawn.begin(), drawn.end()).size(), 3u);
}

// Two and four cards, each with its part of the model: the logits of one card within bf16's tolerance.
TEST(EmulatorSteps, SeveralCardsGiveTheLogitsOfOne) {
  for (const auto& [arch, ranks] : {std::pair{"llama", 2}, {"mistral", 2}, {"qwen2", 2}, {"qwen2_yarn", 4}, {"qwen3", 2}}) {
    const auto file = formats::ModelFile::open(model_path(arch));
    ASSERT_TRUE(file);
    std::vector<std::unique_ptr<backend::Backend>> backends;
    for (int r = 0; r < ranks; ++r) backends.push_back(std::make_unique<CudaBackend>(std::make_unique<EmulatedDevice>(), CudaOptions{}));
    const auto many = load_tensor_parallel(*file, std::move(backends), kOptions);
    ASSERT_TRUE(many) << many.error().message;
    const auto one = load_on_emulator(model_path(arch), {});
    ASSERT_TRUE(one.runner);
    const std::vector<TokenId> tokens{5, 9, 100, 7, 8, 20, 30, 41, 50, 60, 71, 3};
    const auto expected = logits_of(*one.runner, tokens), found = logits_of(**many, tokens);
    ASSERT_TRUE(expected && found) << (found ? "" : found.error().message);
    const Found f = compare(*found, *expected, static_cast<std::size_t>(one.runner->info().vocab), kCut);
    EXPECT_LE(f.rms, kCut * f.scale) << arch;
    EXPECT_EQ(f.agreed, f.decided);
    EXPECT_GT(f.decided, 0);
  }
}

// A rank that loses its card ends the step for all ranks, with the card's own words; nobody hangs.
TEST(EmulatorSteps, ALostCardOfSeveralIsEngineFailed) {
  const auto file = formats::ModelFile::open(model_path("llama"));
  ASSERT_TRUE(file);
  std::vector<std::unique_ptr<backend::Backend>> backends;
  std::vector<EmulatedDevice*> devices;
  for (int r = 0; r < 2; ++r) {
    auto device = std::make_unique<EmulatedDevice>();
    devices.push_back(device.get());
    backends.push_back(std::make_unique<CudaBackend>(std::move(device), CudaOptions{}));
  }
  const auto many = load_tensor_parallel(*file, std::move(backends), kOptions);
  ASSERT_TRUE(many) << many.error().message;
  const std::vector<TokenId> tokens{5, 9, 100};
  ASSERT_TRUE(logits_of(**many, tokens));
  devices[1]->lose("fallen off the bus");
  for (int i = 0; i < 2; ++i) {
    const auto found = logits_of(**many, tokens);
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, Errc::engine_failed);
  }
}

// A card that falls off the bus: the step says so, everything after it says the same, and nothing crashes.
TEST(EmulatorSteps, ALostDeviceIsEngineFailedForGood) {
  const auto m = load_on_emulator(model_path("llama"), {});
  ASSERT_TRUE(m.runner);
  const std::vector<TokenId> tokens{5, 6, 7};
  ASSERT_TRUE(logits_of(*m.runner, tokens));
  m.device->lose("fallen off the bus");
  for (int i = 0; i < 3; ++i) {
    const auto found = logits_of(*m.runner, tokens);
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, Errc::engine_failed);
    EXPECT_NE(found.error().message.find("fallen off the bus"), std::string::npos) << found.error().message;
  }
}

// Memory that does not hold the model is refused at load, with what was asked for and what there is.
TEST(EmulatorSteps, ACardTooSmallIsRefusedAtLoadWithBothNumbers) {
  const auto file = formats::ModelFile::open(model_path("llama"));
  ASSERT_TRUE(file);
  auto device = std::make_unique<EmulatedDevice>(std::size_t{256} << 10);
  const auto runner = load(*file, std::make_unique<CudaBackend>(std::move(device), CudaOptions{}), kOptions);
  ASSERT_FALSE(runner);
  EXPECT_NE(runner.error().message.find("bytes asked for"), std::string::npos) << runner.error().message;
  EXPECT_NE(runner.error().message.find("of 262144 free"), std::string::npos) << runner.error().message;
  EXPECT_NE(runner.error().message.find("the weights take some"), std::string::npos) << runner.error().message;
  EXPECT_NE(runner.error().message.find("would take less"), std::string::npos) << runner.error().message;
}

// The cache comes last and is the largest: what is left for it is what the message says would fit, and that does fit.
TEST(EmulatorSteps, ACacheTooLargeIsRefusedWithWhatWouldFit) {
  const auto file = formats::ModelFile::open(model_path("llama"));
  ASSERT_TRUE(file);
  LoadOptions options = kOptions;
  options.kv_cache_bytes = std::size_t{64} << 20;
  const auto start = [&] {
    return load(*file, std::make_unique<CudaBackend>(std::make_unique<EmulatedDevice>(std::size_t{16} << 20), CudaOptions{}), options);
  };
  const auto refused = start();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::bad_config);
  const std::string& words = refused.error().message;
  const std::size_t at = words.find("kv_cache: ");
  ASSERT_NE(at, std::string::npos) << words;
  options.kv_cache_bytes = std::stoul(words.substr(at + 10)) << 20;
  const auto fits = start();
  ASSERT_TRUE(fits) << fits.error().message;
  const auto ran = logits_of(**fits, std::vector<TokenId>(40, 5));       // a step's own memory is there as well
  EXPECT_TRUE(ran) << ran.error().message;
}

INSTANTIATE_TEST_SUITE_P(All, EmulatorModels,
                         testing::Values("llama", "llama3", "llama_linear", "mistral", "qwen2", "qwen2_yarn", "qwen3"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace tokenworks::model
