#include "engine/drafter.hpp"

#include <gtest/gtest.h>

#include <random>

#include "collector.hpp"

namespace tokenworks::engine {
namespace {

TEST(Drafter, ProposesWhatFollowedTheSameTokensLastTime) {
  Drafter d;
  d.start(std::vector<TokenId>{1, 2, 3, 4, 5, 6, 9, 9, 1, 2});
  EXPECT_TRUE(d.propose(8).empty());
  d.add(3);
  const auto drafts = d.propose(8);
  ASSERT_EQ(drafts.size(), 2u);                      // it begins small
  EXPECT_EQ(drafts[0], 4);
  EXPECT_EQ(drafts[1], 5);
  EXPECT_EQ(d.propose(1).size(), 1u);
}

TEST(Drafter, GrowsWhileItIsRightAndPausesLongerAndLongerWhileItIsNot) {
  Drafter d;
  d.start(std::vector<TokenId>(10, 7));              // the same token again and again: it goes on with itself
  for (int i = 0; i < 4; ++i) d.learn(static_cast<std::int32_t>(d.propose(100).size()), static_cast<std::int32_t>(d.propose(100).size()));
  EXPECT_EQ(d.propose(100).size(), static_cast<std::size_t>(Drafter::kMost));
  int tried = 0, steps = 0;
  for (; steps < 1000; ++steps) {
    const auto n = static_cast<std::int32_t>(d.propose(100).size());
    tried += n > 0;
    d.learn(n, 0);
    d.add(7);
  }
  EXPECT_LT(tried, 20);                              // of a thousand steps
  EXPECT_GT(tried, 5);                               // but it has not given up
}

TEST(Drafter, RemembersOverItsTablesSizeAndNeverProposesWhatItDidNotSee) {
  std::mt19937_64 random(1);
  Drafter d;
  d.start(std::vector<TokenId>{1});
  std::vector<TokenId> said{1};
  for (int i = 0; i < 5000; ++i) {
    const auto t = static_cast<TokenId>(random() % 6);
    d.add(t);
    said.push_back(t);
    const auto drafts = d.propose(2);
    if (drafts.empty()) continue;
    bool seen = false;                               // the last three and the first draft stand together somewhere before
    for (std::size_t k = 0; k + 3 < said.size() && !seen; ++k) {
      seen = std::equal(said.end() - 3, said.end(), said.begin() + static_cast<long>(k)) && said[k + 3] == drafts[0];
    }
    ASSERT_TRUE(seen) << i;
  }
}

TEST(EngineSpeculation, GivesTheSameTokensInFewerStepsAndCountsOnlyThose) {
  std::vector<TokenId> prompt{test::kCopyPrompt};
  for (TokenId i = 0; i < 60; ++i) prompt.push_back(10 + i * 7 % 40);
  int steps[2];
  for (const bool on : {false, true}) {
    EngineOptions options;
    options.speculation = on;
    Rig rig({}, options);
    Collector c;
    Sequence s = sequence(prompt, 200, 3);
    s.ignore_eos = true;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
    c.wait();
    EXPECT_EQ(c.tokens(), test::expected_output(prompt, 200, 3, 0, true));
    rig.settle();
    steps[on] = rig.controls->steps;
    EXPECT_EQ(rig.engine->status().tokens_generated, 200);
    EXPECT_EQ(rig.controls->violations, 0);
    EXPECT_EQ(rig.engine->status().draft_tokens > 0, on);
    // What was rejected is not in the prefix cache: the same conversation goes on from its true text.
    Collector next;
    std::vector<TokenId> longer = prompt;
    longer.insert(longer.end(), c.tokens().begin(), c.tokens().end());
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2)), sequence(longer, 20, 4), next.stream()));
    next.wait();
    EXPECT_GT(next.stream()->cached_tokens(), 200);
    EXPECT_EQ(next.tokens(), test::expected_output(longer, 20, 4));
    EXPECT_EQ(rig.controls->violations, 0);
  }
  EXPECT_LT(steps[1] * 3, steps[0] * 2);
}

TEST(EngineSpeculation, UnderLoadNothingIsDrafted) {
  EngineOptions options;
  options.speculation = true;
  Rig rig({.kv_blocks = 1024}, options);
  rig.controls->hold_before_step(0);
  std::vector<std::unique_ptr<Collector>> all;
  for (std::uint64_t i = 0; i < 8; ++i) {
    all.push_back(std::make_unique<Collector>());
    Sequence s = sequence({test::kCopyPrompt, 11, 12, 11, 12, 11, 12, static_cast<TokenId>(20 + i)}, 100, i);
    s.ignore_eos = true;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(i)), std::move(s), all.back()->stream()));
  }
  rig.controls->wait_inside();
  rig.controls->hold(false);
  for (auto& c : all) c->wait();
  EXPECT_EQ(rig.engine->status().draft_tokens, 0);
}

}  // namespace
}  // namespace tokenworks::engine
