// The Runner's contract at its edges: what it refuses, what it reports, what it samples.
#include <gtest/gtest.h>

#include <cmath>

#include "counting_backend.hpp"
#include "fake_model.hpp"
#include "steps.hpp"

namespace tokenworks::model {
namespace {

using namespace test;

std::unique_ptr<Runner> fake_runner(std::shared_ptr<FakeModel> model = std::make_shared<FakeModel>()) {
  auto backend = backend::make_backend({.backend = "cpu", .compute = "exact", .threads = 1});
  auto runner = load(model, std::move(backend.value()),
                     {.context_tokens = 64, .kv_cache_bytes = 8 * 8192, .sequences_max = 3, .rows_max = 16});
  return std::move(runner.value());
}

TEST(Runner, ReportsWhatItWasLoadedFor) {
  auto model = std::make_shared<FakeModel>();
  model->tokenizer_edit.stop = {2, 7};
  const RunnerInfo info = fake_runner(model)->info();
  EXPECT_EQ(info.vocab, 50);
  EXPECT_EQ(info.context_tokens, 64);
  EXPECT_EQ(info.kv_blocks, 8);                      // of fp32: the exact path
  EXPECT_EQ(info.rows_max, 16);
  EXPECT_EQ(info.sequences_max, 3);
  EXPECT_EQ(info.kv_bytes, 8u * 8192);
  EXPECT_EQ(info.stop_tokens, (std::vector<TokenId>{2, 7}));
  EXPECT_GT(info.weight_bytes, 0u);
}

// The file may go once the model stands: nothing points into it.
TEST(Runner, NeedsTheFileOnlyToLoad) {
  auto model = std::make_shared<FakeModel>();
  const auto runner = fake_runner(model);
  const std::vector<TokenId> text{1, 2, 3, 4};
  const auto before = logits_of(*runner, text);
  std::weak_ptr<FakeModel> watch = model;
  model.reset();
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(*logits_of(*runner, text), *before);
}

// As in files whose v or up matrices were kept finer than their neighbours (llama.cpp's "M" mixes).
TEST(Runner, PartsOfOneMatrixMayBeStoredDifferently) {
  const std::vector<TokenId> text{9, 8, 7, 6, 5};
  std::vector<float> logits[2];
  for (const bool stored : {false, true}) {
    auto model = std::make_shared<FakeModel>();
    for (const char* part : {"self_attn.v_proj", "mlp.up_proj", "mlp.down_proj"})
      model->round_to_bf16("model.layers.1." + std::string(part) + ".weight", stored);
    logits[stored] = logits_of(*fake_runner(model), text).value();
  }
  for (std::size_t i = 0; i < logits[0].size(); ++i) EXPECT_NEAR(logits[0][i], logits[1][i], 1e-5) << i;
}

// With all matrices of a layer zero, only the biases are left: hidden = embedding + biases, by hand.
TEST(Runner, BiasesOfOutputAndFeedForwardReachTheResidualStream) {
  auto model = std::make_shared<FakeModel>();
  std::vector<float> added(64);
  for (const std::string at : {"model.layers.0.", "model.layers.1."})
    for (const std::string part : {"self_attn.o_proj", "mlp.down_proj"}) {
      std::ranges::fill(model->values(at + part + ".weight"), 0.0f);
      model->add(at + part + ".bias", {64});
      for (std::size_t d = 0; d < 64; ++d) added[d] += model->values(at + part + ".bias")[d];
    }
  const std::vector<float> embedding = model->values("model.embed_tokens.weight");
  const std::vector<float> norm = model->values("model.norm.weight");
  const auto logits = logits_of(*fake_runner(model), std::vector<TokenId>{17, 4}).value();
  for (const auto& [row, token] : {std::pair(0u, 17u), std::pair(1u, 4u)}) {
    double hidden[64], squares = 0;
    for (std::size_t d = 0; d < 64; ++d) {
      hidden[d] = embedding[token * 64 + d] + added[d];
      squares += hidden[d] * hidden[d];
    }
    for (std::size_t v = 0; v < 50; ++v) {
      double logit = 0;
      for (std::size_t d = 0; d < 64; ++d)
        logit += embedding[v * 64 + d] * norm[d] * hidden[d] / std::sqrt(squares / 64 + 1e-5);
      EXPECT_NEAR(logits[row * 50 + v], logit, 2e-5) << token << " " << v;
    }
  }
}

TEST(Runner, SamplesTheRowsAskedForAndNoOthers) {
  const auto runner = fake_runner();
  BlockDealer dealer(*runner, 1);
  const std::vector<TokenId> a{5, 6, 7, 8, 9}, b{40, 3, 12};
  const std::vector<Sequence> sequences{{a, dealer.deal(5)}, {b, dealer.deal(3)}};
  StepStorage step;
  step.add(sequences[0], 5);
  step.add(sequences[1], 3);
  const backend::SamplingParams params{.temperature = 0, .top_logprobs = 1};
  const std::vector<std::int32_t> wanted{2, 7};      // the third row of a, the last of b
  const std::vector<backend::SampleRow> rows(2, {.params = &params});
  std::vector<backend::Sampled> sampled(2);
  ASSERT_TRUE(runner->run({step.rows(), wanted, rows}, sampled));
  const auto top = [&](const std::vector<TokenId>& text) {
    const auto logits = logits_of(*runner, text).value();
    return static_cast<TokenId>(std::max_element(logits.end() - 50, logits.end()) - (logits.end() - 50));
  };
  EXPECT_EQ(sampled[0].token, top({5, 6, 7}));
  EXPECT_EQ(sampled[1].token, top(b));
}

// What a device would pay for: nothing is made or copied in a step, the host waits once, and the last feed-forward and
// the head run for the sampled rows alone.
TEST(Runner, AStepMakesNothingCopiesNothingAndWaitsOnce) {
  const auto counters = std::make_shared<Counters>();
  auto inner = backend::make_backend({.backend = "cpu", .compute = "exact", .threads = 1});
  auto loaded = load(std::make_shared<FakeModel>(), std::make_unique<CountingBackend>(std::move(*inner), counters),
                     {.context_tokens = 64, .kv_cache_bytes = 8 * 8192, .sequences_max = 3, .rows_max = 16});
  ASSERT_TRUE(loaded) << loaded.error().message;
  *counters = {};
  StepStorage step;
  step.add({{5, 6, 7, 8, 9}, {3}}, 5);
  const backend::SamplingParams params{.temperature = 0};
  const backend::SampleRow row{.params = &params};
  backend::Sampled sampled;
  const std::int32_t last = 4;
  ASSERT_TRUE((*loaded)->run({step.rows(), {&last, 1}, {&row, 1}}, {&sampled, 1}));
  EXPECT_EQ(counters->made + counters->uploads + counters->downloads, 0);
  EXPECT_EQ(counters->waits, 1);
  EXPECT_EQ(counters->linear_rows, (std::vector<std::int32_t>{5, 5, 5, 5, 5, 5, 1, 1, 1}));

  *counters = {};                                    // a chunk in the middle of a prompt: no head at all
  ASSERT_TRUE((*loaded)->run({step.rows(), {}, {}}, {}));
  EXPECT_EQ(counters->waits, 1);
  EXPECT_EQ(counters->linear_rows, (std::vector<std::int32_t>{5, 5, 5, 5, 5, 5}));
}

TEST(Runner, AStepThatDoesNotFitIsRefusedAndTheNextOneRuns) {
  const auto runner = fake_runner();
  Sequence s{{1, 2, 3}, {0}, 0};
  const auto refused = [&](auto edit, std::int32_t wanted = 0) {
    StepStorage step;
    step.add(s, 3);
    edit(step);
    std::vector<float> logits(50);
    const auto ran = runner->logits(step.rows(), {&wanted, 1}, logits);
    return ran ? std::string("ran") : ran.error().message;
  };
  EXPECT_EQ(refused([](auto& step) { step.tokens[1] = 50; }), "step refused: token 50 of a vocabulary of 50");
  EXPECT_EQ(refused([](auto& step) { step.tokens[1] = -1; }), "step refused: token -1 of a vocabulary of 50");
  EXPECT_EQ(refused([](auto& step) { step.tables[0] = 8; }), "step refused: block 8 of 8");
  EXPECT_EQ(refused([](auto& step) { step.tables.clear(); }),
            "step refused: a sequence of 3 rows from 0, context 3, blocks from 0");
  EXPECT_EQ(refused([](auto& step) { step.sequences[0].context = 65; }),
            "step refused: a sequence of 3 rows from 0, context 65, blocks from 0");
  EXPECT_EQ(refused([](auto& step) { step.positions[2] = 5; }), "step refused: row 2 stands at position 5");
  EXPECT_EQ(refused([](auto& step) { step.sequences[0].rows = 2, step.sequences[0].context = 2; }),
            "step refused: the sequences cover 2 of 3 rows");
  EXPECT_EQ(refused([](auto&) {}, 3), "step refused: sampled row 3 of 3; rows ascend");
  EXPECT_EQ(refused([](auto& step) { step.tokens.resize(17, 1); }), "step refused: 17 rows, loaded for 1 to 16");
  EXPECT_EQ(refused([](auto&) {}), "ran");
}

}  // namespace
}  // namespace tokenworks::model
