// The device's sampler against the CPU's (kernels/cpu/sample.hpp, itself held against NumPy): the same tokens for the same
// logits, over every rule, alone and together; logprobs; rows without a choice; planted bugs.
#include "backend/cuda/device_sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "harness.hpp"
#include "kernels/cpu/sample.hpp"
#include "rows.hpp"

namespace tokenworks::emulator {
namespace {

using backend::Sampled;
using backend::SampleRow;
using backend::SamplingParams;
using backend::TokenBias;
using backend::TokenCount;

struct Asked {
  SamplingParams params;
  std::uint32_t choice = 0;
  std::int64_t position = 0;
  std::vector<TokenBias> bias;
  std::vector<TokenCount> seen;
  std::vector<std::uint32_t> mask;
  SampleRow row() const {
    return {.params = &params, .choice = choice, .position = position, .bias = bias, .seen = seen,
            .mask = mask.empty() ? nullptr : mask.data()};
  }
};

// What the device draws for rows of `logits`; a fault fails the test.
std::vector<Sampled> draw(const std::vector<float>& logits, std::int32_t vocab, const std::vector<Asked>& asked) {
  EmulatedDevice device;
  const DeviceArray<float> values(device, logits, "logits");
  backend::cuda::StepState state(device);
  backend::cuda::DeviceSampler sampler;
  std::vector<SampleRow> rows;
  for (const Asked& a : asked) rows.push_back(a.row());
  std::vector<Sampled> out(rows.size());
  const auto sent = sampler.enqueue(device, state, values, vocab, rows, 0);
  EXPECT_TRUE(sent) << (sent ? "" : sent.error().message);
  const std::string fault = run_all(device);
  if (!fault.empty()) return {};
  sampler.read(0, out);
  return out;
}

std::vector<Sampled> reference(const std::vector<float>& logits, std::int32_t vocab, const std::vector<Asked>& asked) {
  kernels::Sampler sampler(kernels::ops(kernels::best_path()));
  std::vector<Sampled> out;
  for (std::size_t i = 0; i < asked.size(); ++i)
    out.push_back(sampler.sample(std::span(logits).subspan(i * static_cast<std::size_t>(vocab), static_cast<std::size_t>(vocab)),
                                 asked[i].row()));
  return out;
}

void expect_same(const std::vector<float>& logits, std::int32_t vocab, const std::vector<Asked>& asked) {
  const auto found = draw(logits, vocab, asked), expected = reference(logits, vocab, asked);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const SamplingParams& p = asked[i].params;
    SCOPED_TRACE(testing::Message() << "row " << i << " of " << vocab << ": temperature " << p.temperature << " top_k " << p.top_k
                                    << " top_p " << p.top_p << " min_p " << p.min_p);
    EXPECT_EQ(found[i].token, expected[i].token);
    EXPECT_NEAR(found[i].logprob, expected[i].logprob, 2e-6 * (1 + std::abs(expected[i].logprob)));
    ASSERT_EQ(found[i].top.size(), expected[i].top.size());
    for (std::size_t k = 0; k < found[i].top.size(); ++k) {
      EXPECT_EQ(found[i].top[k].token, expected[i].top[k].token) << k;
      EXPECT_NEAR(found[i].top[k].logprob, expected[i].top[k].logprob, 2e-6 * (1 + std::abs(expected[i].top[k].logprob)));
    }
  }
}

// A row that asks for about half of what can be asked for.
Asked some(std::mt19937& random, std::int32_t vocab, bool rules) {
  const auto real = [&](float low, float high) { return std::uniform_real_distribution<float>(low, high)(random); };
  const auto token = [&] { return static_cast<TokenId>(random() % static_cast<unsigned>(vocab)); };
  Asked a;
  a.params.seed = random() | std::uint64_t{random()} << 32;
  a.choice = random() % 3;
  a.position = static_cast<std::int64_t>(random() % 100000) << (random() % 2 * 20);
  a.params.temperature = real(0.2f, 2.5f);
  if (random() % 2) a.params.top_k = static_cast<std::int32_t>(1 + random() % 60);
  if (random() % 2) a.params.top_p = real(0.05f, 0.999f);
  if (random() % 3 == 0) a.params.min_p = real(0.001f, 0.3f);
  if (random() % 4 == 0) a.params.top_logprobs = static_cast<std::int32_t>(random() % 6);
  if (!rules) return a;
  if (random() % 2)
    for (int i = 0; i < 20; ++i) a.bias.push_back({token(), real(-3, 3)});
  if (random() % 2) {
    for (std::int32_t t = 0; t < vocab; t += 1 + static_cast<std::int32_t>(random() % 9))
      a.seen.push_back({t, static_cast<std::int32_t>(random() % 3)});
    a.params.repetition_penalty = real(0.8f, 1.5f);
    a.params.frequency_penalty = real(-0.5f, 0.5f);
    a.params.presence_penalty = real(-0.5f, 0.5f);
  }
  if (random() % 2) {
    for (std::int32_t w = 0; w < (vocab + 31) / 32; ++w) a.mask.push_back(random() | random());
    a.mask[static_cast<std::size_t>(vocab / 64)] |= 1u;
  }
  return a;
}

void expect_random_rows(std::int32_t vocab, int rows, float spread, bool rules, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Asked> asked;
  for (int i = 0; i < rows; ++i) asked.push_back(some(random, vocab, rules));
  expect_same(normal(static_cast<std::size_t>(vocab) * static_cast<std::size_t>(rows), seed, spread), vocab, asked);
}

TEST(EmulatedSampler, DrawsFromAllAsTheCpuDoes) {
  for (const std::int32_t vocab : {1, 2, 255, 256, 257, 3001}) {
    std::vector<Asked> asked(6);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      asked[i].params.seed = 77 * i;
      asked[i].position = static_cast<std::int64_t>(i) << (8 * i);
      asked[i].choice = static_cast<std::uint32_t>(i % 2);
      asked[i].params.temperature = 0.3f + 0.5f * static_cast<float>(i);
    }
    expect_same(normal(static_cast<std::size_t>(vocab) * asked.size(), 4, 3), vocab, asked);
  }
}

