#pragma once
// Merger: the inner loop of byte-pair encoding. Takes a sequence of symbols and merges the adjacent pair of the best
// priority, leftmost first among equals, until no pair is left: the rule of both `tokenizers` (priority = rank of the
// merge) and SentencePiece (priority = order of the score). O(n log n) in the length of a piece. Immutable; any thread.
#include <cstdint>
#include <vector>

#include "tokenizer/tables.hpp"

namespace tokenworks::tokenizer {

using Symbol = std::int32_t;  // a token id, or a model's private number past the vocabulary

class Merger {
 public:
  // Lower priorities merge first. A pair given twice keeps the later one.
  void reserve(std::size_t pairs) { pairs_.reserve(pairs); }
  void add(Symbol left, Symbol right, Symbol result, std::uint32_t priority) {
    pairs_.set(key(left, right), Merge{priority, result});
  }
  void merge(std::vector<Symbol>& symbols) const;  // in place
  bool joins(Symbol left, Symbol right) const { return pairs_.find(key(left, right)) != nullptr; }

 private:
  struct Merge {
    std::uint32_t priority;
    Symbol result;
  };
  static std::uint64_t key(Symbol left, Symbol right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  Merge best(Symbol left, Symbol right) const {
    const Merge* found = pairs_.find(key(left, right));
    return found != nullptr ? *found : Merge{kNone, 0};
  }
  void merge_short(std::vector<Symbol>& symbols) const;
  void merge_long(std::vector<Symbol>& symbols) const;

  static constexpr std::uint32_t kNone = ~0u;
  KeyTable<Merge> pairs_;
};

}  // namespace tokenworks::tokenizer
