// Texts that are pooled: each is computed whole and once, beside generation, and its vector comes with its finish.
#include <gtest/gtest.h>

#include <random>

#include "collector.hpp"

namespace tokenworks::engine {
namespace {

using test::kNanPrompt;

std::vector<TokenId> text_of(std::uint64_t seed, std::size_t length) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> text(length);
  for (TokenId& t : text) t = 10 + static_cast<TokenId>(random() % 900);
  return text;
}

Sequence pooled(std::vector<std::vector<TokenId>> texts, model::Pooling pooling = model::Pooling::mean) {
  Sequence s;
  s.pooling = pooling;
  s.choices = static_cast<std::uint32_t>(texts.size());
  s.max_tokens = 1;
  s.texts = std::move(texts);
  return s;
}

std::vector<float> expected(const std::vector<TokenId>& text) {
  double sum = 0, weighted = 0;
  std::uint64_t h = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    sum += text[i];
    weighted += static_cast<double>(text[i]) * static_cast<double>(i);
    h = test::mix(h, static_cast<std::uint64_t>(text[i]));
  }
  const double n = 1.0 / static_cast<double>(text.size());
  return {1.0f, static_cast<float>(sum * n), static_cast<float>(weighted * n), static_cast<float>(static_cast<double>(h % 1'000'000) * n)};
}

TEST(Pooling, EveryTextIsComputedWholeAndOnceAlsoWhenAskedForAgain) {
  Rig rig({.kv_blocks = 64, .context_tokens = 256, .rows_max = 32, .sequences_max = 4});
  std::vector<std::vector<TokenId>> texts;
  for (std::uint64_t i = 0; i < 40; ++i) texts.push_back(text_of(i % 13, 1 + (i * 37) % 200));
  for (std::uint64_t round = 0; round < 3; ++round) {
    Collector c(40);
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(round)), pooled(texts), c.stream()));
    c.wait();
    for (std::uint32_t i = 0; i < 40; ++i) {
      EXPECT_EQ(c.finish(i), Finish::stop);
      EXPECT_TRUE(c.tokens(i).empty());
      EXPECT_EQ(c.stream()->take_embedding(i), expected(texts[i])) << "text " << i << " of round " << round;
    }
    EXPECT_EQ(c.stream()->cached_tokens(), 0) << "nothing of a pooled text comes from the prefix cache";
  }
  EXPECT_EQ(rig.controls->violations, 0);
  EXPECT_EQ(rig.engine->status().tokens_generated, 0);
}

TEST(Pooling, RunsBesideGenerationWithoutChangingIt) {
  Rig rig({.kv_blocks = 256, .context_tokens = 512, .rows_max = 48});
  const auto prompt = text_of(1, 90);
  rig.controls->hold(true);
  Collector generated, vectors(20);
  auto s = sequence(prompt, 60, 3);
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1), 0), std::move(s), generated.stream()));
  std::vector<std::vector<TokenId>> texts;
  for (std::uint64_t i = 0; i < 20; ++i) texts.push_back(text_of(50 + i, 5 + 11 * i));
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(2), 1), pooled(texts), vectors.stream()));
  rig.controls->hold(false);
  generated.wait();
  vectors.wait();
  EXPECT_EQ(generated.tokens(), test::expected_output(prompt, 60, 3, 0, true));
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_EQ(vectors.stream()->take_embedding(i), expected(texts[i])) << i;
  EXPECT_EQ(rig.controls->violations, 0);
}

TEST(Pooling, PreemptedTextsStartAnewAndStayRight) {
  // Room for little more than one answer: tenants that wait take blocks from texts that are half done.
  Rig rig({.kv_blocks = 20, .context_tokens = 256, .rows_max = 16, .sequences_max = 8});
  std::vector<std::unique_ptr<Collector>> collectors;
  std::vector<std::vector<TokenId>> texts;
  rig.controls->hold(true);
  for (std::uint64_t i = 0; i < 24; ++i) {
    texts.push_back(text_of(900 + i, 60 + (i * 29) % 180));
    collectors.push_back(std::make_unique<Collector>());
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(i), static_cast<std::uint32_t>(i % 6)), pooled({texts.back()}),
                                   collectors.back()->stream()));
  }
  rig.controls->hold(false);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    collectors[i]->wait();
    EXPECT_EQ(collectors[i]->stream()->take_embedding(0), expected(texts[i])) << i;
  }
  EXPECT_EQ(rig.controls->violations, 0);
}

TEST(Pooling, AVectorThatIsNotANumberFailsItsTextAlone) {
  Rig rig;
  Collector c(2);
  const auto good = text_of(3, 20);
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), pooled({{kNanPrompt, 11, 12}, good}), c.stream()));
  c.wait();
  EXPECT_EQ(c.finish(0), Finish::failed);
  EXPECT_TRUE(c.stream()->take_embedding(0).empty());
  EXPECT_EQ(c.finish(1), Finish::stop);
  EXPECT_EQ(c.stream()->take_embedding(1), expected(good));
}

TEST(Pooling, WhatCannotBePooledIsRefusedAtOnce) {
  Rig rig({.kv_blocks = 64, .context_tokens = 64});
  Collector c;
  const auto refused = [&](Sequence s) {
    const auto answer = rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream());
    return answer ? std::string("taken") : std::string(name(answer.error().code));
  };
  EXPECT_EQ(refused(pooled({text_of(1, 64)})), "context_length_exceeded");
  EXPECT_EQ(refused(pooled({{}})), "invalid_request");
  EXPECT_EQ(refused(pooled({{5, test::kVocab}})), "invalid_request");
  auto none = pooled({});
  EXPECT_EQ(refused(std::move(none)), "internal");
  auto both = pooled({{5}});
  both.prompt = {5};
  EXPECT_EQ(refused(std::move(both)), "internal");
}

}  // namespace
}  // namespace tokenworks::engine