TEST(EmulatedSampler, FiltersAsTheCpuDoes) {
  for (const std::int32_t vocab : {1, 37, 300, 2049}) expect_random_rows(vocab, 8, 4, false, static_cast<unsigned>(vocab));
}

TEST(EmulatedSampler, FlatRowsThatNoListHoldsAreWalkedWhole) { expect_random_rows(5000, 2, 0.3f, false, 3); }

TEST(EmulatedSampler, AppliesMaskBiasAndPenaltiesAsTheCpuDoes) {
  for (const std::int32_t vocab : {33, 301, 1500}) expect_random_rows(vocab, 8, 3, true, static_cast<unsigned>(vocab) + 1);
}

// The vocabularies of Llama 3 and Qwen, and no row at all.
TEST(EmulatedSampler, TheLargestVocabulariesAndNoRows) {
  expect_same({}, 300, {});
  expect_random_rows(128256, 2, 4, false, 21);
  expect_random_rows(151936, 1, 3, true, 22);
}

TEST(EmulatedSampler, TiesGoToTheLowerIds) {
  std::vector<float> logits(600);
  for (std::size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i * 7 % 5);   // 120 of each
  logits[3] = -0.0f;
  std::vector<Asked> asked;
  for (const int k : {0, 1, 119, 120, 121, 1000})
    for (const float p : {0.0f, 0.7f, 1.0f}) {
      Asked a;
      a.params.top_k = k;
      a.params.top_p = p;
      a.params.seed = asked.size();
      a.params.top_logprobs = k % 7;
      asked.push_back(a);
    }
  for (const float least : {1.0f, 0.999f}) {         // as likely as the likeliest: kept
    Asked a;
    a.params.min_p = least;
    a.params.seed = asked.size();
    asked.push_back(a);
  }
  std::vector<float> all;
  for (std::size_t i = 0; i < asked.size(); ++i) all.insert(all.end(), logits.begin(), logits.end());
  expect_same(all, 600, asked);
}

