// Swap on the emulator: KV blocks of a preempted sequence go to pinned host memory and come back into other blocks, bit for
// bit, in every element of the cache and over several cards; scheduler, model and backend together give what they give without
// preemption; nothing stays in host memory and nobody waits.
#include <algorithm>
#include <map>

#include "backend/cuda/cuda_backend.hpp"
#include "harness.hpp"
#include "model/golden.hpp"
#include "model/steps.hpp"
#include "tokenworks/model/tensor_parallel.hpp"
#include "tokenworks/scheduler/scheduler.hpp"

namespace tokenworks::model {
namespace {

using namespace test;
using backend::cuda::CudaBackend;
using backend::cuda::CudaOptions;
using emulator::EmulatedDevice;
using kernels::cuda::Element;

const LoadOptions kOptions{.context_tokens = 128, .kv_cache_bytes = 1 << 20, .swap_bytes = 200 << 10, .sequences_max = 4, .rows_max = 32};

struct Cards {
  std::unique_ptr<Runner> runner;
  std::vector<EmulatedDevice*> devices;              // the runner's
};

Cards load_on_cards(int ranks, const CudaOptions& how, const LoadOptions& options = kOptions) {
  Cards c;
  const auto file = formats::ModelFile::open(golden_path("tiny_models") + "/llama/model.gguf");
  if (!file) {
    ADD_FAILURE() << file.error().message;
    return c;
  }
  std::vector<std::unique_ptr<backend::Backend>> backends;
  for (int r = 0; r < ranks; ++r) {
    auto device = std::make_unique<EmulatedDevice>();
    c.devices.push_back(device.get());
    backends.push_back(std::make_unique<CudaBackend>(std::move(device), how));
  }
  auto runner = load_tensor_parallel(*file, std::move(backends), options);
  if (runner) c.runner = std::move(*runner);
  else ADD_FAILURE() << runner.error().message;
  return c;
}

std::vector<TokenId> text(std::size_t length, TokenId first) {
  std::vector<TokenId> t;
  for (std::size_t i = 0; i < length; ++i) t.push_back(first + static_cast<TokenId>(i * 7 % 40));
  return t;
}

// 37 tokens in two steps; then, with `swap`, all of it to the host, its blocks zeroed and used by another sequence, and back
// into other blocks; then three more tokens, one a step. The logits of all rows.
std::vector<float> logits_of_a_swapped(Cards& cards, bool swap) {
  std::vector<Sequence> sequences{{text(40, 5), {3, 0, 7}}};
  std::vector<std::vector<float>> out(1);
  advance(*cards.runner, sequences, {21}, out);
  advance(*cards.runner, sequences, {16}, out);
  if (swap) {
    const std::vector<std::int32_t> slots{1, 0, 5}, others{8, 9, 2};
    cards.runner->swap_out(sequences[0].blocks, slots);
    cards.runner->zero_blocks(sequences[0].blocks);
    std::vector<Sequence> intruder{{text(40, 60), {0, 3, 7}}};
    std::vector<std::vector<float>> ignored(1);
    advance(*cards.runner, intruder, {20}, ignored);
    cards.runner->swap_in(others, slots, slots);
    sequences[0].blocks = others;
  }
  for (int i = 0; i < 3; ++i) advance(*cards.runner, sequences, {1}, out);
  return out[0];
}

TEST(EmulatorSwap, WhatComesBackIsTheSameBitsInEveryElementAndOnEveryRank) {
  const struct { int ranks; Element compute, kv; } kinds[] = {{1, Element::bf16, Element::bf16}, {1, Element::f16, Element::f16},
                                                              {1, Element::bf16, Element::fp8}, {2, Element::bf16, Element::fp8}};
  for (const auto& [ranks, compute, kv] : kinds) {
    Cards swapped = load_on_cards(ranks, {.compute = compute, .kv = kv}), kept = load_on_cards(ranks, {.compute = compute, .kv = kv});
    ASSERT_TRUE(swapped.runner && kept.runner);
    const auto a = logits_of_a_swapped(swapped, true), b = logits_of_a_swapped(kept, false);
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0) << ranks << " ranks, cache " << static_cast<int>(kv);
    for (EmulatedDevice* device : swapped.devices) {
      const std::size_t each = swapped.runner->info().swap_bytes / static_cast<std::size_t>(ranks);
      const std::byte* host = device->pinned_of(each);
      ASSERT_NE(host, nullptr);
      EXPECT_EQ(device->failure(), "");
      for (const std::size_t slot : {0, 1, 5}) {
        const std::size_t block = each / static_cast<std::size_t>(swapped.runner->info().swap_slots);
        EXPECT_TRUE(std::all_of(host + slot * block, host + (slot + 1) * block, [](std::byte x) { return x == std::byte{0}; })) << slot;
      }
    }
  }
}

TEST(EmulatorSwap, CopiesAreEnqueuedNobodyWaitsAndNothingIsAllocated) {
  Cards cards = load_on_cards(1, {});
  ASSERT_TRUE(cards.runner);
  std::vector<Sequence> sequences{{text(30, 5), {4, 5}}};
  std::vector<std::vector<float>> out(1);
  advance(*cards.runner, sequences, {30}, out);
  const auto before = cards.devices[0]->counts();
  const std::vector<std::int32_t> slots{2, 3};
  cards.runner->swap_out(sequences[0].blocks, slots);
  cards.runner->swap_in(sequences[0].blocks, slots, slots);
  const auto after = cards.devices[0]->counts();
  EXPECT_EQ(after.synchronisations, before.synchronisations);
  EXPECT_EQ(after.allocations, before.allocations);
  EXPECT_EQ(after.copies_to_host - before.copies_to_host, 1u);       // side by side in both places: one copy
  EXPECT_EQ(after.copies_to_device - before.copies_to_device, 1u);
}

// The engine's loop without the engine: every plan is run as the contract of StepPlan says, tokens are greedy. Fixed time, so
// the same plans each run. Answers by sequence.
struct Answers {
  std::vector<std::vector<TokenId>> tokens;
  scheduler::Stats stats;
};
Answers run_all_of(Runner& runner, std::int32_t blocks, std::int32_t slots, int cancel_after) {
  scheduler::Options options{.kv_blocks = blocks, .context_tokens = 128, .rows_max = 32, .sequences_max = 4, .prefix_cache = false,
                             .swap_slots = slots, .swap_move_ns = 1};
  scheduler::Scheduler scheduler(options);
  const std::size_t kPrompts[] = {30, 34, 27};
  std::map<scheduler::Handle, std::size_t> number;
  Answers answers{std::vector<std::vector<TokenId>>(3), {}};
  for (std::size_t i = 0; i < 3; ++i) {
    scheduler::SequenceSpec spec;
    spec.prompt = std::make_shared<scheduler::Prompt>(text(kPrompts[i], static_cast<TokenId>(5 + 50 * i)));
    spec.max_tokens = 24;
    number[scheduler.add(spec, 1).value()] = i;
  }
  const backend::SamplingParams greedy{.temperature = 0};
  for (int step = 0; !scheduler.empty() && step < 400; ++step) {
    const auto& plan = scheduler.plan(1);
    if (cancel_after > 0 && !plan.preempted.empty() && --cancel_after == 0) number[plan.preempted.front()] += 10;
    runner.swap_out(plan.swap_out.blocks, plan.swap_out.slots);
    runner.zero_blocks(plan.zero);
    runner.swap_in(plan.swap_in.blocks, plan.swap_in.slots, plan.swap_freed);
    std::vector<backend::SequenceRows> rows;
    std::vector<std::int32_t> wanted;
    for (const auto& item : plan.items) {
      rows.push_back({item.row, item.count, item.first + item.count, item.table});
      if (item.samples) wanted.push_back(item.row + item.count - 1);
    }
    const std::vector<backend::SampleRow> asked(wanted.size(), {.params = &greedy});
    std::vector<backend::Sampled> sampled(wanted.size());
    if (!plan.items.empty()) {
      const auto ran = runner.run({{plan.tokens, plan.positions, rows, plan.block_tables}, wanted, asked}, sampled);
      EXPECT_TRUE(ran) << ran.error().message;
      if (!ran) return answers;
      std::vector<scheduler::Outcome> outcomes;
      for (const auto& item : plan.items) {
        if (!item.samples) continue;
        auto& tokens = answers.tokens[number.at(item.handle) % 10];
        tokens.push_back(sampled[outcomes.size()].token);
        outcomes.push_back({tokens.back(), tokens.size() == 24 ? scheduler::Outcome::Then::ends : scheduler::Outcome::Then::goes_on});
      }
      scheduler.commit(outcomes, 1, 0);
    }
    for (auto& [handle, n] : number) {
      if (n < 10) continue;
      scheduler.cancel(handle);
      EXPECT_EQ(scheduler.audit(), "");
      number.erase(handle);
      break;
    }
  }
  const auto& last = scheduler.plan(1);
  runner.swap_in({}, {}, last.swap_freed);
  answers.stats = scheduler.stats();
  return answers;
}

TEST(EmulatorSwap, PreemptionWithSwapGivesTheTokensOfNoPreemption) {
  Cards roomy = load_on_cards(1, {}), tight = load_on_cards(1, {}), full = load_on_cards(1, {});
  ASSERT_TRUE(roomy.runner && tight.runner && full.runner);
  const Answers expected = run_all_of(*roomy.runner, 16, 16, 0), swapped = run_all_of(*tight.runner, 8, 16, 0);
  EXPECT_EQ(expected.stats.preemptions, 0);
  EXPECT_GT(swapped.stats.preemptions, 0);
  EXPECT_GT(swapped.stats.swapped_in, 0);
  EXPECT_EQ(swapped.stats.recomputed_tokens, 0);
  EXPECT_EQ(swapped.stats.swap_used, 0);
  EXPECT_EQ(swapped.tokens, expected.tokens);
  const Answers anew = run_all_of(*full.runner, 8, 1, 0);             // no room for a sequence: computed anew
  EXPECT_GT(anew.stats.preemptions, 0);
  EXPECT_EQ(anew.stats.swapped_out, 0);
  EXPECT_GT(anew.stats.recomputed_tokens, 0);
  EXPECT_EQ(anew.tokens, expected.tokens);
}

TEST(EmulatorSwap, ACancelledSequenceLeavesNothingInHostMemory) {
  Cards cards = load_on_cards(1, {});
  ASSERT_TRUE(cards.runner);
  const Answers answers = run_all_of(*cards.runner, 8, 16, 1);
  EXPECT_GT(answers.stats.swapped_out, answers.stats.swapped_in);    // what was cancelled did not come back
  EXPECT_EQ(answers.stats.swap_used, 0);
  ASSERT_TRUE(cards.devices[0]->synchronise(cards.devices[0]->stream()));
  const std::size_t bytes = cards.runner->info().swap_bytes, used = bytes / static_cast<std::size_t>(cards.runner->info().swap_slots) * 16;
  const std::byte* host = cards.devices[0]->pinned_of(bytes);
  ASSERT_NE(host, nullptr);
  int touched = 0;                                   // zero, or never written: poison
  for (std::size_t i = 0; i < used; ++i) touched += host[i] != std::byte{0} && host[i] != host[bytes - 1];
  EXPECT_EQ(touched, 0);
}

// The link is timed when the space is made: two rounds of as many blocks as fit 64 MiB, the second counts.
TEST(EmulatorSwap, TheSpaceIsPlannedAtLoadAndTimesItsLink) {
  std::int64_t now = 0;
  Cards cards = load_on_cards(1, {.now_ns = [&] { return now += 1'000'000; }});
  ASSERT_TRUE(cards.runner);
  const RunnerInfo& info = cards.runner->info();
  EXPECT_EQ(info.swap_slots, (200 << 10) / static_cast<std::int32_t>(info.kv_bytes / static_cast<std::size_t>(info.kv_blocks)));
  EXPECT_LE(info.swap_bytes, std::size_t{200} << 10);
  const double timed = std::min(info.swap_slots, info.kv_blocks);
  EXPECT_DOUBLE_EQ(info.swap_move_ns, 1e6 / (2 * timed));
}

TEST(EmulatorSwap, HostMemoryThatCannotBeHadIsRefusedAtLoadWithTheKeyToChange) {
  const auto file = formats::ModelFile::open(golden_path("tiny_models") + "/llama/model.gguf");
  ASSERT_TRUE(file);
  auto device = std::make_unique<EmulatedDevice>();
  device->set_pinned_max(std::size_t{8} << 20);
  LoadOptions options = kOptions;
  options.swap_bytes = std::size_t{64} << 20;
  const auto refused = load(*file, std::make_unique<CudaBackend>(std::move(device), CudaOptions{}), options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::bad_config);
  EXPECT_NE(refused.error().message.find("swap: 64 MiB of page-locked host memory"), std::string::npos) << refused.error().message;
}

TEST(EmulatorSwap, TheProcessorHasNoneAndSaysSo) {
  const auto file = formats::ModelFile::open(golden_path("tiny_models") + "/llama/model.gguf");
  ASSERT_TRUE(file);
  const auto runner = load(*file, backend::make_backend({.backend = "cpu", .threads = 1}).value(), kOptions);
  ASSERT_TRUE(runner) << runner.error().message;
  EXPECT_EQ((*runner)->info().swap_slots, 0);
  EXPECT_EQ((*runner)->info().swap_bytes, 0u);
}

}  // namespace
}  // namespace tokenworks::model
