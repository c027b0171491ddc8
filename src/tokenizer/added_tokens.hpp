#pragma once
// AddedTokens: tokens that are found by their spelling before text is cut and merged (`tokenizers`: added_tokens; GGUF:
// control and user-defined tokens). Finds the leftmost longest spelling, with one rule of ours: a special (control)
// token needs trusted characters only. Immutable; any thread.
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tokenizer/marked_text.hpp"
#include "tokenworks/base/ids.hpp"

namespace tokenworks::tokenizer {

struct AddedToken {
  TokenId id = -1;
  std::string content;
  bool special = false;                 // a control token
  bool lstrip = false, rstrip = false;  // eats the white space beside it
  bool single_word = false;             // only where no word character touches it
  bool normalized = false;              // matched after normalization
  std::string spelling;                 // in normalized text; "": the normalized content
};

class AddedTokens {
 public:
  AddedTokens();
  void add(const AddedToken& token, const std::string& spelling);  // spelling: the content as it appears in the text
  bool empty() const { return tokens_.empty(); }

  // Cuts `text` into stretches, in order: `token` >= 0 for a match, -1 for text in between.
  struct Stretch {
    std::size_t begin, end;
    TokenId token;
  };
  std::vector<Stretch> find(const MarkedText& text) const;

 private:
  struct Node {
    std::int32_t token = -1;  // index into tokens_
    std::vector<std::pair<std::uint8_t, std::int32_t>> next;
  };
  struct Found {
    std::int32_t token = -1;
    std::size_t end = 0;
  };
  std::int32_t child(std::int32_t node, char c) const;
  Found longest(const MarkedText& text, std::size_t at, bool special_only) const;
  bool eligible(const MarkedText& text, std::size_t begin, std::size_t end, std::int32_t token) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::array<std::int32_t, 256> root_;  // the root's children, for speed
  bool only_special_ = true;
};

}  // namespace tokenworks::tokenizer
