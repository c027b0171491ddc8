#pragma once
// What the engine does with a Runner, for tests: several sequences in one step, each with its own scattered blocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "tokenworks/model/runner.hpp"

namespace tokenworks::model::test {

// One sequence: its tokens, how many of them the cache holds already, and the blocks it may use.
struct Sequence {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> blocks;
  std::int32_t done = 0;
};

// Hands out all blocks of a runner in random order, `tokens` at a time.
class BlockDealer {
 public:
  BlockDealer(const Runner& runner, unsigned seed) : free_(static_cast<std::size_t>(runner.info().kv_blocks)) {
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(seed));
  }
  std::vector<std::int32_t> deal(std::size_t tokens) {
    std::vector<std::int32_t> blocks;
    for (std::size_t held = 0; held < tokens; held += backend::kBlockTokens) {
      blocks.push_back(free_.back());
      free_.pop_back();
    }
    return blocks;
  }

 private:
  std::vector<std::int32_t> free_;
};

// The rows of one step, with the storage its spans point into.
struct StepStorage {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> positions, tables;
  std::vector<backend::SequenceRows> sequences;

  void add(const Sequence& s, std::int32_t rows) {
    const auto first = static_cast<std::int32_t>(tokens.size());
    for (std::int32_t i = s.done; i < s.done + rows; ++i) {
      tokens.push_back(s.tokens[static_cast<std::size_t>(i)]);
      positions.push_back(i);
    }
    sequences.push_back({.row = first, .rows = rows, .context = s.done + rows,
                         .table = static_cast<std::int32_t>(tables.size())});
    tables.insert(tables.end(), s.blocks.begin(), s.blocks.end());
  }
  backend::StepRows rows() const { return {tokens, positions, sequences, tables}; }
};

// One step with `rows[i]` more tokens of sequence i (0: left out); the logits of every row, appended to out[i].
inline void advance(Runner& runner, std::vector<Sequence>& sequences, const std::vector<std::int32_t>& rows,
                    std::vector<std::vector<float>>& out) {
  StepStorage step;
  for (std::size_t i = 0; i < sequences.size(); ++i)
    if (rows[i] > 0) step.add(sequences[i], rows[i]);
  std::vector<std::int32_t> wanted(step.tokens.size());
  std::iota(wanted.begin(), wanted.end(), 0);
  const auto vocab = static_cast<std::size_t>(runner.info().vocab);
  std::vector<float> logits(wanted.size() * vocab);
  const auto ran = runner.logits(step.rows(), wanted, logits);
  ASSERT_TRUE(ran) << ran.error().message;
  auto from = logits.begin();
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto to = from + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(rows[i]) * vocab);
    out[i].insert(out[i].end(), from, to);
    from = to;
    sequences[i].done += rows[i];
  }
}

// However prompts are cut into steps, and whatever runs beside them, each row's logits are the same bits as one shot
// alone gives. Random texts, cuts and block placements; the first round goes token by token.
struct Mix {
  int sequences, tokens_max;
  unsigned rounds;
};
inline void expect_same_bits(Runner& runner, const Mix& mix) {
  std::mt19937 random(99);
  const auto some = [&](int low, int high) { return std::uniform_int_distribution<std::int32_t>(low, high)(random); };
  std::vector<std::vector<TokenId>> texts(static_cast<std::size_t>(mix.sequences));
  std::vector<std::vector<float>> alone;
  for (auto& text : texts) {
    for (std::int32_t left = some(3, mix.tokens_max); left > 0; --left)
      text.push_back(some(3, runner.info().vocab - 1));
    auto logits = logits_of(runner, text);
    ASSERT_TRUE(logits) << logits.error().message;
    alone.push_back(std::move(*logits));
  }
  const std::int32_t rows_max = runner.info().rows_max / mix.sequences;
  for (unsigned round = 0; round < mix.rounds; ++round) {
    BlockDealer dealer(runner, round);
    std::vector<Sequence> sequences;
    for (const auto& text : texts) sequences.push_back({text, dealer.deal(text.size())});
    std::vector<std::vector<float>> together(texts.size());
    while (std::ranges::any_of(sequences, [](const Sequence& s) { return s.done < std::ssize(s.tokens); })) {
      std::vector<std::int32_t> rows;
      for (const Sequence& s : sequences) {
        const auto left = static_cast<std::int32_t>(s.tokens.size()) - s.done;
        rows.push_back(std::min(left, round == 0 ? 1 : some(0, rows_max)));
      }
      if (std::ranges::count(rows, 0) == std::ssize(rows)) continue;
      ASSERT_NO_FATAL_FAILURE(advance(runner, sequences, rows, together));
    }
    for (std::size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(together[i] == alone[i], true) << "round " << round << ", sequence " << i;   // too long to print
  }
}

// Greedy continuation through Runner::run: the prompt in one step, then token by token.
inline std::vector<TokenId> greedy(Runner& runner, std::vector<TokenId> prompt, int count) {
  const auto first = prompt.size();
  Sequence s{.tokens = std::move(prompt)};
  s.blocks = BlockDealer(runner, 11).deal(first + static_cast<std::size_t>(count));
  const backend::SamplingParams params{.temperature = 0};
  const backend::SampleRow row{.params = &params};
  for (int i = 0; i < count; ++i) {
    StepStorage step;
    const auto rows = static_cast<std::int32_t>(s.tokens.size()) - s.done;
    step.add(s, rows);
    const std::int32_t last = rows - 1;
    backend::Sampled sampled;
    const auto ran = runner.run({step.rows(), {&last, 1}, {&row, 1}}, {&sampled, 1});
    EXPECT_TRUE(ran) << ran.error().message;
    if (!ran) break;
    s.done += rows;
    s.tokens.push_back(sampled.token);
  }
  return {s.tokens.begin() + static_cast<std::ptrdiff_t>(first), s.tokens.end()};
}

}  // namespace tokenworks::model::test
