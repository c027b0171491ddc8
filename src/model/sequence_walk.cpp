#include "model/sequence_walk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace tokenworks::model {

Result<> SequenceWalk::feed(std::span<const TokenId> tokens, std::span<float> out) {
  const RunnerInfo& info = runner_.info();
  const auto rows = static_cast<std::int32_t>(tokens.size());
  const std::int64_t limit =
      std::min<std::int64_t>(info.context_tokens, std::int64_t{info.kv_blocks} * backend::kBlockTokens);
  if (context_ + std::int64_t{rows} > limit)
    return error(Errc::context_length_exceeded,
                 fmt::format("{} tokens do not fit the context of {}", context_ + std::int64_t{rows}, limit));
  positions_.resize(tokens.size());
  std::iota(positions_.begin(), positions_.end(), context_);
  wanted_.resize(tokens.size());
  std::iota(wanted_.begin(), wanted_.end(), 0);
  context_ += rows;
  while (static_cast<std::int32_t>(blocks_.size()) * backend::kBlockTokens < context_)
    blocks_.push_back(static_cast<std::int32_t>(blocks_.size()));
  const backend::SequenceRows sequence{.row = 0, .rows = rows, .context = context_, .table = 0};
  return runner_.logits({tokens, positions_, {&sequence, 1}, blocks_}, wanted_, out);
}

Result<std::vector<float>> logits_of(Runner& runner, std::span<const TokenId> tokens) {
  const std::size_t vocab = static_cast<std::size_t>(runner.info().vocab);
  const std::size_t rows_max = static_cast<std::size_t>(runner.info().rows_max);
  std::vector<float> logits(tokens.size() * vocab);
  SequenceWalk walk(runner);
  for (std::size_t at = 0; at < tokens.size(); at += rows_max) {
    const std::size_t n = std::min(rows_max, tokens.size() - at);
    if (auto fed = walk.feed(tokens.subspan(at, n), std::span(logits).subspan(at * vocab, n * vocab)); !fed)
      return fed.error();
  }
  return logits;
}

}  // namespace tokenworks::model
