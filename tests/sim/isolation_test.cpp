// A tenant alone, then beside one that sends fifty times its requests, each of 4,000 tokens. In the pretend device's time.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "support/scheduler_driver.hpp"

namespace tokenworks::sim {
namespace {

struct Seen {
  double ttft_p50_ms = 0, ttft_p99_ms = 0, tokens_per_second = 0, aggressor_units_share = 0;
  std::size_t answered = 0;
};

Seen run(bool aggressor, std::int32_t kv_blocks, std::uint64_t seed) {
  scheduler::Options options;
  options.kv_blocks = kv_blocks;
  options.context_tokens = 8192;
  options.rows_max = 512;
  options.sequences_max = 64;
  options.cache_secret = "secret";
  test::SchedulerDriver driver(options, false);
  std::mt19937_64 random(seed);
  std::vector<double> ttft_ms;
  std::int64_t victim_tokens = 0;
  driver.on_token = [&](const test::SchedulerDriver::Live& live) {
    if (live.tenant != 0) return;
    ++victim_tokens;
    if (live.tokens.size() == live.prompt + 1) ttft_ms.push_back(static_cast<double>(driver.now() - live.added_ns) / 1e6);
  };
  const auto takes = [](const scheduler::StepPlan& p) {
    return static_cast<std::int64_t>(1e6 + 1e5 * p.prefill_tokens + 2e5 * p.decode_tokens);
  };
  const auto prompt = [&](std::size_t length) {
    std::vector<TokenId> tokens(length);
    for (TokenId& t : tokens) t = static_cast<TokenId>(random() % 30'000);
    return tokens;
  };
  const std::int64_t start = driver.now(), until = start + 120'000'000'000;
  std::int64_t next_victim = start + 2'000'000'000, next_aggressor = start;
  double units = 0, aggressor_units = 0;
  while (driver.now() < until) {
    for (; next_victim <= driver.now(); next_victim += 300'000'000 + static_cast<std::int64_t>(random() % 200'000'000)) {
      driver.add(0, 1, Tier::standard, prompt(100 + random() % 200), 64);
    }
    for (; aggressor && next_aggressor <= driver.now(); next_aggressor += 8'000'000) {
      if (driver.live().size() < 500) driver.add(1, 1, Tier::standard, prompt(4000), 64);   // its own queue is bounded
    }
    if (!driver.step(random, takes)) driver.pass_ns(1'000'000);
    for (const auto& [tenant, u] : driver.work()) units += u, aggressor_units += tenant == 1 ? u : 0;
  }
  Seen seen;
  std::sort(ttft_ms.begin(), ttft_ms.end());
  seen.answered = ttft_ms.size();
  seen.ttft_p50_ms = ttft_ms[ttft_ms.size() / 2];
  seen.ttft_p99_ms = ttft_ms[ttft_ms.size() * 99 / 100];
  seen.tokens_per_second = static_cast<double>(victim_tokens) / 120;
  seen.aggressor_units_share = aggressor_units / units;
  return seen;
}

TEST(Isolation, AnAggressorOfFiftyTimesTheLoadCostsAVictimLittle) {
  for (const auto& [kv_blocks, seed] : {std::pair{4096, 3u}, {4096, 7u}, {4096, 9u}, {1024, 3u}, {1024, 9u}}) {
    const Seen alone = run(false, kv_blocks, seed), beside = run(true, kv_blocks, seed);
    std::printf("isolation, %d blocks: TTFT p50 %.1f -> %.1f ms, p99 %.1f -> %.1f ms (%.2fx); victim %.1f -> %.1f tokens/s; "
                "aggressor has %.0f %% of the service\n",
                kv_blocks, alone.ttft_p50_ms, beside.ttft_p50_ms, alone.ttft_p99_ms, beside.ttft_p99_ms,
                beside.ttft_p99_ms / alone.ttft_p99_ms, alone.tokens_per_second, beside.tokens_per_second,
                100 * beside.aggressor_units_share);
    EXPECT_LE(beside.ttft_p99_ms, 2.5 * alone.ttft_p99_ms);
    EXPECT_GE(beside.tokens_per_second, 0.9 * alone.tokens_per_second);   // its demand is far below half of the machine
    EXPECT_GT(beside.aggressor_units_share, 0.5);    // and what it leaves is not wasted
  }
}

// The shares of the service of a victim that could use more than its share, of an aggressor, and of a batch tenant.
struct Shares {
  double victim = 0, aggressor = 0, batch = 0;
};

Shares shares(std::uint32_t victim_weight, std::uint32_t aggressor_weight, bool fifo) {
  scheduler::Options options;
  options.kv_blocks = 4096;
  options.context_tokens = 8192;
  options.cache_secret = "secret";
  test::SchedulerDriver driver(options, false);
  std::mt19937_64 random(5);
  const auto takes = [](const scheduler::StepPlan& p) {
    return static_cast<std::int64_t>(1e6 + 1e5 * p.prefill_tokens + 2e5 * p.decode_tokens);
  };
  std::array<double, 3> units{};
  const std::int64_t until = driver.now() + 90'000'000'000, warm = driver.now() + 10'000'000'000;
  while (driver.now() < until) {
    std::array<int, 3> live{};
    for (const auto& [h, l] : driver.live()) ++live[l.tenant];
    const auto fill = [&](std::uint32_t tenant, int most, std::uint32_t weight, Tier tier, std::size_t length) {
      for (; live[tenant] < most; ++live[tenant]) {
        std::vector<TokenId> prompt(length / 2 + random() % length);
        for (TokenId& t : prompt) t = static_cast<TokenId>(random() % 30'000);
        driver.add(tenant, fifo ? 1 : weight, fifo ? Tier::standard : tier, std::move(prompt), 64, scheduler::kNoHandle, 0, fifo ? 0 : ~0u);
      }
    };
    fill(1, 600, aggressor_weight, Tier::standard, 4000);
    fill(0, 60, victim_weight, Tier::standard, 200);
    fill(2, 40, 1, Tier::batch, 1000);
    driver.step(random, takes);
    if (driver.now() < warm) continue;
    for (const auto& [tenant, u] : driver.work()) units[tenant] += u;
  }
  const double all = units[0] + units[1] + units[2];
  return {units[0] / all, units[1] / all, units[2] / all};
}

TEST(Isolation, AVictimThatCouldUseMoreHasItsWeightedShareAndBatchWorkGoesOn) {
  for (const auto& [victim, aggressor] : {std::pair{1u, 1u}, {1u, 4u}, {3u, 1u}}) {
    const Shares fair = shares(victim, aggressor, false), fifo = shares(victim, aggressor, true);
    const double due = 76.0 / 96 * victim / (victim + aggressor);   // standard : batch is 76 : 20
    std::printf("shares at weights %u : %u: victim %.3f of a due %.3f (FIFO %.3f), aggressor %.3f, batch %.3f (FIFO %.3f)\n", victim,
                aggressor, fair.victim, due, fifo.victim, fair.aggressor, fair.batch, fifo.batch);
    EXPECT_GE(fair.victim, 0.9 * due);
    EXPECT_GE(fair.batch, 0.0499);
    EXPECT_LT(fifo.victim, 0.5 * fair.victim);
  }
}

}  // namespace
}  // namespace tokenworks::sim
