// The order of a device against that of a processor: the same random requests through an engine whose runner overlaps steps
// and through one whose runner does not must give the same tokens, the same finishes and the same usage, so the same charge.
// And the single things that can go wrong with one step under way.
#include <gtest/gtest.h>

#include <cstdio>
#include <thread>

#include "collector.hpp"
#include "support/paths.hpp"

namespace tokenworks::engine {
namespace {

using test::expected_output;

// Allows every token but the one before, so each mask needs the token of the step before.
class NoRepeat final : public Constraint {
 public:
  NoRepeat() : mask_((test::kVocab + 31) / 32, ~0u) {}
  const std::uint32_t* mask() override {
    std::fill(mask_.begin(), mask_.end(), ~0u);
    if (last_ >= 0) mask_[static_cast<std::size_t>(last_ / 32)] &= ~(1u << last_ % 32);
    return mask_.data();
  }
  void accept(TokenId token) override {
    EXPECT_NE(token, last_);
    last_ = token;
    ++accepted_;
  }
  bool finished() const override { return accepted_ >= 25; }

 private:
  std::vector<std::uint32_t> mask_;
  TokenId last_ = -1;
  int accepted_ = 0;
};

// What a request came to: what the gateway bills is counted from these events and from nothing else.
struct Ended {
  std::vector<TokenId> tokens;
  Finish finish = Finish::running;
  std::int64_t charge = 0;                           // at 3 a prompt token and 7 an output token
  bool operator==(const Ended&) const = default;
};

struct Met {
  std::int64_t overlapped = 0, discarded = 0, preemptions = 0, steps = 0;
};

// One request of the workload, the same for both engines.
Sequence request_of(std::mt19937_64& random, std::int64_t& ticket_tokens) {
  Sequence s = sequence(prompt_of(random(), 1 + random() % 90), static_cast<std::int64_t>(1 + random() % 60), random() % 3);
  s.choices = random() % 5 == 0 ? 3 : 1;
  if (random() % 30 == 0) s.prompt.front() = test::kNanPrompt;
  s.ignore_eos = random() % 4 == 0;
  if (random() % 4 == 0) s.stop_tokens = {expected_output(s.prompt, 8, s.sampling.seed, 0, true).back()};
  if (random() % 6 == 0) s.sampling.frequency_penalty = 0.5f;
  if (random() % 6 == 0) s.bias = {{static_cast<TokenId>(random() % 900), 100.0f}};
  if (random() % 8 == 0) s.sampling.top_logprobs = 2;
  if (random() % 8 == 0) {
    for (std::uint32_t i = 0; i < s.choices; ++i) s.constraints.push_back(std::make_shared<NoRepeat>());
  }
  s.score_prompt = random() % 12 == 0;
  s.extendable = random() % 5 == 0;
  ticket_tokens = random() % 3 == 0 ? static_cast<std::int64_t>(1 + random() % 20) : s.max_tokens;
  return s;
}

// The whole workload through one engine. What is cancelled ends where it ends: its tokens are checked against what it would
// have said, and left out of the comparison.
std::vector<Ended> run(std::uint64_t seed, bool overlaps, Met& met) {
  std::mt19937_64 random(seed);
  EngineOptions options;
  options.prefix_cache = random() % 2 == 0;
  options.cache_secret = "secret";
  options.speculation = random() % 4 == 0;
  options.step_target_ns = 5'000'000 + static_cast<std::int64_t>(random() % 100'000'000);
  test::FakeRunner::Shape shape;
  shape.kv_blocks = 12 + static_cast<std::int32_t>(random() % 40);
  shape.context_tokens = 180;
  shape.rows_max = 16 + static_cast<std::int32_t>(random() % 64);
  shape.sequences_max = 2 + static_cast<std::int32_t>(random() % 16);
  shape.swap_slots = random() % 2 == 0 ? 0 : static_cast<std::int32_t>(random() % 40);
  shape.overlaps = overlaps;
  Rig rig(shape, options);
  struct Job {
    std::vector<TokenId> prompt;
    std::uint32_t choices;
    bool plain, cancelled = false;
    std::int64_t most;
    std::uint64_t seed;
    std::unique_ptr<Collector> collector;
  };
  std::vector<Job> jobs;
  for (std::uint64_t n = 0; n < 40; ++n) {
    std::int64_t ticket_tokens = 0;
    Sequence s = request_of(random, ticket_tokens);
    const bool plain = s.constraints.empty() && s.bias.empty() && s.prompt.front() != test::kNanPrompt;
    jobs.push_back({s.prompt, s.choices, plain, false, s.max_tokens, s.sampling.seed, std::make_unique<Collector>(s.choices)});
    const bool extends = s.extendable;
    const auto more = static_cast<std::int64_t>(random() % 60);
    const auto ticket = [&] {
      return TicketForTest::make(request_id(n), static_cast<std::uint32_t>(random() % 3), ticket_tokens,
                                 1 + static_cast<std::uint32_t>(random() % 3), static_cast<Tier>(random() % 3));
    };
    EXPECT_TRUE(rig.engine->submit(ticket(), std::move(s), jobs.back().collector->stream()));
    if (extends) {
      rig.engine->extend(request_id(n), ticket_tokens + more / 2, false);
      rig.engine->extend(request_id(n), ticket_tokens + more, true);
    }
    if (random() % 6 == 0) {
      const std::uint64_t target = n - random() % std::min<std::uint64_t>(n + 1, 6);
      jobs[target].cancelled = true;
      rig.engine->cancel(request_id(target));
    }
    if (random() % 10 == 0) jobs[random() % jobs.size()].collector->wait(3);
  }
  std::vector<Ended> all;
  for (Job& job : jobs) {
    job.collector->wait();
    if (testing::Test::HasFatalFailure()) return all;
    for (std::uint32_t i = 0; i < job.choices; ++i) {
      const auto& tokens = job.collector->tokens(i);
      Ended e{tokens, job.collector->finish(i), 0};
      if (job.cancelled) {
        const auto alone = expected_output(job.prompt, job.most, job.seed, i, true);
        const bool begins = tokens.size() <= alone.size() && std::equal(tokens.begin(), tokens.end(), alone.begin());
        EXPECT_TRUE(begins || !job.plain);
        continue;
      }
      e.charge = 3 * static_cast<std::int64_t>(job.prompt.size()) + 7 * static_cast<std::int64_t>(tokens.size());
      all.push_back(std::move(e));
    }
  }
  rig.settle();
  const EngineStatus status = rig.engine->status();
  EXPECT_EQ(rig.controls->violations, 0);
  EXPECT_EQ(status.kv_blocks_free + status.kv_blocks_cached, shape.kv_blocks);
  if (!overlaps) {
    EXPECT_EQ(status.steps_overlapped + status.rows_discarded, 0);
  }
  met.overlapped += status.steps_overlapped;
  met.discarded += status.rows_discarded;
  met.preemptions += status.preemptions;
  met.steps += status.steps;
  return all;
}

TEST(EngineOverlap, TokensFinishesAndChargesAreThoseOfTheSynchronousOrder) {
  const std::uint64_t seeds = test::long_run() ? 2000 : 60;
  Met met, sync;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto expected = run(seed, false, sync), found = run(seed, true, met);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].tokens, expected[i].tokens) << "choice " << i;
      EXPECT_EQ(found[i].finish, expected[i].finish) << "choice " << i;
      EXPECT_EQ(found[i].charge, expected[i].charge) << "choice " << i;
    }
    if (HasFailure()) return;
  }
  std::printf("[ measured ] %lld of %lld steps overlapped, %lld rows discarded, %lld preemptions\n",
              static_cast<long long>(met.overlapped), static_cast<long long>(met.steps), static_cast<long long>(met.discarded),
              static_cast<long long>(met.preemptions));
  EXPECT_GT(met.overlapped, static_cast<std::int64_t>(5 * seeds));
  EXPECT_GT(met.discarded, static_cast<std::int64_t>(seeds / 4));
  EXPECT_GT(met.preemptions, static_cast<std::int64_t>(seeds / 4));
}

