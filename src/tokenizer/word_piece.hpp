#pragma once
// WordPieceModel: one word to token ids, the longest piece first; pieces inside a word carry a prefix ("##"). A word of which
// some part is no piece, or that is too long, is the unknown token as a whole. Immutable; any thread.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tables.hpp"
#include "tokenworks/base/ids.hpp"

namespace tokenworks::tokenizer {

struct WordPieceSpec {
  std::string prefix = "##";
  std::int32_t characters_max = 100;                 // of a word
  TokenId unknown = -1;
};

class WordPieceModel {
 public:
  // `in_model`: spellings that text may become.
  WordPieceModel(const WordPieceSpec& spec, const std::vector<std::string>& spellings, const std::vector<bool>& in_model);
  void encode(std::string_view word, std::vector<TokenId>& to) const;   // valid UTF-8; appends

 private:
  WordPieceSpec spec_;
  StringTable first_, inside_;                       // inside_: without the prefix
  std::size_t longest_ = 0;                          // bytes
};

}  // namespace tokenworks::tokenizer
