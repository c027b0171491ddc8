// One model over two and four ranks: the logits of one rank, on every tiny architecture that divides; what a rank's failure
// does to the others.
#include "tokenworks/model/tensor_parallel.hpp"

#include <atomic>
#include <cmath>
#include <thread>

#include "golden.hpp"
#include "steps.hpp"
#include "tokenworks/backend/communicator.hpp"

namespace tokenworks::model {
namespace {

using namespace test;

const LoadOptions kOptions{.context_tokens = 128, .kv_cache_bytes = 2 << 20, .sequences_max = 4, .rows_max = 64};

Result<std::unique_ptr<Runner>> load_ranks(const std::string& arch, std::int32_t ranks) {
  auto file = formats::ModelFile::open(golden_path("tiny_models") + "/" + arch + "/model.gguf");
  if (!file) return file.error();
  std::vector<std::unique_ptr<backend::Backend>> backends;
  for (std::int32_t r = 0; r < ranks; ++r)
    backends.push_back(std::move(*backend::make_backend({.backend = "cpu", .compute = "exact", .threads = 1})));
  return load_tensor_parallel(*file, std::move(backends), kOptions);
}

class TensorParallel : public testing::TestWithParam<std::pair<std::string, std::int32_t>> {};

TEST_P(TensorParallel, LogitsAndTokensAreThoseOfOneRank) {
  const auto& [arch, ranks] = GetParam();
  const auto one = load_ranks(arch, 1), many = load_ranks(arch, ranks);
  ASSERT_TRUE(one && many) << (many ? "" : many.error().message);
  std::vector<TokenId> tokens;
  for (int i = 0; i < 40; ++i) tokens.push_back(3 + i * 7 % ((*one)->info().vocab - 3));
  const auto expected = logits_of(**one, tokens), found = logits_of(**many, tokens);
  ASSERT_TRUE(expected && found) << (found ? "" : found.error().message);
  float largest = 0, worst = 0;
  for (std::size_t i = 0; i < expected->size(); ++i) {
    largest = std::max(largest, std::abs((*expected)[i]));
    worst = std::max(worst, std::abs((*found)[i] - (*expected)[i]));
  }
  EXPECT_LE(worst, 2e-5f * largest);                 // fp32 sums in another order
  EXPECT_EQ(greedy(**many, tokens, 12), greedy(**one, tokens, 12));
  EXPECT_LT((*many)->info().weight_bytes, (*one)->info().weight_bytes * 2);      // slices, and an embedding and norms each
  EXPECT_NE((*many)->info().fingerprint, (*one)->info().fingerprint);
}

INSTANTIATE_TEST_SUITE_P(Tiny, TensorParallel,
                         testing::Values(std::pair{"llama", 2}, std::pair{"mistral", 2}, std::pair{"qwen2", 2},
                                         std::pair{"qwen2_yarn", 2}, std::pair{"qwen2_yarn", 4}, std::pair{"qwen3", 2}),
                         [](const auto& info) { return info.param.first + std::to_string(info.param.second); });

TEST(TensorParallelLoad, SaysWhatWouldDivide) {
  const auto found = load_ranks("llama", 4);         // 6 query heads, 2 key/value heads
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Errc::bad_config);
  EXPECT_NE(found.error().message.find("1, 2 would do"), std::string::npos) << found.error().message;
}

// O has 96 columns, 48 a rank: one and a half of Q8_0's blocks. The values are those of the blocks all the same.
TEST(TensorParallelLoad, ACutThroughQuantisedBlocksChangesNoValue) {
  const auto file = formats::ModelFile::open(golden_path("tiny_models") + "/llama/model-q8_0.gguf");
  ASSERT_TRUE(file);
  const auto load_over = [&](int ranks) {
    std::vector<std::unique_ptr<backend::Backend>> backends;
    for (int r = 0; r < ranks; ++r) backends.push_back(std::move(*backend::make_backend({.backend = "cpu", .compute = "exact", .threads = 1})));
    return load_tensor_parallel(*file, std::move(backends), kOptions);
  };
  const auto one = load_over(1), two = load_over(2);
  ASSERT_TRUE(one && two) << two.error().message;
  const std::vector<TokenId> tokens{5, 9, 100, 7, 8, 20, 30, 41};
  const auto expected = logits_of(**one, tokens), found = logits_of(**two, tokens);
  ASSERT_TRUE(expected && found);
  float largest = 0, worst = 0;
  for (std::size_t i = 0; i < expected->size(); ++i) {
    largest = std::max(largest, std::abs((*expected)[i]));
    worst = std::max(worst, std::abs((*found)[i] - (*expected)[i]));
  }
  EXPECT_LE(worst, 2e-5f * largest);
}

TEST(Communicator, AddsGathersAndBroadcastsTheSameBitsOnEveryRank) {
  constexpr std::size_t kRanks = 3;
  auto ranks = backend::make_thread_communicators(kRanks);
  std::vector<std::vector<float>> sums(kRanks), gathered(kRanks);
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (std::size_t r = 0; r < kRanks; ++r)
    threads.emplace_back([&, r] {
      for (int round = 0; round < 50; ++round) {
        std::vector<float> values(static_cast<std::size_t>(1 + round * 3 % 17));
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.1f * static_cast<float>(i + 1) * static_cast<float>(r + 1);
        if (!ranks[r]->all_reduce(values)) ++failed;
        sums[r].insert(sums[r].end(), values.begin(), values.end());
        const float mine[2] = {static_cast<float>(r), static_cast<float>(round)};
        std::vector<float> all(2 * kRanks);
        if (!ranks[r]->all_gather(mine, all)) ++failed;
        gathered[r].insert(gathered[r].end(), all.begin(), all.end());
        std::vector<std::byte> bytes(5, static_cast<std::byte>(r));
        if (!ranks[r]->broadcast(bytes, round % 3) || bytes[4] != static_cast<std::byte>(round % 3)) ++failed;
        if (!ranks[r]->barrier()) ++failed;
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(failed, 0);
  for (std::size_t r = 1; r < kRanks; ++r) {
    EXPECT_EQ(sums[r], sums[0]);
    EXPECT_EQ(gathered[r], gathered[0]);
  }
  EXPECT_EQ(sums[0][0], 0.1f + 0.1f * 2 + 0.1f * 3);
  EXPECT_EQ(gathered[0][4], 2.0f);
}

TEST(Communicator, ARankThatLeavesEndsTheCallsOfTheOthers) {
  auto ranks = backend::make_thread_communicators(2);
  std::thread waits([&] {
    std::vector<float> values(3);
    const auto done = ranks[0]->all_reduce(values);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Errc::engine_failed);
  });
  ranks[1].reset();
  waits.join();
  EXPECT_FALSE(ranks[0]->barrier());
}

TEST(Communicator, DifferentAmountsAreADefectAndNotARead) {
  auto ranks = backend::make_thread_communicators(2);
  std::thread other([&] {
    std::vector<float> values(3);
    EXPECT_FALSE(ranks[1]->all_reduce(values));
  });
  std::vector<float> values(4);
  EXPECT_FALSE(ranks[0]->all_reduce(values));
  other.join();
}

}  // namespace
}  // namespace tokenworks::model
