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
