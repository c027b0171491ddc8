#pragma once
// Drafter: guesses what a sequence says next from what it has said and read (prompt lookup, an n-gram of its own tokens). A
// guess is only ever a proposal: the model computes every token of it and keeps what it would have said anyway. How much is
// proposed follows what was kept: doubled while guesses hold, halved and then paused for longer and longer while they do
// not, so text that repeats nothing costs next to nothing. Engine thread; one per choice; its tokens are wiped at the end.
#include <cstdint>
#include <span>
#include <vector>

#include "tokenworks/base/ids.hpp"

namespace tokenworks::engine {

class Drafter {
 public:
  static constexpr std::int32_t kMost = 8;

  Drafter() = default;
  Drafter(Drafter&&) = default;
  ~Drafter();

  void start(std::span<const TokenId> prompt);
  bool on() const { return !table_.empty(); }
  void add(TokenId token);                           // the sequence goes on with it
  // What may follow now; empty when there is no guess worth making. Valid until the next call.
  std::span<const TokenId> propose(std::int64_t most);
  void learn(std::int32_t tried, std::int32_t kept);

 private:
  static constexpr std::size_t kGram = 3;
  void index();                                      // the n-gram that ends with the last token
  void grow();

  std::vector<TokenId> tokens_, drafts_;
  std::vector<std::int32_t> table_;                  // hash of an n-gram -> where it ended last; a power of two
  std::int32_t match_ = -1;                          // where the last n-gram ended before
  std::int32_t length_ = 2, failures_ = 0;
  std::int64_t pause_ = 0;                           // tokens until the next try
};

}  // namespace tokenworks::engine
