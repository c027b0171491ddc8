#pragma once
// Trie: the vocabulary's byte strings as a prefix tree in preorder: a walk is one loop over the arrays, and a subtree
// is left by jumping to its end. Also keeps the masks of automata that many grammars share (JSON's strings, numbers).
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tokenworks/grammar/grammar.hpp"

namespace tokenworks::grammar {

// What a state allows by itself, that is, before its rule has ended: see masks.hpp.
struct LocalMask {
  std::vector<TokenId> few;            // the tokens, when they are few;
  std::vector<std::uint32_t> many;     // otherwise as a mask
  std::vector<std::uint32_t> escapes;  // trie nodes, with children, at which the rule may end
  std::size_t bytes() const { return few.size() * 4 + many.size() * 4 + escapes.size() * 4 + sizeof *this; }
};

// A control token has no bytes in a text. Where a grammar asks for one by its spelling it stands for these: they begin with
// a byte that no UTF-8 text has, so that nothing else in a grammar can ever mean it.
std::string control_bytes(std::string_view spelling);

class Trie final : public VocabularyTrie {
 public:
  explicit Trie(const tokenizer::Tokenizer& tokenizer);
  std::int32_t vocab_size() const override { return vocab_size_; }
  const Digest& digest() const override { return digest_; }

  struct Node {
    std::uint32_t end;                     // of the subtree; node + 1 == end: no children
    std::uint32_t token_begin, token_end;  // into tokens(): the tokens that end here
    std::uint16_t depth;                   // bytes from the root; the first node is the root, depth 0
    std::uint8_t byte;                     // that led here
  };
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<TokenId>& tokens() const { return tokens_; }
  std::size_t longest() const { return longest_; }
  const std::vector<TokenId>& stop_tokens() const { return stop_; }
  std::string_view token_bytes(TokenId id) const;

  // Masks of call-free automata, by a hash of the whole automaton and the state. Null when not known yet.
  std::shared_ptr<const LocalMask> shared_mask(std::uint64_t key) const;
  void share_mask(std::uint64_t key, std::shared_ptr<const LocalMask> mask) const;

 private:
  std::int32_t vocab_size_;
  Digest digest_;
  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;
  std::vector<TokenId> stop_;
  std::size_t longest_ = 0;
  std::string bytes_;                 // of all tokens, one after the other
  std::vector<std::size_t> offsets_;  // [vocab_size + 1]
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::uint64_t, std::shared_ptr<const LocalMask>> shared_;
};

}  // namespace tokenworks::grammar
