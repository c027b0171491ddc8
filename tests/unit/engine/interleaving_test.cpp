// Whatever else is in the batch: random prompts, sizes, tenants, choices, cancels, extensions, a tiny cache that forces
// preemption, prefix hits. Every request's output must be what its own tokens give.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "collector.hpp"
#include "support/paths.hpp"

namespace tokenworks::engine {
namespace {

struct Job {
  std::vector<TokenId> prompt;
  std::uint64_t seed = 0;
  std::uint32_t choices = 1;
  std::int64_t max_tokens = 1;
  bool extendable = false, cancelled = false;
  std::unique_ptr<Collector> collector;
};

void check(Job& job) {
  for (std::uint32_t i = 0; i < job.choices; ++i) {
    const auto expected = test::expected_output(job.prompt, job.max_tokens, job.seed, i);
    const auto& got = job.collector->tokens(i);
    const Finish finish = job.collector->finish(i);
    if (finish == Finish::cancelled) {
      ASSERT_TRUE(job.cancelled);
      ASSERT_LE(got.size(), expected.size());
      ASSERT_TRUE(std::equal(got.begin(), got.end(), expected.begin()));
    } else {
      ASSERT_EQ(got, expected);
      ASSERT_EQ(finish, expected.back() == test::kStopToken ? Finish::stop : Finish::length);
    }
  }
}

struct Trouble {                                     // what the run went through: a test of calm seas proves little
  std::int64_t preemptions = 0, hits = 0, cancelled = 0, drafts = 0, drafts_kept = 0, swapped_in = 0, overlapped = 0, discarded = 0;
};

void interleave(std::uint64_t seed, int requests, Trouble& met) {
  std::mt19937_64 random(seed);
  EngineOptions options;
  options.cache_secret = "secret";
  options.prefix_cache = random() % 4 != 0;
  options.speculation = random() % 2 == 0;
  options.step_target_ns = 5'000'000 + static_cast<std::int64_t>(random() % 100'000'000);
  test::FakeRunner::Shape shape;
  shape.kv_blocks = 14 + static_cast<std::int32_t>(random() % 30);
  shape.context_tokens = 200;
  shape.rows_max = 16 + static_cast<std::int32_t>(random() % 64);
  shape.sequences_max = 2 + static_cast<std::int32_t>(random() % 16);
  shape.swap_slots = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 6 : 60;
  Rig rig(shape, options);
  std::vector<std::vector<TokenId>> openings;
  for (int i = 0; i < 4; ++i) {
    openings.emplace_back();
    for (int k = 0; k < 90; ++k) openings.back().push_back(10 + static_cast<TokenId>(random() % 900));
  }
  std::vector<Job> jobs(static_cast<std::size_t>(requests));
  std::size_t oldest = 0;
  const std::size_t in_flight = random() % 2 == 0 ? 40 : 2;   // a few alone get drafts
  for (std::size_t n = 0; n < jobs.size(); ++n) {
    Job& job = jobs[n];
    const auto& opening = openings[random() % 4];
    job.prompt.assign(opening.begin(), opening.begin() + static_cast<long>(1 + random() % 90));
    for (std::uint64_t k = random() % 30; k > 0; --k) job.prompt.push_back(10 + static_cast<TokenId>(random() % 900));
    if (random() % 3 == 0) job.prompt.front() = test::kCopyPrompt;
    job.seed = random() % 3;
    job.choices = random() % 6 == 0 ? 3 : 1;
    job.max_tokens = static_cast<std::int64_t>(1 + random() % 70);
    job.extendable = random() % 5 == 0;
    job.collector = std::make_unique<Collector>(job.choices);
    Sequence s = sequence(job.prompt, job.max_tokens, job.seed);
    s.choices = job.choices;
    s.extendable = job.extendable;
    const auto ticket_tokens = job.extendable ? static_cast<std::int64_t>(1 + random() % 20) : job.max_tokens;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(n), static_cast<std::uint32_t>(random() % 3), ticket_tokens,
                                                       1 + static_cast<std::uint32_t>(random() % 3),
                                                       static_cast<Tier>(random() % 3)),
                                   std::move(s), job.collector->stream()));
    if (job.extendable) rig.engine->extend(request_id(n), job.max_tokens, true);
    if (random() % 6 == 0) {
      const std::size_t target = n - random() % std::min<std::size_t>(n + 1, 12);
      jobs[target].cancelled = true;
      rig.engine->cancel(request_id(target));
    }
    while (n - oldest > in_flight) {
      jobs[oldest].collector->wait();
      check(jobs[oldest++]);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  for (; oldest < jobs.size(); ++oldest) {
    jobs[oldest].collector->wait();
    check(jobs[oldest]);
    if (testing::Test::HasFatalFailure()) return;
  }
  rig.settle();
  const EngineStatus status = rig.engine->status();
  EXPECT_EQ(rig.controls->violations, 0);
  EXPECT_EQ(status.kv_blocks_used, 0);
  EXPECT_EQ(status.kv_blocks_free + status.kv_blocks_cached, shape.kv_blocks);
  EXPECT_EQ(status.swap_blocks_used, 0);
  EXPECT_EQ(status.swap_blocks_free, shape.swap_slots);
  met.preemptions += status.preemptions;
  met.swapped_in += status.swapped_in;
  met.hits += status.prefix_hit_tokens;
  met.drafts += status.draft_tokens;
  met.drafts_kept += status.draft_tokens_kept;
  met.overlapped += status.steps_overlapped;
  met.discarded += status.rows_discarded;
  for (const Job& job : jobs) met.cancelled += job.collector->finish() == Finish::cancelled;
}

TEST(EngineInterleaving, AThousandRequestsGiveWhatTheyGiveAlone) {
  const std::uint64_t seeds = test::long_run() ? 1000 : 40;
  Trouble met;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    interleave(seed, 100, met);
    if (HasFailure()) return;
  }
  EXPECT_GT(met.preemptions, 20);
  EXPECT_GT(met.swapped_in, 20);
  EXPECT_GT(met.hits, 1000);
  EXPECT_GT(met.drafts_kept, 1000);
  EXPECT_GT(met.drafts - met.drafts_kept, 200);      // and wrong ones, that left no trace
  EXPECT_GT(met.cancelled, 10);
  EXPECT_GE(met.overlapped, test::overlap_by_default ? 200 : 0);
  EXPECT_GE(met.discarded, test::overlap_by_default ? 10 : 0);
}

}  // namespace
}  // namespace tokenworks::engine
