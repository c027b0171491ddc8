// Random lives over thousands of seeds, every step checked from the outside (tests/support/scheduler_driver.hpp) and the
// scheduler's own books audited.
#include <gtest/gtest.h>

#include "support/paths.hpp"
#include "support/scheduler_driver.hpp"

namespace tokenworks::scheduler {
namespace {

using test::SchedulerDriver;

std::vector<TokenId> random_prompt(std::mt19937_64& random, std::size_t most) {
  static const std::vector<TokenId> kShared = [] {   // half of the prompts begin alike, in every tenant
    std::vector<TokenId> tokens;
    for (TokenId t = 0; t < 2048; ++t) tokens.push_back(1 + t % 7);
    return tokens;
  }();
  std::vector<TokenId> prompt;
  if (random() % 2 == 0) prompt.assign(kShared.begin(), kShared.begin() + static_cast<long>(random() % most));
  const std::size_t own = 1 + random() % most;
  while (prompt.size() < own) prompt.push_back(1 + static_cast<TokenId>(random() % 3));
  if (prompt.size() > most) prompt.resize(most);
  return prompt;
}

Options random_options(std::mt19937_64& random) {
  Options options;
  options.kv_blocks = 4 + static_cast<std::int32_t>(random() % (random() % 4 == 0 ? 200 : 40));
  options.context_tokens = options.kv_blocks * 16;
  options.rows_max = 8 + static_cast<std::int32_t>(random() % 120);
  options.sequences_max = 1 + static_cast<std::int32_t>(random() % 16);
  options.prefix_cache = random() % 4 != 0;
  options.cache_secret = "secret";
  options.hash_bits = random() % 3 == 0 ? 2 : 128;
  if (random() % 2 == 0) {
    options.swap_slots = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(2 * options.kv_blocks));
    options.swap_move_ns = static_cast<double>(random() % 3) * 1e6;   // quicker than computing, about as quick, or not
  }
  return options;
}

std::int64_t g_swapped_in = 0;                       // blocks, over all lives

void random_life(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const Options options = random_options(random);
  SchedulerDriver driver(options);
  const auto most = static_cast<std::size_t>(options.kv_blocks * 16 / 2);
  const std::uint32_t tenants = 1 + random() % 5;
  const std::uint64_t arrivals = 5 + random() % 40;
  std::int64_t added = 0;
  int steps = 0;
  const bool reservations = random() % 3 == 0, drafts = random() % 3 == 0;
  const auto checked = [&](int every) {              // the audit looks at everything: not in every step
    if (++steps % every != 0) return;
    const std::string broken = driver.scheduler().audit();
    SchedulerDriver::require(broken.empty(), broken);
  };
  for (int step = 0; step < 80; ++step) {
    while (random() % 100 < arrivals) {
      const auto tenant = static_cast<std::uint32_t>(random() % tenants);
      const auto tier = static_cast<Tier>(random() % 3);
      const auto prompt = random_prompt(random, most);
      const auto output = static_cast<std::int64_t>(1 + random() % std::min<std::size_t>(most, 60));
      const std::int64_t deadline = random() % 10 == 0 ? driver.now() + static_cast<std::int64_t>(random() % 50'000'000) : 0;
      const Handle leader = driver.add(tenant, 1 + tenant, tier, prompt, output, kNoHandle, deadline, ~0u,
                                       reservations ? tenant * static_cast<std::int64_t>(random() % 2000) : 0);
      ++added;
      if (random() % 5 != 0) continue;
      for (std::uint64_t n = random() % 4; n > 0; --n, ++added) {
        driver.add(tenant, 1 + tenant, tier, prompt, output, leader, deadline);
      }
    }
    while (!driver.live().empty() && random() % 100 < 15) {
      auto any = driver.live().begin();
      std::advance(any, static_cast<long>(random() % driver.live().size()));
      driver.cancel(any->first);
    }
    if (random() % 3 == 0) driver.resume_all();
    if (drafts) driver.propose(random, 1 + random() % 6, 700);
    driver.step(random, 30, 10, random() % 2 == 0 ? 0 : static_cast<std::int64_t>(random() % 60'000'000));
    checked(4);
  }
  // No more arrivals: everything comes to its end, and nothing that can run waits for nothing.
  for (int step = 0; !driver.live().empty(); ++step) {
    driver.resume_all();
    if (drafts) driver.propose(random, 1 + random() % 6, 700);
    SchedulerDriver::require(driver.step(random) || driver.live().empty(), "nothing was planned although sequences can run");
    checked(32);
    SchedulerDriver::require(step < 40'000, "sequences do not end");
  }
  SchedulerDriver::require(driver.finished() == added, "sequences and ends do not balance");
  SchedulerDriver::require(driver.scheduler().empty(), "not empty in the end");
  const Stats stats = driver.scheduler().stats();
  SchedulerDriver::require(stats.blocks_used == 0, "blocks stay in use after the last sequence");
  SchedulerDriver::require(stats.blocks_cached + stats.blocks_free == options.kv_blocks, "blocks were lost");
  SchedulerDriver::require(stats.swap_used == 0 && stats.swap_free == options.swap_slots, "host memory stays in use");
  (void)driver.step(random);
  SchedulerDriver::require(driver.host_is_clean(), "content stays in host memory");
  g_swapped_in += stats.swapped_in;
  if (!options.prefix_cache) SchedulerDriver::require(stats.blocks_cached == 0, "cached without a prefix cache");
}

TEST(SchedulerInvariants, HoldThroughRandomLives) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::uint64_t kSeeds = 200;
#else
  constexpr std::uint64_t kSeeds = 2'000;
#endif
  const std::uint64_t seeds = test::long_run() ? 30'000 : kSeeds;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    try {
      random_life(seed);
    } catch (const std::exception& broken) {
      FAIL() << "seed " << seed << ": " << broken.what();
    }
  }
  EXPECT_GT(g_swapped_in, static_cast<std::int64_t>(seeds));   // it did happen
}

}  // namespace
}  // namespace tokenworks::scheduler
