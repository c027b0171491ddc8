#pragma once
// Masks: works out which tokens may come at a place, and remembers it. Most of the work does not depend on how a rule
// was reached: for a state, the tokens that stay within its rule (or end with it) are found once. What is left at run
// time are the tokens that go on past the rule's end; they lie below few nodes of the trie, the escapes, and are tried
// with the real stack. Whole masks are kept as well, by state and stack, because an answer is long in the same place (a
// string). Any thread.
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "grammar/trie.hpp"
#include "grammar/walker.hpp"

namespace tokenworks::grammar {

class Masks {
 public:
  using Mask = std::vector<std::uint32_t>;

  Masks(std::shared_ptr<const Program> program, std::shared_ptr<const Trie> trie);

  // `walker` holds the stacks of `position` and is left as it was. Null when the work it was allowed did not suffice.
  std::shared_ptr<const Mask> mask(const Position& position, Walker& walker) const;
  // Works out ahead what would otherwise delay the first answers: the states that allow many tokens, up to `most`. False
  // when one of them needs more than the work of a mask.
  bool warm(std::size_t most) const;
  std::size_t bytes() const;
  const Program& program() const { return *program_; }
  const Trie& trie() const { return *trie_; }

 private:
  struct Key {
    std::uint64_t low, high;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& k) const { return k.low; }
  };
  Key key(const Position& position, const Walker& walker) const;
  std::shared_ptr<const LocalMask> local(std::uint32_t state, std::size_t& work) const;   // null: `work` did not suffice
  LocalMask find_local(std::uint32_t state, std::size_t& work) const;
  template <class Accept>
  void descend(Walker& walker, const Position& from, std::uint32_t root, Accept accept) const;

  std::shared_ptr<const Program> program_;
  std::shared_ptr<const Trie> trie_;
  mutable std::mutex mutex_;
  mutable std::vector<std::shared_ptr<const LocalMask>> local_;  // by state; null: not known yet
  mutable std::unordered_map<Key, std::shared_ptr<const Mask>, KeyHash> whole_;
  mutable std::size_t bytes_ = 0;                                // of local_
};

}  // namespace tokenworks::grammar
