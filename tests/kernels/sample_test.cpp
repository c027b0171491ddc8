// The sampler against NumPy in float64 (tests/golden/sampling.py), Philox against Random123's published vectors, and
// every table against the others.
#include "kernels/cpu/sample.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "support.hpp"
#include "support/paths.hpp"

namespace tokenworks::kernels {
namespace {

using backend::Sampled;
using backend::SampleRow;
using backend::SamplingParams;
using nlohmann::json;

// Random123 1.14, tests/kat_vectors, "philox4x32 10".
TEST(Philox, GivesThePublishedVectors) {
  using Four = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t f = 0xffffffff;
  EXPECT_EQ(philox({f, f, f, f}, {f, f}), (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, DrawsDifferBySeedChoiceAndPositionAndAreUniform) {
  std::map<double, int> seen;
  double sum = 0;
  int below = 0, n = 0;
  for (std::uint64_t seed : {0ull, 1ull, 1ull << 40, ~0ull}) {
    for (std::uint32_t choice = 0; choice < 4; ++choice) {
      for (std::int64_t position : {0, 1, 2, 1000, 70000}) {
        const double u = uniform(seed, choice, position);
        ASSERT_TRUE(u >= 0 && u < 1);
        ASSERT_EQ(seen[u]++, 0);
      }
    }
  }
  for (std::int64_t position = 0; position < 20000; ++position, ++n) {
    const double u = uniform(42, 0, position);
    sum += u;
    below += u < 0.1;
  }
  EXPECT_NEAR(sum / n, 0.5, 0.01);
  EXPECT_NEAR(static_cast<double>(below) / n, 0.1, 0.01);
}

struct GoldenCase {
  json j;
  std::vector<float> logits;
  SamplingParams params;
  std::vector<backend::TokenBias> bias;
  std::vector<backend::TokenCount> seen;
  std::vector<std::uint32_t> mask;

  SampleRow row() const {
    SampleRow r;
    r.params = &params;
    r.bias = bias;
    r.seen = seen;
    r.mask = mask.empty() ? nullptr : mask.data();
    return r;
  }
};

std::vector<GoldenCase> golden_cases() {
  const std::string folder = test::golden_path("sampling");
  std::ifstream text(folder + "/cases.json"), numbers(folder + "/logits.bin", std::ios::binary);
  if (!text || !numbers) {
    ADD_FAILURE() << folder << " is missing: run tests/golden/sampling.py (tests/run does)";
    return {};
  }
  std::vector<GoldenCase> cases;
  for (const json& j : json::parse(text)) {
    GoldenCase c;
    c.j = j;
    const auto vocab = j["vocab"].get<std::size_t>();
    c.logits.resize(vocab);
    numbers.seekg(static_cast<std::streamoff>(j["offset"].get<std::size_t>() * 4));
    numbers.read(reinterpret_cast<char*>(c.logits.data()), static_cast<std::streamsize>(vocab * 4));
    c.params.temperature = j["temperature"];
    c.params.top_k = j["top_k"];
    c.params.top_p = j["top_p"];
    c.params.min_p = j["min_p"];
    c.params.repetition_penalty = j["repetition"];
    c.params.presence_penalty = j["presence"];
    c.params.frequency_penalty = j["frequency"];
    for (const json& b : j["bias"]) c.bias.push_back({b[0], b[1]});
    for (const json& s : j["seen"]) c.seen.push_back({s[0], s[1]});
    const auto forbid = [&](std::size_t t) { c.mask[t / 32] &= ~(1u << t % 32); };
    if (!j["forbidden"].empty()) {
      c.mask.assign((vocab + 31) / 32, 0xFFFFFFFFu);
      if (j["forbidden"].is_array()) {
        for (const json& t : j["forbidden"]) forbid(t);
      } else {
        const auto step = j["forbidden"]["step"].get<std::size_t>();
        for (std::size_t t = 0; t < vocab; ++t)
          if ((t % step == 0) != j["forbidden"]["keep"].get<bool>()) forbid(t);
      }
    }
    cases.push_back(std::move(c));
  }
  return cases;
}

std::string describe(const GoldenCase& c) {
  json j = c.j;
  for (const char* key : {"draws", "kept", "probabilities", "logprobs", "forbidden", "offset"}) j.erase(key);
  return j.dump();
}

TEST(Sampler, KeepsAndDrawsWhatTheReferenceDoes) {
  const auto cases = golden_cases();
  ASSERT_GE(cases.size(), 100u);
  for (const GoldenCase& c : cases) {
    SCOPED_TRACE(describe(c));
    for (const CpuPath path : paths()) {
      Sampler sampler(ops(path));
      for (const json& draw : c.j["draws"])
        ASSERT_EQ(sampler.sample(c.logits, c.row(), draw[0].get<double>()).token, draw[1].get<int>())
            << name(path) << " u " << draw[0];
      const bool filters = c.params.top_k > 0 || c.params.top_p < 1 || c.params.min_p > 0;
      if (!filters) continue;
      const auto& kept = sampler.kept();
      if (c.j.contains("kept_count")) {
        ASSERT_EQ(kept.size(), c.j["kept_count"].get<std::size_t>());
        continue;
      }
      ASSERT_EQ(kept.size(), c.j["kept"].size());
      double total = 0;
      for (const auto& k : kept) total += static_cast<double>(k.weight);
      for (std::size_t i = 0; i < kept.size(); ++i) {
        ASSERT_EQ(kept[i].token, c.j["kept"][i].get<int>());
        ASSERT_NEAR(static_cast<double>(kept[i].weight) / total, c.j["probabilities"][i].get<double>(), 1e-6);
      }
    }
  }
}

TEST(Sampler, LogprobsAreOfTheRawLogits) {
  for (GoldenCase& c : golden_cases()) {
    SCOPED_TRACE(describe(c));
    for (const CpuPath path : paths()) {
      Sampler sampler(ops(path));
      c.params.top_logprobs = 5;
      const Sampled five = sampler.sample(c.logits, c.row(), 0.5);
      ASSERT_EQ(five.top.size(), 5u);
      for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(five.top[i].token, c.j["logprobs"][i][0].get<int>());
        EXPECT_NEAR(five.top[i].logprob, c.j["logprobs"][i][1].get<double>(), 1e-5);
      }
      const double reference = c.j["logprobs"][0][1].get<double>() -
                               static_cast<double>(c.logits[c.j["logprobs"][0][0].get<std::size_t>()]);
      EXPECT_NEAR(five.logprob, reference + static_cast<double>(c.logits[static_cast<std::size_t>(five.token)]), 1e-5);
      c.params.top_logprobs = 0;
      const Sampled one = sampler.sample(c.logits, c.row(), 0.5);
      EXPECT_TRUE(one.top.empty());
      EXPECT_EQ(one.logprob, five.logprob);
      c.params.top_logprobs = -1;
      EXPECT_EQ(sampler.sample(c.logits, c.row(), 0.5).token, one.token);
    }
  }
}

TEST(Sampler, GreedyTakesTheLowestIdOfTheHighestAfterMaskBiasAndPenalties) {
  for (const CpuPath path : paths()) {
    Sampler sampler(ops(path));
    SamplingParams params;
    params.temperature = 0;
    SampleRow row;
    row.params = &params;
    for (const std::size_t n : {1u, 3u, 31u, 64u, 100u, 4097u}) {
      std::mt19937 random(static_cast<unsigned>(n));
      for (int trial = 0; trial < 50; ++trial) {
        auto logits = normal(n, random());
        const std::size_t a = random() % n, b = random() % n;
        logits[a] = logits[b] = 10;
        ASSERT_EQ(sampler.sample(logits, row).token, static_cast<TokenId>(std::min(a, b))) << name(path);
        const backend::TokenBias bias[] = {{static_cast<TokenId>(a), -20.0f}, {static_cast<TokenId>(b), -20.0f}};
        SampleRow other = row;
        other.bias = bias;
        const std::size_t c = random() % n;
        logits[c] = std::max(logits[c], 5.0f);
        const TokenId second = sampler.sample(logits, other).token;
        ASSERT_TRUE(c == a || c == b || second == static_cast<TokenId>(c));
      }
    }
  }
}

TEST(Sampler, ARowWithoutAFiniteChoiceGivesNoToken) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const CpuPath path : paths()) {
    Sampler sampler(ops(path));
    for (const float temperature : {0.0f, 1.0f}) {
      SamplingParams params;
      params.temperature = temperature;
      params.top_logprobs = 3;
      SampleRow row;
      row.params = &params;
      for (const std::size_t n : {5u, 64u, 333u}) {
        for (std::size_t at = 0; at < n; at += 7) {
          auto logits = normal(n, 1);
          logits[at] = nan;
          EXPECT_EQ(sampler.sample(logits, row).token, -1) << name(path);
          logits[at] = inf;
          EXPECT_EQ(sampler.sample(logits, row).token, -1);
          logits[at] = -inf;
          EXPECT_GE(sampler.sample(logits, row).token, 0);
        }
        EXPECT_EQ(sampler.sample(std::vector<float>(n, -inf), row).token, -1);
        const std::vector<std::uint32_t> none((n + 31) / 32);
        row.mask = none.data();
        EXPECT_EQ(sampler.sample(normal(n, 2), row).token, -1);
        row.mask = nullptr;
      }
    }
  }
}

TEST(Sampler, EveryTableDrawsTheSameTokens) {
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 60; ++trial) {
    const std::size_t n = 1 + random() % 5000;
    const auto logits = normal(n, static_cast<unsigned>(random()), static_cast<float>(trial % 6));
    SamplingParams params;
    params.temperature = 0.1f + static_cast<float>(random() % 30) * 0.1f;
    params.top_p = trial % 3 == 0 ? 0.9f : 1.0f;
    params.top_k = trial % 4 == 0 ? 40 : 0;
    params.min_p = trial % 5 == 0 ? 0.02f : 0.0f;
    params.seed = random();
    params.top_logprobs = 2;
    SampleRow row;
    row.params = &params;
    for (row.position = 0; row.position < 20; ++row.position) {
      Sampler reference(ops(CpuPath::portable));
      const Sampled want = reference.sample(logits, row);
      ASSERT_GE(want.token, 0);
      for (const CpuPath path : paths()) {
        Sampler sampler(ops(path));
        const Sampled got = sampler.sample(logits, row);
        ASSERT_EQ(got.token, want.token) << name(path);
        ASSERT_EQ(got.logprob, want.logprob);
      }
    }
  }
}

