// Evaluation against numbers worked out by hand from runners whose logits are known.
#include "tokenworks/model/eval.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace tokenworks::model {
namespace {

// Logits are a function of (token, position); everything it is fed is remembered.
class Formula final : public Runner {
 public:
  using Logit = std::function<float(TokenId token, std::int32_t position, std::int32_t candidate)>;
  Formula(std::int32_t vocab, Logit logit, std::int32_t rows_max = 5) : logit_(std::move(logit)) {
    info_.vocab = vocab;
    info_.context_tokens = 64;
    info_.kv_blocks = 4;
    info_.rows_max = rows_max;
  }
  const RunnerInfo& info() const override { return info_; }
  Result<> run(const Step&, std::span<backend::Sampled>) override { return error(Errc::internal, "not asked for"); }
  void zero_blocks(std::span<const std::int32_t>) override {}
  Result<> logits(const backend::StepRows& rows, std::span<const std::int32_t> wanted, std::span<float> out) override {
    EXPECT_LE(static_cast<std::int32_t>(rows.tokens.size()), info_.rows_max);
    std::size_t at = 0;
    for (const std::int32_t row : wanted) {
      const auto i = static_cast<std::size_t>(row);
      fed.push_back({rows.tokens[i], rows.positions[i]});
      for (std::int32_t c = 0; c < info_.vocab; ++c) out[at++] = logit_(rows.tokens[i], rows.positions[i], c);
    }
    return {};
  }
  std::vector<std::pair<TokenId, std::int32_t>> fed;

 private:
  RunnerInfo info_;
  Logit logit_;
};

std::vector<TokenId> counting(std::size_t n) {
  std::vector<TokenId> text;
  for (std::size_t i = 0; i < n; ++i) text.push_back(static_cast<TokenId>(i % 4));
  return text;
}

TEST(Evaluation, AUniformModelHasThePerplexityOfItsVocabulary) {
  Formula uniform(4, [](auto...) { return 3.5f; });
  const auto e = evaluate(uniform, nullptr, counting(50), {.window = 16});
  ASSERT_TRUE(e) << e.error().message;
  EXPECT_EQ(e->windows, 4);
  EXPECT_EQ(e->predicted, 46);                       // 15 + 15 + 15 + 1
  EXPECT_NEAR(e->perplexity, 4, 1e-9);
  EXPECT_EQ(e->reference_perplexity, 0);
}

TEST(Evaluation, EveryWindowStartsAfreshAndItsLastTokenIsNotFed) {
  Formula model(4, [](auto...) { return 0.0f; });
  ASSERT_TRUE(evaluate(model, nullptr, counting(20), {.window = 12}));
  ASSERT_EQ(model.fed.size(), 18u);
  for (std::size_t i = 0; i < 11; ++i) EXPECT_EQ(model.fed[i], std::pair(TokenId(i % 4), std::int32_t(i)));
  EXPECT_EQ(model.fed[11], std::pair(TokenId(0), 0));   // text[12] at position 0
}

TEST(Evaluation, ABosStandsBeforeEveryWindowAndMakesItsFirstTokenPredicted) {
  Formula model(4, [](auto...) { return 0.0f; });
  const auto e = evaluate(model, nullptr, counting(20), {.window = 11, .bos = 3});
  ASSERT_TRUE(e);
  EXPECT_EQ(e->windows, 2);
  EXPECT_EQ(e->predicted, 20);
  EXPECT_EQ(model.fed[0], std::pair(TokenId(3), 0));
  EXPECT_EQ(model.fed[10], std::pair(TokenId(3), 0));
}

TEST(Evaluation, DivergenceAndAgreementAreThoseOfTheTwoDistributions) {
  // Two tokens: the model gives token 0 the odds 3:1 at even positions and 1:3 at odd ones, the reference 3:1 always.
  Formula model(2, [](TokenId, std::int32_t p, std::int32_t c) { return (c == p % 2) ? std::log(3.0f) : 0.0f; });
  Formula reference(2, [](TokenId, std::int32_t, std::int32_t c) { return c == 0 ? std::log(3.0f) : 0.0f; });
  const std::vector<TokenId> text{0, 0, 0, 0, 0};    // positions 0..3 predict token 0
  const auto e = evaluate(model, &reference, text, {.window = 5});
  ASSERT_TRUE(e) << e.error().message;
  const double kl_odd = 0.75 * std::log(3.0) + 0.25 * std::log(1.0 / 3);
  EXPECT_NEAR(e->mean_kl, kl_odd / 2, 1e-6);
  EXPECT_NEAR(e->largest_kl, kl_odd, 1e-6);
  EXPECT_DOUBLE_EQ(e->top1_agreement, 0.5);
  EXPECT_NEAR(e->largest_logit_difference, std::log(3.0), 1e-6);
  EXPECT_NEAR(e->reference_perplexity, 4.0 / 3, 1e-6);
  EXPECT_NEAR(e->perplexity, std::sqrt(4.0 / 3 * 4), 1e-6);
  EXPECT_NEAR(e->perplexity_change_percent, 100 * (std::sqrt(3.0) - 1), 1e-4);
  // Losses differ by 0 and log 3 in turn: standard deviation log(3)/2 over 4 positions.
  EXPECT_NEAR(e->change_error_percent, 100 * std::sqrt(3.0) * std::log(3.0) / 4, 1e-4);
}

TEST(Evaluation, WhatCannotBeEvaluatedIsRefused) {
  Formula model(4, [](auto...) { return 0.0f; }), other(5, [](auto...) { return 0.0f; });
  EXPECT_FALSE(evaluate(model, nullptr, counting(1)));
  EXPECT_FALSE(evaluate(model, nullptr, std::vector<TokenId>{1, 4}));
  EXPECT_FALSE(evaluate(model, &other, counting(8)));
  EXPECT_FALSE(evaluate(model, nullptr, counting(8), {.window = 1}));
  const auto too_long = evaluate(model, nullptr, counting(100), {.window = 100});
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code, Errc::context_length_exceeded);
}

TEST(Evaluation, ProgressEndsAtTheTotal) {
  Formula model(4, [](auto...) { return 0.0f; });
  std::int64_t last = 0, total = 0;
  EvalOptions options{.window = 16};
  options.progress = [&](std::int64_t done, std::int64_t all) { last = done, total = all; };
  ASSERT_TRUE(evaluate(model, nullptr, counting(50), options));
  EXPECT_EQ(last, 46);
  EXPECT_EQ(total, 46);
}

TEST(LogitsOf, FeedsATextInPiecesOfTheStepBudget) {
  Formula model(4, [](TokenId t, std::int32_t p, std::int32_t c) { return static_cast<float>(100 * p + 10 * t + c); });
  const auto logits = logits_of(model, counting(13));
  ASSERT_TRUE(logits) << logits.error().message;
  for (std::size_t p = 0; p < 13; ++p)
    for (std::size_t c = 0; c < 4; ++c)
      EXPECT_EQ((*logits)[p * 4 + c], static_cast<float>(100 * p + 10 * (p % 4) + c));
  EXPECT_EQ(logits_of(model, counting(65)).error().code, Errc::context_length_exceeded);
}

}  // namespace
}  // namespace tokenworks::model
