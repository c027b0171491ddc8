#pragma once
// Random traces of tenants that compete, and the judge: the largest weighted service gap of any two tenants of a tier over
// any interval in which both were eligible and backlogged in every step, against the bound 2 (G + the most a step can
// charge). Service and backlog are counted from the plans alone, not read from the scheduler.
#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "support/scheduler_driver.hpp"

namespace tokenworks::sim {

struct Arrival {
  int step;
  std::uint32_t tenant;
  std::int32_t prompt, output;
  int cancel_step;                                   // 0: never
};

struct Trace {
  scheduler::Options options;
  std::vector<std::uint32_t> weights;                // [tenant]
  std::vector<Tier> tiers;
  std::vector<std::int64_t> reserved;                // [tenant] tokens a second; what is served out of it does not count
  std::vector<Arrival> arrivals;                     // by step
  int steps = 0;
  bool ample_cache = true;
  double ns_per_row = 0, ns_per_decode = 0;          // what the pretend device takes
};

inline Trace random_trace(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::uint64_t from, std::uint64_t to) { return from + random() % (to - from + 1); };
  Trace t;
  t.options.context_tokens = 4096;
  t.options.rows_max = static_cast<std::int32_t>(pick(32, 512));
  t.options.sequences_max = static_cast<std::int32_t>(pick(4, 64));
  t.options.gap_units = static_cast<std::int64_t>(pick(64, 1024));
  t.options.cache_secret = "secret";
  t.ample_cache = random() % 3 != 0;
  t.options.kv_blocks = t.ample_cache ? 16'500 : static_cast<std::int32_t>(pick(256, 600));
  t.ns_per_row = static_cast<double>(pick(20'000, 400'000));
  t.ns_per_decode = static_cast<double>(pick(20'000, 400'000));
  const std::size_t tenants = pick(2, 6);
  const bool mixed_tiers = random() % 3 == 0;
  const bool reserving = random() % 4 == 0;
  t.steps = 600;
  for (std::uint32_t n = 0; n < tenants; ++n) {
    t.weights.push_back(static_cast<std::uint32_t>(pick(1, 4)));
    t.tiers.push_back(mixed_tiers ? static_cast<Tier>(random() % 3) : Tier::standard);
    t.reserved.push_back(reserving && random() % 2 == 0 ? static_cast<std::int64_t>(pick(50, 2000)) : 0);
    const std::uint64_t kind = n == 0 ? 0 : random() % 4;
    const auto add = [&](int step, std::uint64_t longest, std::uint64_t output) {
      Arrival a{step, n, static_cast<std::int32_t>(pick(1, longest)), static_cast<std::int32_t>(pick(1, output)), 0};
      if (random() % 8 == 0) a.cancel_step = step + static_cast<int>(pick(0, 200));
      t.arrivals.push_back(a);
    };
    switch (kind) {
      case 0:                                        // floods with long prompts
        for (int i = 0; i < 60; ++i) add(static_cast<int>(pick(0, 100)), 3000, 200);
        break;
      case 1:                                        // many chats at once
        for (int i = 0; i < 150; ++i) add(static_cast<int>(pick(0, 400)), 300, 100);
        break;
      case 2:                                        // bursts
        for (int burst = 0; burst < 6; ++burst) {
          const int at = static_cast<int>(pick(0, 500));
          for (int i = 0; i < 20; ++i) add(at, 1000, 60);
        }
        break;
      default:                                       // a steady trickle
        for (int i = 0; i < 40; ++i) add(15 * i, 800, 150);
    }
  }
  std::stable_sort(t.arrivals.begin(), t.arrivals.end(), [](const Arrival& a, const Arrival& b) { return a.step < b.step; });
  if (seed % 4 == 0) {                               // an operator's own cost units
    t.options.units = {static_cast<std::int64_t>(pick(50'000, 4'000'000)), static_cast<std::int64_t>(pick(0, 300'000)),
                       static_cast<std::int64_t>(pick(50'000, 8'000'000))};
  }
  return t;
}

enum class Rule { fair, fifo, counters_only };       // counters_only: VTC without the gap rule (G endless)

struct Verdict {
  double worst_ratio = 0;                            // gap / bound, over pairs and intervals
  double worst_gap = 0;
  std::int64_t pair_steps = 0;                       // steps in which some pair was compared
  std::int64_t idle_budget_steps = 0;                // a tenant was left work and the step still had room for all of it
  bool finished = true;
};

inline Verdict judge(const Trace& trace, Rule rule) {
  scheduler::Options options = trace.options;
  if (rule == Rule::counters_only) options.gap_units = 1'000'000'000;
  test::SchedulerDriver driver(options, false);
  std::mt19937_64 random(1);
  struct Pair {
    bool open = false;
    double difference = 0, lowest = 0, highest = 0, bound = 0;
  };
  const std::size_t tenants = trace.weights.size();
  std::vector<Pair> pairs(tenants * tenants);
  std::map<std::size_t, std::pair<scheduler::Handle, std::uint64_t>> handles;
  std::vector<std::vector<std::size_t>> cancels(static_cast<std::size_t>(trace.steps) + 1000);
  Verdict verdict;
  std::size_t next = 0;
  for (int step = 0; step < trace.steps; ++step) {
    for (; next < trace.arrivals.size() && trace.arrivals[next].step <= step; ++next) {
      const Arrival& a = trace.arrivals[next];
      const std::uint32_t shown = rule == Rule::fifo ? 0 : a.tenant;
      std::vector<TokenId> prompt(static_cast<std::size_t>(a.prompt));
      for (TokenId& token : prompt) token = static_cast<TokenId>(random() % 30'000);
      const auto h = driver.add(a.tenant, rule == Rule::fifo ? 1 : trace.weights[a.tenant],
                                rule == Rule::fifo ? Tier::standard : trace.tiers[a.tenant], std::move(prompt), a.output,
                                scheduler::kNoHandle, 0, shown, rule == Rule::fifo ? 0 : trace.reserved[a.tenant]);
      handles[next] = {h, driver.live().at(h).id};
      if (a.cancel_step > 0) cancels[static_cast<std::size_t>(a.cancel_step)].push_back(next);
    }
    for (const std::size_t n : cancels[static_cast<std::size_t>(step)]) {
      const auto found = handles.find(n);
      if (found == handles.end()) continue;
      const auto live = driver.live().find(found->second.first);
      if (live != driver.live().end() && live->second.id == found->second.second) driver.cancel(found->second.first);
    }
    std::vector<bool> backlogged(tenants, false);
    const auto takes = [&](const scheduler::StepPlan& plan) {
      return static_cast<std::int64_t>(1e6 + trace.ns_per_row * plan.prefill_tokens + trace.ns_per_decode * plan.decode_tokens);
    };
    // Backlog is judged between plan and commit: `takes` runs there, but sequences end in the commit only.
    driver.on_planned = [&] {
      for (auto& [h, live] : driver.live()) {
        if (driver.left_work(live)) backlogged[live.tenant] = true;
      }
      if (trace.ample_cache) return;
      for (std::size_t n = 0; n < tenants; ++n) {    // whether a waiting head fits the cache only the scheduler knows
        const bool says = rule == Rule::fifo ? driver.scheduler().backlogged(0, Tier::standard)
                                             : driver.scheduler().backlogged(static_cast<std::uint32_t>(n), trace.tiers[n]);
        backlogged[n] = backlogged[n] && says;
      }
    };
    driver.step(random, takes);
    const double budget = static_cast<double>(driver.scheduler().stats().step_budget);
    const scheduler::CostUnits& u = trace.options.units;
    const double most = budget * static_cast<double>(u.uncached_micro) + static_cast<double>(u.output_micro * trace.options.sequences_max) +
                        static_cast<double>(u.cached_micro * trace.options.context_tokens);
    const double bound = 2 * (static_cast<double>(trace.options.gap_units) + most / 1e6);
    for (std::size_t i = 0; i < tenants; ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        Pair& pair = pairs[i * tenants + j];
        if (!backlogged[i] || !backlogged[j] || trace.tiers[i] != trace.tiers[j]) {
          pair.open = false;
          continue;
        }
        if (!pair.open) pair = {.open = true, .bound = bound};
        const auto got = [&](std::size_t n) {
          const auto w = driver.work().find(static_cast<std::uint32_t>(n));
          return w == driver.work().end() ? 0.0 : w->second / trace.weights[n];
        };
        pair.bound = std::max(pair.bound, bound);
        pair.difference += got(i) - got(j);
        pair.lowest = std::min(pair.lowest, pair.difference);
        pair.highest = std::max(pair.highest, pair.difference);
        const double gap = pair.highest - pair.lowest;
        verdict.worst_gap = std::max(verdict.worst_gap, gap);
        verdict.worst_ratio = std::max(verdict.worst_ratio, gap / pair.bound);
        ++verdict.pair_steps;
      }
    }
  }
  return verdict;
}

}  // namespace tokenworks::sim