TEST(Sampler, FrequenciesFollowTheProbabilities) {
  const std::vector<float> logits{0.0f, 1.0f, 2.0f, -1.0f, 0.5f};
  double total = 0;
  for (const float l : logits) total += std::exp(static_cast<double>(l));
  SamplingParams params;
  params.seed = 11;
  SampleRow row;
  row.params = &params;
  Sampler sampler(ops(best_path()));
  int counts[5] = {};
  constexpr int kDraws = 40000;
  for (row.position = 0; row.position < kDraws; ++row.position) ++counts[sampler.sample(logits, row).token];
  for (std::size_t t = 0; t < 5; ++t) {
    const double p = std::exp(static_cast<double>(logits[t])) / total;
    EXPECT_NEAR(counts[t], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p))) << t;
  }
}

TEST(Sampler, ExtremesOfTheUniformStayInsideWhatIsKept) {
  for (const std::size_t n : {1u, 255u, 256u, 257u, 5000u}) {
    auto logits = normal(n, 5);
    logits.back() = -std::numeric_limits<float>::infinity();         // the last id must never be drawn
    if (n == 1) logits[0] = 0;
    SamplingParams params;
    SampleRow row;
    row.params = &params;
    for (const float top_p : {1.0f, 0.5f, 0.0f}) {
      params.top_p = top_p;
      for (const double u : {0.0, 0.9999999999999999}) {
        Sampler sampler(ops(best_path()));
        const TokenId t = sampler.sample(logits, row, u).token;
        ASSERT_GE(t, 0);
        ASSERT_TRUE(std::isfinite(logits[static_cast<std::size_t>(t)])) << n;
      }
    }
  }
}

}  // namespace
}  // namespace tokenworks::kernels
