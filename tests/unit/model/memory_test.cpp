#include "model/memory.hpp"

#include <gtest/gtest.h>

#include "fake_model.hpp"

namespace tokenworks::model {
namespace {

using test::FakeModel;

// A block of the fake: 2 layers x 2 heads x 16 wide x 16 tokens x (K and V) x 2 bytes = 4096 bytes.
constexpr std::size_t kFakeBlock = 4096;

TEST(Memory, ThePlanCountsWeightsCacheAndWorkspace) {
  FakeModel model;
  const auto plan = plan_memory(model, {.context_tokens = 128, .sequences_max = 4, .rows_max = 8});
  ASSERT_TRUE(plan) << plan.error().message;
  const std::size_t layer = 64 * 64 * 2 + 32 * 64 * 2 + 96 * 64 * 3 + 64 * 2;
  EXPECT_EQ(plan->weight_bytes, 4 * (50 * 64 + 64 + 2 * layer));   // tied: the embedding counts once
  EXPECT_EQ(plan->kv_bytes_per_token, kFakeBlock / 16);
  EXPECT_EQ(plan->workspace_bytes, 4u * (8 * 64 + 8 * 128 + 8 * 192 + 4 * 64 + 4 * 50) + 2u * 8 * 96);
}

TEST(Memory, TheBudgetBuysWholeBlocks) {
  FakeModel model;
  const auto blocks = kv_blocks(model, {.context_tokens = 128, .kv_cache_bytes = 11 * kFakeBlock + 4095}, kFakeBlock);
  ASSERT_TRUE(blocks) << blocks.error().message;
  EXPECT_EQ(*blocks, 11);
}

TEST(Memory, ABudgetBelowOneContextSaysWhatWouldFit) {
  FakeModel model;
  auto blocks = kv_blocks(model, {.context_tokens = 128, .kv_cache_bytes = 7 * kFakeBlock + 1000}, kFakeBlock);
  ASSERT_FALSE(blocks);
  EXPECT_EQ(blocks.error().code, Errc::bad_config);
  EXPECT_EQ(blocks.error().message,
            "fake.gguf: kv_cache 29KiB holds 112 tokens, but one context of 128 needs 32KiB; raise kv_cache or lower "
            "context_tokens to 112");
  constexpr std::size_t kDemoBlock = 30 * 3 * 64 * 16 * 2 * 2;
  blocks = kv_blocks(model, {.context_tokens = 8192, .kv_cache_bytes = std::size_t{64} << 20}, kDemoBlock);
  ASSERT_FALSE(blocks);
  EXPECT_EQ(blocks.error().message,
            "fake.gguf: kv_cache 64MiB holds 2912 tokens, but one context of 8192 needs 180MiB; raise kv_cache or "
            "lower context_tokens to 2912");
  blocks = kv_blocks(model, {.context_tokens = 8192, .kv_cache_bytes = 1000}, kDemoBlock);
  ASSERT_FALSE(blocks);
  EXPECT_EQ(blocks.error().message,
            "fake.gguf: kv_cache 1KiB holds 0 tokens, but one context of 8192 needs 180MiB; raise kv_cache");
}

TEST(Memory, TheContextIsLoweredToTheModelsOwn) {
  FakeModel model;
  const auto options = settle_options(model, {.context_tokens = 100'000, .sequences_max = 9, .rows_max = 4});
  ASSERT_TRUE(options);
  EXPECT_EQ(options->context_tokens, 128);
  EXPECT_EQ(options->rows_max, 9);                   // every running sequence decodes in one step
  EXPECT_EQ(settle_options(model, {.context_tokens = 64})->context_tokens, 64);
}

TEST(Memory, OptionsThatAreNotPositiveAreRefused) {
  FakeModel model;
  const auto options = settle_options(model, {.context_tokens = 0});
  ASSERT_FALSE(options);
  EXPECT_EQ(options.error().code, Errc::bad_config);
}

}  // namespace
}  // namespace tokenworks::model