TEST(EmulatedSampler, GreedyIsTheLowestIdOfTheHighestAndBadRowsGiveNoToken) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::int32_t vocab = 700;
  std::vector<float> logits = normal(static_cast<std::size_t>(vocab) * 7, 2);
  std::vector<Asked> asked(7);
  logits[20] = logits[650] = 9;                      // row 0: two highest
  asked[0].params.temperature = 0;
  asked[0].params.top_logprobs = 2;
  logits[static_cast<std::size_t>(vocab) + 699] = nan;
  logits[static_cast<std::size_t>(vocab) * 2] = inf;
  std::fill_n(logits.begin() + vocab * 3, vocab, -inf);
  asked[4].mask.assign(static_cast<std::size_t>(vocab + 31) / 32, 0);  // allows nothing
  logits[static_cast<std::size_t>(vocab) * 5 + 3] = nan;               // under the mask: a token, but no logprobs
  asked[5].mask.assign(static_cast<std::size_t>(vocab + 31) / 32, ~0u);
  asked[5].mask[0] = ~8u;
  asked[5].params.top_logprobs = 3;
  asked[6].params.temperature = 1e-42f;              // its inverse is no number: greedy
  expect_same(logits, vocab, asked);
  const auto found = draw(logits, vocab, asked);
  EXPECT_EQ(found[0].token, 20);
  for (const std::size_t i : {1u, 2u, 3u, 4u}) EXPECT_EQ(found[i].token, -1) << i;
  EXPECT_GE(found[5].token, 0);
}

TEST(EmulatedSampler, ResultsAreTheSameInEveryOrderOfThreads) {
  std::mt19937 random(8);
  std::vector<Asked> asked;
  for (int i = 0; i < 3; ++i) asked.push_back(some(random, 400, true));
  const auto logits = normal(1200, 9, 3);
  const auto first = draw(logits, 400, asked);
  options().seed = 5;
  const auto second = draw(logits, 400, asked);
  options() = {};
  ASSERT_EQ(second.size(), first.size());
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(second[i].token, first[i].token);
}

TEST(EmulatedSampler, PlantedBugsAreFound) {
  const struct { int bug; const char* what; } bugs[] = {{201, "no barrier before biases are added"},
                                                       {202, "no barrier before a block is walked"},
                                                       {203, "one tie too few is kept"},
                                                       {204, "the next token's bit of the mask"},
                                                       {205, "the choice does not enter the draw"}};
  for (const auto& [bug, what] : bugs) {
    SCOPED_TRACE(what);
    std::vector<Asked> asked(2);
    asked[0].choice = asked[1].choice = 1;
    if (bug == 201 || bug == 204) {
      asked[0].mask.assign(10, 0x55555555u);
      for (TokenId t = 0; t < 300; t += 2) asked[0].bias.push_back({299 - t, 0.5f});
    }
    if (bug == 203) asked[0].params.top_k = 3, asked[1].params.top_k = 100;
    std::vector<float> logits = normal(600, 12);
    if (bug == 203) std::fill(logits.begin(), logits.end(), 1.0f);
    const auto differs = [&] {
      const auto found = draw(logits, 300, asked), expected = reference(logits, 300, asked);
      bool same = found.size() == expected.size();
      for (std::size_t i = 0; same && i < found.size(); ++i) same = found[i].token == expected[i].token;
      return !same;
    };
    bool clean = true, caught = false;
    for (std::uint64_t seed = 1; seed < 12; ++seed) {
      for (Asked& a : asked) a.params.seed = seed * 1000, a.position = static_cast<std::int64_t>(seed);
      clean = clean && !differs();
      const Planted planted(bug);
      caught = caught || differs();
    }
    EXPECT_TRUE(clean);
    EXPECT_TRUE(caught);
  }
}

}  // namespace
}  // namespace tokenworks::emulator
