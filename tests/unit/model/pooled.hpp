#pragma once
// Texts through a Runner that pools: what tests of encoders and of embeddings by decoders share.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "tokenworks/model/runner.hpp"

namespace tokenworks::model::test {

using Texts = std::vector<std::vector<TokenId>>;

// Feeds texts to a runner in steps of at most `rows` rows, every text in its own blocks, and pools them.
inline std::vector<std::vector<double>> pool(Runner& runner, const Texts& texts, Pooling pooling, std::int32_t rows) {
  const auto columns = static_cast<std::size_t>(runner.info().embedding_columns);
  std::vector<std::vector<double>> sums(texts.size(), std::vector<double>(columns));
  std::vector<std::size_t> done(texts.size());
  std::vector<std::vector<std::int32_t>> blocks(texts.size());
  std::int32_t next_block = 0;
  for (std::size_t i = 0; i < texts.size(); ++i)
    for (std::size_t b = 0; b * backend::kBlockTokens < texts[i].size(); ++b) blocks[i].push_back(next_block++);
  for (std::size_t at = 0; at < texts.size();) {
    std::vector<TokenId> tokens;
    std::vector<std::int32_t> positions, tables;
    std::vector<backend::SequenceRows> sequences;
    std::vector<PooledRows> pooled;
    for (std::size_t i = at; i < texts.size() && static_cast<std::int32_t>(tokens.size()) < rows; ++i) {
      const auto n = std::min(texts[i].size() - done[i], static_cast<std::size_t>(rows) - tokens.size());
      const auto row = static_cast<std::int32_t>(tokens.size());
      for (std::size_t t = done[i]; t < done[i] + n; ++t) tokens.push_back(texts[i][t]), positions.push_back(static_cast<std::int32_t>(t));
      done[i] += n;
      sequences.push_back({row, static_cast<std::int32_t>(n), static_cast<std::int32_t>(done[i]), static_cast<std::int32_t>(tables.size())});
      tables.insert(tables.end(), blocks[i].begin(), blocks[i].end());
      const bool complete = done[i] == texts[i].size();
      pooled.push_back({static_cast<std::int32_t>(sequences.size()) - 1, pooling, complete, sums[i]});
      if (complete) at = i + 1;
    }
    Step step;
    step.rows = {tokens, positions, sequences, tables};
    step.pooled = pooled;
    const auto ran = runner.run(step, {});
    EXPECT_TRUE(ran) << ran.error().message;
    if (!ran) break;
  }
  for (std::size_t i = 0; i < texts.size(); ++i)
    for (double& x : sums[i]) x /= pooling == Pooling::mean ? static_cast<double>(texts[i].size()) : 1.0;
  return sums;
}

inline double cosine(std::span<const double> a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace tokenworks::model::test
