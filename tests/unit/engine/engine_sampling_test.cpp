// What a row is given to sample by, and how events travel.
#include <gtest/gtest.h>

#include <map>

#include "collector.hpp"
#include "engine/work_book.hpp"

namespace tokenworks::engine {
namespace {

using test::expected_output;

std::vector<TokenId> counting(std::size_t length) {
  std::vector<TokenId> prompt;
  for (std::size_t i = 0; i < length; ++i) prompt.push_back(100 + static_cast<TokenId>(i % 17));
  return prompt;
}

TEST(EngineSampling, BiasAndLogprobsReachTheRowAndComeBack) {
  Rig rig;
  Collector c;
  auto s = sequence(counting(20), 4);
  s.bias = {{321, 100.0f}};
  s.sampling.top_logprobs = 2;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  c.wait();
  EXPECT_EQ(c.tokens(), std::vector<TokenId>(4, 321));
  EXPECT_FLOAT_EQ(c.last().logprob, -0.5f);
  ASSERT_EQ(c.last().top.size(), 2u);
  EXPECT_EQ(c.last().top[0].token, 321);
}

// The prompt is said token by token, several in a step, and the output is what it is without: forced tokens count for
// nothing, neither against the ticket nor as draws, nor as stops.
TEST(EngineSampling, AScoredPromptComesBackBeforeTheOutputWhichStaysTheSame) {
  for (const std::size_t length : {1u, 2u, 3u, 40u, 100u}) {
    Rig rig;
    Collector c(2);
    auto prompt = counting(length);
    if (length > 30) prompt[20] = test::kStopToken;
    auto s = sequence(prompt, 12, 5);
    s.choices = 2;
    s.ignore_eos = true;
    s.score_prompt = true;
    s.sampling.top_logprobs = 2;
    s.sampling.presence_penalty = 0.5f;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
    c.wait();
    for (std::uint32_t i = 0; i < 2; ++i) {
      EXPECT_EQ(c.prompt(i), std::vector<TokenId>(prompt.begin() + 1, prompt.end())) << length;
      EXPECT_EQ(c.tokens(i), expected_output(prompt, 12, 5, i, true)) << length;
      EXPECT_EQ(c.finish(i), Finish::length);
    }
    EXPECT_EQ(rig.controls->violations, 0);
    EXPECT_LT(rig.controls->steps, 60) << "prompt tokens are scored several at once";
    std::lock_guard lock(rig.controls->mutex);
    ASSERT_FALSE(rig.controls->seen.empty());
    for (const auto& count : rig.controls->seen.front()) EXPECT_LE(count.in_output, 1) << "the prompt is not output";
  }
}

// The list of seen tokens, kept up step by step, against one counted anew from the whole text.
TEST(EngineSampling, PenaltiesSeeThePromptAndEveryTokenMade) {
  for (const bool repetition : {true, false}) {
    Rig rig;
    Collector c;
    const auto prompt = counting(40);
    auto s = sequence(prompt, 200);
    s.ignore_eos = true;
    (repetition ? s.sampling.repetition_penalty : s.sampling.frequency_penalty) = 1.5f;
    ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
    c.wait();
    const auto output = expected_output(prompt, 200, 0, 0, true);
    EXPECT_EQ(c.tokens(), output);
    std::map<TokenId, int> counts;
    if (repetition) {
      for (const TokenId t : prompt) counts[t] += 0;
    }
    std::size_t row = 0;
    for (const TokenId made : output) {
      if (!counts.empty()) {
        ASSERT_LT(row, rig.controls->seen.size());
        std::map<TokenId, int> given;
        for (const auto& seen : rig.controls->seen[row]) EXPECT_TRUE(given.emplace(seen.token, seen.in_output).second);
        EXPECT_EQ(given, counts);
        ++row;
      }
      ++counts[made];
    }
    EXPECT_EQ(row, rig.controls->seen.size());
  }
}

// Allows one token after the other of a fixed text.
class Dictation final : public Constraint {
 public:
  explicit Dictation(std::vector<TokenId> text) : text_(std::move(text)), mask_((test::kVocab + 31) / 32, 0) {}
  const std::uint32_t* mask() override {
    std::fill(mask_.begin(), mask_.end(), 0);
    mask_[static_cast<std::size_t>(text_[at_] / 32)] |= 1u << text_[at_] % 32;
    return mask_.data();
  }
  void accept(TokenId token) override {
    EXPECT_EQ(token, text_[at_]);
    ++at_;
  }
  bool finished() const override { return at_ == text_.size(); }

