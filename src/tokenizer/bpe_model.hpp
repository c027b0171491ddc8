#pragma once
// BpeModel: one pre-tokenized piece of text to token ids, by byte-pair encoding in its two dialects: ranked merges
// (`tokenizers`) and scores (SentencePiece). Pieces that are one token by themselves, which most words are, are found
// in one table look-up; that changes no result, because the table holds only what the merges lead to. Immutable; any
// thread.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/merger.hpp"
#include "tokenizer/tables.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::tokenizer {

struct BpeSpec {
  enum class Rule : std::uint8_t { ranked, scored } rule = Rule::ranked;
  bool byte_level = false;             // spellings are in the byte-level alphabet, pieces are bytes
  bool byte_fallback = false;          // an unknown character becomes its <0xNN> tokens
  bool ignore_merges = false;          // a piece that is in the vocabulary is that token, whatever the merges say
  bool fuse_unknown = false;           // neighbouring unknown characters become one unknown token
  TokenId unknown = -1;                // -1: unknown characters vanish
  std::vector<std::string> spellings;  // index = id; "" for ids nobody has
  std::vector<bool> in_model;          // ids that text may become: not control tokens, not added ones only
  std::vector<std::pair<TokenId, TokenId>> merges;  // ranked, best first
  std::vector<float> scores;                        // scored, higher merges first
};

class BpeModel {
 public:
  // bad_file: a merge names a pair whose result is not in the vocabulary, a score is not a number.
  static Result<BpeModel> build(const BpeSpec& spec);

  // Appends the tokens of `piece`: bytes when byte_level, otherwise valid UTF-8.
  void encode(std::string_view piece, std::vector<TokenId>& to) const;

 private:
  Result<> add_ranked(const BpeSpec& spec, const StringTable& ids);
  Result<> add_scored(const BpeSpec& spec, const StringTable& ids);
  void learn_initials(const BpeSpec& spec);
  void learn_whole_pieces(const BpeSpec& spec);
  void learn_word_borders(const BpeSpec& spec);
  void encode_word(std::string_view word, std::vector<TokenId>& to) const;
  void encode_slowly(std::string_view piece, std::vector<TokenId>& to) const;
  void split_bytes(std::string_view piece, std::vector<Symbol>& symbols) const;
  void split_characters(std::string_view piece, std::vector<Symbol>& symbols,
                        std::vector<std::string_view>& unknown) const;
  Symbol initial(char32_t c) const;
  void put_unknown(std::string_view text, std::vector<TokenId>& to, bool& after_unknown) const;

  BpeSpec::Rule rule_ = BpeSpec::Rule::ranked;
  bool byte_level_ = false, byte_fallback_ = false, fuse_unknown_ = false, split_words_ = false;
  TokenId unknown_ = -1;
  Merger merger_;
  std::array<Symbol, 256> of_byte_{};  // byte_level: the token of each byte; otherwise of each ASCII character
  KeyTable<Symbol> of_character_;
  std::vector<std::string> private_;  // characters that occur in pieces only: symbols past the vocabulary
  Symbol vocabulary_ = 0;
  std::array<TokenId, 256> fallback_{};
  StringTable whole_;  // pieces that are one token
  std::size_t longest_whole_ = 0;
  std::vector<char32_t> before_mark_;  // characters that some piece has right before U+2581, sorted
};

}  // namespace tokenworks::tokenizer