// Until every step that was launched has been taken, the last one with its discarded rows too.
void settle(Rig& rig) {
  rig.settle();
  rig.until([&](const EngineStatus& s) { return s.steps == rig.controls->launches; });
}

test::FakeRunner::Shape overlapping() {
  test::FakeRunner::Shape shape;
  shape.overlaps = true;
  return shape;
}

// An end that is known beforehand costs no row; the step behind is launched before the tokens of the one before are taken.
TEST(EngineOverlap, AnEndThatIsKnownBeforehandLaunchesNoUselessRow) {
  Rig rig(overlapping());
  Collector c;
  auto s = sequence(prompt_of(1, 20), 30);
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  c.wait();
  settle(rig);
  const EngineStatus status = rig.engine->status();
  EXPECT_EQ(c.tokens(), expected_output(prompt_of(1, 20), 30, 0, 0, true));
  EXPECT_EQ(rig.controls->launches, 30);             // the prompt with the first token, then one token each
  EXPECT_EQ(rig.controls->launched_before_taken, 29);
  EXPECT_EQ(status.steps_overlapped, 29);
  EXPECT_EQ(status.rows_discarded, 0);
  EXPECT_EQ(status.decode_tokens, 29);
  EXPECT_EQ(status.tokens_generated, 30);
}

TEST(EngineOverlap, AStopThatNobodyForesawDiscardsOneRow) {
  Rig rig(overlapping());
  Collector c;
  const auto prompt = prompt_of(5, 40);
  const auto all = expected_output(prompt, 300, 0, 0, true);
  auto s = sequence(prompt, 300);
  s.ignore_eos = true;
  s.stop_tokens = {all[9]};
  const auto stops = std::find(all.begin(), all.end(), all[9]) - all.begin() + 1;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  c.wait();
  settle(rig);
  const EngineStatus status = rig.engine->status();
  EXPECT_EQ(c.tokens(), std::vector<TokenId>(all.begin(), all.begin() + stops));
  EXPECT_EQ(c.finish(), Finish::stop);
  EXPECT_EQ(status.rows_discarded, 1);
  EXPECT_EQ(status.decode_tokens, stops - 1);        // the discarded one is in no count of tokens
  EXPECT_EQ(status.tokens_generated, stops);
}

