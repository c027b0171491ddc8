#include "tokenworks/tenancy/limits.hpp"

#include <gtest/gtest.h>

namespace tokenworks::tenancy {
namespace {

using What = Counted;

constexpr std::int64_t kNow = 1'000'000'000;

Units remaining(const Limits::State& state, Counted what, std::int64_t interval_s = 60) {
  for (std::uint32_t i = 0; i < state.size; ++i) {
    if (state.policies[i].what == what && state.policies[i].interval_s == interval_s) return state.policies[i].remaining;
  }
  return -1;
}

TEST(Limits, AllThatAppliesIsTakenTogetherOrNothingIs) {
  Limits limits("acme");
  limits.configure({10, 100, 5}, {{"search", {3, 50, 2}}});
  limits.narrow_key("k1", {2, 20, 1});
  const auto all = limits.path("search", "k1"), project = limits.path("search", "k2"), rest = limits.path("other", "k2");
  EXPECT_EQ(all.size, 3u);
  EXPECT_EQ(project.size, 2u);
  EXPECT_EQ(rest.size, 1u);

  EXPECT_FALSE(limits.enter(all, kNow));
  auto refusal = limits.enter(all, kNow);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->what, What::concurrency);
  EXPECT_EQ(refusal->scope, "key k1");
  limits.leave(all);
  EXPECT_FALSE(limits.enter(all, kNow));
  limits.leave(all);
  refusal = limits.enter(all, kNow);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->what, What::requests);
  EXPECT_EQ(refusal->retry_after_ms, 61'000);
  // The refused one took nothing from organization or project.
  EXPECT_EQ(remaining(limits.state(rest, kNow), Counted::requests), 8);
  EXPECT_EQ(remaining(limits.state(project, kNow), Counted::requests), 1);
  EXPECT_EQ(limits.running(), 0);

  Limits::TokensTaken taken;
  EXPECT_FALSE(limits.take_tokens(all, {5, 10}, kNow, taken));
  Limits::TokensTaken none;
  refusal = limits.take_tokens(all, {3, 3}, kNow, none);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->scope, "key k1");
  EXPECT_EQ(refusal->limit, 20);
  EXPECT_EQ(refusal->used, 15);
  EXPECT_EQ(limits.free_output(rest, kNow), 85);
  limits.give_back(all, taken, {0, 10});
  EXPECT_EQ(taken.input, 5);
  EXPECT_EQ(taken.output, 0);
  EXPECT_EQ(limits.free_output(rest, kNow), 95);
  EXPECT_EQ(limits.free_output(project, kNow), 45);
  EXPECT_EQ(limits.most_output(all, 0), 20);
  EXPECT_EQ(limits.most_output(rest, 30), 70);
}

TEST(Limits, TheLongestWaitCountsAndWhatNeverFitsHasNone) {
  Limits limits("acme");
  limits.configure({config::kUnlimited, 100, config::kUnlimited}, {{"a", {config::kUnlimited, 60, config::kUnlimited}}});
  const auto a = limits.path("a", ""), b = limits.path("b", "");
  Limits::TokensTaken taken;
  EXPECT_FALSE(limits.take_tokens(a, {0, 60}, kNow, taken));
  EXPECT_FALSE(limits.take_tokens(b, {0, 40}, kNow + 20'000, taken));
  auto refusal = limits.take_tokens(a, {0, 60}, kNow + 30'000, taken);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->retry_after_ms, 31'000);
  EXPECT_FALSE(limits.take_tokens(a, {0, 60}, kNow + 61'000, taken));
  refusal = limits.take_tokens(a, {0, 41}, kNow + 62'000, taken);
  EXPECT_EQ(refusal->retry_after_ms, 60'000) << "the organization frees 40 at 81 s, the project its 60 only at 122 s";
  refusal = limits.take_tokens(a, {0, 61}, kNow + 62'000, taken);
  EXPECT_EQ(refusal->retry_after_ms, -1);
  EXPECT_EQ(remaining(limits.state(a, kNow + 62'000), Counted::requests), -1);
  EXPECT_EQ(remaining(limits.state(a, kNow + 62'000), Counted::tokens), 0);
}

TEST(Limits, ReloadKeepsWhatWasTakenAndWhoIsInside) {
  Limits limits("acme");
  limits.configure({}, {});
  const auto path = limits.path("default", "");
  EXPECT_FALSE(limits.enter(path, kNow));
  EXPECT_FALSE(limits.enter(path, kNow));
  limits.configure({3, config::kUnlimited, 2}, {{"default", {2, config::kUnlimited, config::kUnlimited}}});
  auto refusal = limits.enter(path, kNow);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->what, What::concurrency);
  limits.leave(path);
  limits.leave(path);
  EXPECT_FALSE(limits.enter(path, kNow));
  EXPECT_TRUE(limits.enter(path, kNow));
  // A project that is named for the first time begins with an empty window; one no longer named has no limit of its own.
  EXPECT_FALSE(limits.enter(limits.path("default", ""), kNow + 61'000));
  limits.configure({}, {});
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(limits.enter(limits.path("default", ""), kNow + 61'000));
}

TEST(Limits, ALimitOfZeroLetsNobodyIn) {
  Limits limits("acme");
  limits.configure({0, 0, config::kUnlimited}, {});
  const auto refusal = limits.enter(limits.path("", ""), kNow);
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->retry_after_ms, -1);
}

}  // namespace
}  // namespace tokenworks::tenancy
