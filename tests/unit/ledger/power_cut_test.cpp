// The store on a disk that forgets: a cut at every sync point, at random writes, kills, and faults that pass. Every
// seed is printed by the failure and replays exactly the same workload.
#include <gtest/gtest.h>

#include "simulation.hpp"
#include "support/paths.hpp"

namespace tokenworks::ledger::test {
namespace {

constexpr std::int64_t kMany = 100'000;

TEST(PowerCut, ACutAtEverySyncPointLosesNothingAcknowledged) {
  std::int64_t cuts = 0, recovered = 0;
  const std::uint64_t seeds = tokenworks::test::long_run() ? 60 : 5;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    for (std::int64_t sync = 1; sync < kMany; ++sync) {
      SimulationPlan plan;
      plan.seed = seed;
      plan.cut_at_sync = sync;
      plan.mode = seed % 2 == 0 ? ProgressMode::cadence : ProgressMode::step;
      Simulation simulation(plan);
      ASSERT_EQ(simulation.run(), "") << "seed " << seed << ", cut at sync " << sync;
      recovered += simulation.recovered();
      if (!simulation.reached_the_cut()) break;
      ++cuts;
    }
  }
  RecordProperty("cuts", static_cast<int>(cuts));
  std::printf("seeds 1..%llu: %lld cuts, %lld holds ended by recovery\n", static_cast<unsigned long long>(seeds),
              static_cast<long long>(cuts), static_cast<long long>(recovered));
  EXPECT_GT(cuts, static_cast<std::int64_t>(seeds) * 15);
  EXPECT_GT(recovered, static_cast<std::int64_t>(seeds) * 5);
}

TEST(PowerCut, ACutAtAnyWriteLosesNothingAcknowledged) {
  const std::uint64_t seeds = tokenworks::test::long_run() ? 3000 : 150;
  std::int64_t cuts = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SimulationPlan plan;
    plan.seed = seed;
    plan.cut_at_write = 1 + static_cast<std::int64_t>(seed * 2654435761u % 400);
    Simulation simulation(plan);
    ASSERT_EQ(simulation.run(), "") << "seed " << seed << ", cut at write " << plan.cut_at_write;
    cuts += simulation.reached_the_cut() ? 1 : 0;
  }
  std::printf("seeds 1..%llu: %lld cuts\n", static_cast<unsigned long long>(seeds), static_cast<long long>(cuts));
  EXPECT_GT(cuts, static_cast<std::int64_t>(seeds) / 4);
}

// The harness itself: without syncs the same workloads must be caught losing what they acknowledged.
TEST(PowerCut, APlantedSynchronousOffIsFound) {
  int found = 0;
  std::string first;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SimulationPlan plan;
    plan.seed = seed;
    plan.cut_at_write = 60 + static_cast<std::int64_t>(seed * 7);
    plan.synchronous_off = true;
    const std::string wrong = Simulation(plan).run();
    if (!wrong.empty() && ++found == 1) first = "seed " + std::to_string(seed) + ": " + wrong;
  }
  std::printf("synchronous=OFF found in %d of 40 seeds; %s\n", found, first.c_str());
  EXPECT_GE(found, 10);
}

TEST(Simulation, ManyLivesOfCrashesAndFaultsAgreeWithAPlainModel) {
  const std::uint64_t seeds = tokenworks::test::long_run() ? 10'000 : 120;
  std::int64_t entries = 0, recovered = 0, failures = 0;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SimulationPlan plan;
    plan.seed = seed;
    plan.epochs = 4;
    plan.random_ends = plan.transient_faults = true;
    plan.mode = seed % 2 == 0 ? ProgressMode::cadence : ProgressMode::step;
    Simulation simulation(plan);
    ASSERT_EQ(simulation.run(), "") << "seed " << seed;
    entries += simulation.entries();
    recovered += simulation.recovered();
    failures += simulation.failures();
  }
  std::printf("seeds 1..%llu: %lld entries, %lld holds ended by recovery, %lld failed commits survived\n",
              static_cast<unsigned long long>(seeds), static_cast<long long>(entries),
              static_cast<long long>(recovered), static_cast<long long>(failures));
  EXPECT_GT(recovered, static_cast<std::int64_t>(seeds));
  EXPECT_GT(failures, static_cast<std::int64_t>(seeds));
}

}  // namespace
}  // namespace tokenworks::ledger::test