// Masks and penalties need the token before: such a step is taken before the next is planned.
TEST(EngineOverlap, RowsThatNeedTheHostKeepTheSynchronousOrder) {
  for (const bool penalty : {false, true}) {
    Rig rig(overlapping());
    Collector c, plain;
    auto s = sequence(prompt_of(3, 20), 40);
    s.ignore_eos = true;
    if (penalty) s.sampling.presence_penalty = 0.5f;
    else s.constraints = {std::make_shared<NoRepeat>()};
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
    c.wait();
    EXPECT_EQ(c.tokens().size(), penalty ? 40u : 25u);
    settle(rig);
    EXPECT_EQ(rig.engine->status().steps_overlapped, 0);
    EXPECT_EQ(rig.controls->launched_before_taken, 0);
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), sequence(prompt_of(4, 20), 40), plain.stream()));
    plain.wait();
    EXPECT_EQ(plain.tokens(), expected_output(prompt_of(4, 20), 40));
    EXPECT_GT(rig.controls->launched_before_taken, 0);
  }
}

// A cancelled request's handle goes to the next one while a row of the first is still under way.
TEST(EngineOverlap, ARowUnderWayOfWhatIsGoneIsNobodys) {
  Rig rig(overlapping());
  for (std::uint64_t round = 0; round < 50; ++round) {
    Collector gone, next;
    rig.controls->hold_before_step(rig.controls->steps + 3 + static_cast<int>(round % 4));
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2 * round)), endless(prompt_of(round, 20)), gone.stream()));
    rig.controls->wait_inside();                     // the step is computed, the next one was launched behind it
    rig.engine->cancel(request_id(2 * round));
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2 * round + 1)), sequence(prompt_of(900 + round, 30), 12), next.stream()));
    rig.controls->hold_before_step(-1);
    rig.controls->hold(false);
    gone.wait(), next.wait();
    EXPECT_EQ(gone.finish(), Finish::cancelled);
    EXPECT_EQ(gone.tokens(), expected_output(prompt_of(round, 20), static_cast<std::int64_t>(gone.tokens().size()), 0, 0, true));
    EXPECT_EQ(next.tokens(), expected_output(prompt_of(900 + round, 30), 12));
  }
  settle(rig);
  EXPECT_GE(rig.engine->status().rows_discarded, 50);
  EXPECT_EQ(rig.controls->violations, 0);
}

// The ticket's limit is known beforehand; an extension that comes while its last token is under way lets it go on.
TEST(EngineOverlap, AnExtensionMayComeWhileTheLastPaidTokenIsUnderWay) {
  Rig rig(overlapping());
  Collector c;
  const auto prompt = prompt_of(11, 20);
  rig.controls->hold_before_step(9);                 // the tenth token
  auto s = endless(prompt);
  s.extendable = true;
  s.max_tokens = 40;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1), 0, 10), std::move(s), c.stream()));
  rig.controls->wait_inside();
  rig.engine->extend(request_id(1), 15, false);
  rig.controls->hold_before_step(-1);
  rig.controls->hold(false);
  c.wait(15);
  EXPECT_EQ(c.finish(), Finish::running);
  rig.engine->extend(request_id(1), 15, true);
  c.wait();
  EXPECT_EQ(c.finish(), Finish::budget);
  EXPECT_EQ(c.tokens(), expected_output(prompt, 15, 0, 0, true));
  settle(rig);
  EXPECT_EQ(rig.engine->status().rows_discarded, 0); // never a row that was not paid for
}

// Stopping takes the step under way first: what was computed for a client that still listens is handed over.
TEST(EngineOverlap, StoppingHandsOutWhatIsUnderWay) {
  Rig rig(overlapping());
  Collector c, nobody;
  rig.controls->hold_before_step(6);
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), endless(prompt_of(8, 30)), c.stream()));
  rig.controls->wait_inside();
  std::thread stopping([&] { rig.engine->stop(); });
  const auto door = [&] { return rig.engine->submit(TicketForTest::make(request_id(2)), sequence({}, 1), nobody.stream()); };
  while (door().error().code != Errc::server_draining) std::this_thread::yield();
  rig.controls->hold_before_step(-1);
  rig.controls->hold(false);
  stopping.join();
  c.wait();
  EXPECT_EQ(c.finish(), Finish::cancelled);
  EXPECT_EQ(rig.controls->launches, 8);              // the one that was held, and the one behind it
  EXPECT_EQ(c.tokens(), expected_output(prompt_of(8, 30), 8, 0, 0, true));
  EXPECT_EQ(rig.controls->violations, 0);
}

}  // namespace
}  // namespace tokenworks::engine
