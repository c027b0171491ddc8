#include <gtest/gtest.h>

#include <cstdio>

#include "fairness_trace.hpp"
#include "support/paths.hpp"

namespace tokenworks::sim {
namespace {

TEST(Fairness, NoTwoBackloggedTenantsDriftApartBeyondTheBoundAndFifoLetsThem) {
  const std::uint64_t seeds = test::long_run() ? 10'000 : 500;
  std::int64_t compared = 0, fifo_compared = 0;
  std::uint64_t fifo_breaks = 0, counters_break = 0, with_pairs = 0;
  double worst = 0, fifo_worst = 0, counters_worst = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    const Trace trace = random_trace(seed);
    Verdict fair, fifo, counters;
    try {
      fair = judge(trace, Rule::fair);
      fifo = judge(trace, Rule::fifo);
      counters = judge(trace, Rule::counters_only);
    } catch (const std::exception& broken) {
      FAIL() << "seed " << seed << ": " << broken.what();
    }
    ASSERT_LE(fair.worst_ratio, 1.0) << "seed " << seed << ": a gap of " << fair.worst_gap << " units";
    compared += fair.pair_steps;
    fifo_compared += fifo.pair_steps;
    with_pairs += fair.pair_steps > 50;
    fifo_breaks += fifo.worst_ratio > 1.0;
    counters_break += counters.worst_ratio > 1.0;
    worst = std::max(worst, fair.worst_ratio);
    fifo_worst = std::max(fifo_worst, fifo.worst_ratio);
    counters_worst = std::max(counters_worst, counters.worst_ratio);
  }
  std::printf("fairness: %llu seeds, %llu with backlogged pairs, %lld pair steps; gap / bound: ours %.3f, counters without "
              "the gap rule %.3f (%llu traces over), fifo %.2f (%llu traces over, %lld pair steps)\n",
              static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(with_pairs),
              static_cast<long long>(compared), worst, counters_worst, static_cast<unsigned long long>(counters_break),
              fifo_worst, static_cast<unsigned long long>(fifo_breaks), static_cast<long long>(fifo_compared));
  EXPECT_GT(with_pairs, seeds / 4);                  // the traces do make tenants compete
  EXPECT_GT(fifo_breaks, seeds / 10);                // and would show an unfair scheduler
  EXPECT_GT(counters_break, 0u);                     // counters alone, without the gap rule, are not enough either
}

}  // namespace
}  // namespace tokenworks::sim
