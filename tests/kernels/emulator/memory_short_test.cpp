// A card that is full while requests run: what a request wants beyond what was planned at load is had in smaller pieces, and what
// cannot be had at all ends every sequence in order.
#include "backend/cuda/cuda_backend.hpp"
#include "engine/collector.hpp"
#include "harness.hpp"
#include "model/golden.hpp"
#include "model/steps.hpp"

namespace tokenworks::model {
namespace {

using backend::cuda::CudaBackend;
using emulator::EmulatedDevice;

std::unique_ptr<Runner> load_tiny(EmulatedDevice** device) {
  const auto file = formats::ModelFile::open(test::golden_path("tiny_models") + "/llama/model.gguf");
  auto owned = std::make_unique<EmulatedDevice>();
  *device = owned.get();
  auto runner = load(*file, std::make_unique<CudaBackend>(std::move(owned), backend::cuda::CudaOptions{}),
                     {.context_tokens = 256, .kv_cache_bytes = 2 << 20, .sequences_max = 8, .rows_max = 64});
  EXPECT_TRUE(runner) << runner.error().message;
  return runner ? std::move(*runner) : nullptr;
}

// What five sequences draw, all with logprobs and the even ones with rules, when the card has so much left for the rules.
std::vector<backend::Sampled> drawn_with(std::size_t rows_of_room) {
  EmulatedDevice* device = nullptr;
  const auto runner = load_tiny(&device);
  test::BlockDealer dealer(*runner, 3);
  std::vector<test::Sequence> sequences(5);
  const backend::SamplingParams plain{.temperature = 0.9f, .seed = 7, .top_logprobs = 3};
  backend::SamplingParams ruled = plain;
  ruled.frequency_penalty = 0.7f;
  std::vector<backend::Sampled> all;
  for (test::Sequence& s : sequences) {
    s.tokens = {20 + static_cast<TokenId>(&s - sequences.data()), 30, 41};
    s.blocks = dealer.deal(64);
  }
  for (int step = 0; step < 6; ++step) {
    test::StepStorage rows;
    std::vector<std::int32_t> last;
    std::vector<backend::SampleRow> asked;
    std::vector<std::vector<backend::TokenCount>> seen(sequences.size());
    std::vector<backend::TokenBias> bias{{11, 2.0f}, {12, -3.0f}};
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      test::Sequence& s = sequences[i];
      const auto n = static_cast<std::int32_t>(s.tokens.size()) - s.done;
      rows.add(s, n);
      s.done += n;
      last.push_back(static_cast<std::int32_t>(rows.tokens.size()) - 1);
      const bool rules = step >= 3 && i % 2 == 0;    // until then the step's other memory has been had, in both slots
      seen[i] = {{s.tokens.back(), 1}};
      asked.push_back({.params = rules ? &ruled : &plain, .position = s.done});
      if (rules) asked.back().bias = bias, asked.back().seen = seen[i];
    }
    if (step == 3) device->leave_free(rows_of_room * static_cast<std::size_t>(runner->info().vocab) * sizeof(float) + 64);
    std::vector<backend::Sampled> sampled(sequences.size());
    const auto ran = runner->run({rows.rows(), last, asked}, sampled);
    EXPECT_TRUE(ran) << ran.error().message;
    for (std::size_t i = 0; i < sequences.size(); ++i) sequences[i].tokens.push_back(sampled[i].token);
    std::move(sampled.begin(), sampled.end(), std::back_inserter(all));
  }
  return all;
}

TEST(EmulatorMemoryShort, RowsWithRulesTakeTurnsInWhatTheCardHasLeft) {
  const auto expected = drawn_with(100);
  for (const std::size_t room : {1u, 2u}) {
    const auto found = drawn_with(room);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].token, expected[i].token) << room << " " << i;
      EXPECT_EQ(found[i].logprob, expected[i].logprob);
      ASSERT_EQ(found[i].top.size(), expected[i].top.size());
      for (std::size_t k = 0; k < found[i].top.size(); ++k) EXPECT_EQ(found[i].top[k].token, expected[i].top[k].token);
    }
  }
}

// Not even a row: the step fails, and with it everybody in the engine, who are told so; nobody new is let in.
TEST(EmulatorMemoryShort, MemoryThatCannotBeHadEndsEverySequenceAsFailed) {
  EmulatedDevice* device = nullptr;
  auto runner = load_tiny(&device);
  ASSERT_TRUE(runner);
  ManualClock clock{1'700'000'000'000'000'000};
  const auto e = engine::make_engine(std::move(runner), {}, clock);
  engine::Collector before;
  ASSERT_TRUE(e->submit(TicketForTest::make(engine::request_id(1), 0, 8), engine::sequence({5, 6, 7}, 8), before.stream()));
  before.wait();
  EXPECT_EQ(before.tokens().size(), 8u);
  device->leave_free(0);                             // the engine's thread has nothing to do: the next request tells it
  engine::Collector plain, ruled;
  auto rules = engine::sequence({8, 9, 10}, 8);
  rules.bias = {{11, 2.0f}};
  rules.ignore_eos = true;
  ASSERT_TRUE(e->submit(TicketForTest::make(engine::request_id(2), 0, 200), engine::sequence({5, 6, 7}, 200), plain.stream()));
  ASSERT_TRUE(e->submit(TicketForTest::make(engine::request_id(3), 0, 8), std::move(rules), ruled.stream()));
  ruled.wait();
  plain.wait();
  EXPECT_EQ(ruled.finish(), engine::Finish::failed);
  EXPECT_TRUE(ruled.tokens().empty());
  EXPECT_TRUE(plain.finish() == engine::Finish::failed || plain.finish() == engine::Finish::stop);
  EXPECT_TRUE(e->status().failed);
  engine::Collector late;
  const auto refused = e->submit(TicketForTest::make(engine::request_id(4), 0, 8), engine::sequence({5, 6, 7}, 8), late.stream());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::engine_failed);
  e->stop();
}

}  // namespace
}  // namespace tokenworks::model

namespace tokenworks::emulator {
namespace {

// A card does not allow it, and a step that did it would only fail there.
TEST(EmulatorCapture, MemoryIsNeitherHadNorFreedWhileAGraphIsRecorded) {
  for (const bool pinned : {false, true})
    for (const bool frees : {false, true}) {
      EmulatedDevice device;
      void* const had = pinned ? *device.allocate_pinned(64) : *device.allocate(64, "before");
      device.begin_capture(device.stream());
      if (frees) pinned ? device.free_pinned(had) : device.free(had);
      else if (pinned) (void)device.allocate_pinned(64);
      else (void)device.allocate(64, "meanwhile");
      (void)device.end_capture(device.stream());
      EXPECT_FALSE(device.synchronise(device.stream())) << pinned << frees;
      EXPECT_NE(device.failure().find("while a graph is captured"), std::string::npos) << device.failure();
    }
}

}  // namespace
}  // namespace tokenworks::emulator