 private:
  std::vector<TokenId> text_;
  std::vector<std::uint32_t> mask_;
  std::size_t at_ = 0;
};

TEST(EngineSampling, AConstraintMasksEveryTokenAndEndsItsChoice) {
  Rig rig;
  Collector c(2);
  const std::vector<TokenId> first = {500, 501, 502, 31, 32, 63, 64}, second = {12, 11};
  auto s = sequence(counting(33), 100);
  s.choices = 2;
  s.constraints = {std::make_shared<Dictation>(first), std::make_shared<Dictation>(second)};
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  c.wait();
  EXPECT_EQ(c.tokens(0), first);
  EXPECT_EQ(c.tokens(1), second);
  EXPECT_EQ(c.finish(0), Finish::stop);
  EXPECT_EQ(c.finish(1), Finish::stop);
}

TEST(EngineSampling, AConsumerThatDoesNotDrainIsWokenOnce) {
  Rig rig;
  Collector c;
  auto s = sequence(counting(20), 50);
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  rig.settle();
  EXPECT_EQ(rig.engine->status().tokens_generated, 50);
  EXPECT_EQ(c.wakes(), 1);
  c.drain();
  EXPECT_EQ(c.tokens().size(), 50u);
}

TEST(EngineSampling, AConsumerThatLeftIsNotWoken) {
  Rig rig;
  auto c = std::make_unique<Collector>();
  const auto stream = c->stream();
  rig.controls->hold_before_step(2);
  auto s = sequence(counting(20), 50);
  s.ignore_eos = true;
  ASSERT_TRUE(rig.engine->submit(TicketForTest::make(request_id(1)), std::move(s), stream));
  rig.controls->wait_inside();
  c.reset();                                         // detaches
  rig.controls->hold(false);
  rig.settle();
  std::vector<TokenEvent> events;
  stream->drain(events);
  EXPECT_EQ(events.size(), 50u);                     // kept for whoever still holds the stream
  EXPECT_EQ(events.back().finish, Finish::length);
}

TEST(WorkBook, CountsWhatRowsReadAndAttendToByTenantAndPhase) {
  WorkBook book;
  for (int round = 0; round < 2; ++round) {          // a step leaves nothing for the next
    book.clear();
    book.add(7, 0, 4, false);
    book.add(2, 100, 1, true);
    book.add(7, 10, 3, true);
    book.add(7, 4, 2, false);
    const std::vector<TenantWork> expected{{7, {6, 4 + 6, 1 + 2 + 3 + 4 + 5 + 6}, {3, 13, 11 + 12 + 13}}, {2, {}, {1, 101, 101}}};
    EXPECT_EQ(std::vector(book.work().begin(), book.work().end()), expected);
  }
}

TEST(EngineSampling, EveryStepIsReported) {
  auto controls = std::make_shared<test::FakeRunner::Controls>();
  ManualClock clock{0};
  std::atomic<int> steps{0}, prefill{0}, decode{0};
  std::atomic<std::int64_t> rows{0}, pairs{0};
  const auto engine = make_engine(std::make_unique<test::FakeRunner>(test::FakeRunner::Shape{}, controls), {}, clock,
                                  [&](const StepReport& r) {
                                    ++steps;
                                    prefill += r.prefill_tokens;
                                    decode += r.decode_tokens;
                                    for (const TenantWork& w : r.work) rows += w.prefill.rows + w.decode.rows, pairs += w.prefill.pairs + w.decode.pairs;
                                  });
  Collector c;
  auto s = sequence(counting(100), 30);
  s.ignore_eos = true;
  ASSERT_TRUE(engine->submit(TicketForTest::make(request_id(1)), std::move(s), c.stream()));
  c.wait();
  engine->stop();
  EXPECT_EQ(prefill, 100);
  EXPECT_EQ(decode, 29);                             // the first token comes with the last row of the prompt
  EXPECT_EQ(steps, controls->steps);
  EXPECT_EQ(rows, 129);
  EXPECT_EQ(pairs, 129 * 130 / 2);                   // each row sees all before it and itself
}

}  // namespace
}  // namespace tokenworks::engine
