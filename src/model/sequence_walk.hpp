#pragma once
// SequenceWalk: one sequence alone in a runner's cache, fed in pieces, giving back raw logits. How evaluation and tests
// look at a model without an engine. Uses blocks 0.. of the cache; one walk at a time on a runner.
#include <cstdint>
#include <span>
#include <vector>

#include "tokenworks/model/runner.hpp"

namespace tokenworks::model {

class SequenceWalk {
 public:
  explicit SequenceWalk(Runner& runner) : runner_(runner) {}

  // Appends `tokens` (at most rows_max) and fills out [tokens.size(), vocab]. context_length_exceeded past the context.
  Result<> feed(std::span<const TokenId> tokens, std::span<float> out);

 private:
  Runner& runner_;
  std::int32_t context_ = 0;
  std::vector<std::int32_t> blocks_, positions_, wanted_;
};

}  // namespace tokenworks::model
