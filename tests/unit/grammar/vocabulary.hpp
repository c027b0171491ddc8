#pragma once
// Vocabularies for the grammar tests: the demo model's 49,152 tokens, and a small one of 700 tokens that has every
// byte, JSON's pieces and multi-byte characters, so that a brute force over the whole vocabulary is cheap.
#include <memory>
#include <string>
#include <vector>

#include "support/paths.hpp"
#include "tokenworks/formats/model_file.hpp"
#include "tokenworks/grammar/grammar.hpp"

namespace tokenworks::grammar::test {

class ListTokenizer final : public tokenizer::Tokenizer {
 public:
  explicit ListTokenizer(std::vector<std::string> tokens) : tokens_(std::move(tokens)), stop_{0} { digest_.fill(7); }
  std::vector<TokenId> encode(std::string_view) const override { return {}; }
  std::vector<TokenId> encode_trusted(std::string_view) const override { return {}; }
  std::vector<TokenId> encode_parts(const std::vector<Part>&) const override { return {}; }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  const std::vector<TokenId>& stop_tokens() const override { return stop_; }
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(tokens_.size()); }
  const std::string& token_bytes(TokenId id) const override { return tokens_[static_cast<std::size_t>(id)]; }
  bool is_control(TokenId id) const override { return id == 0; }
  std::optional<TokenId> find_control(std::string_view) const override { return std::nullopt; }
  std::string decode(const std::vector<TokenId>& ids, bool) const override {
    std::string text;
    for (const TokenId id : ids) text += token_bytes(id);
    return text;
  }
  const Digest& digest() const override { return digest_; }

 private:
  std::vector<std::string> tokens_;
  std::vector<TokenId> stop_;
  Digest digest_;
};

inline const std::shared_ptr<const tokenizer::Tokenizer>& small_tokenizer() {
  static const std::shared_ptr<const tokenizer::Tokenizer> kTokenizer = [] {
    std::vector<std::string> tokens{""};  // id 0: the stop token
    for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
    const std::vector<std::string> starts = {
        "\"",  "\",",   "\":",  "{\"",  "[",     "[[",       "]]",       "}]",       "},",       "\"}",
        " \"", "\\",    "\\\"", "\\n",  "\\u00", "1",        "12",       "-1",       ".5",       "e+",
        "0.",  ", ",    ": ",   "true", "false", "null",     "nu",       " tr",      "a",        "ab",
        "abc", "xyz",   "é",    "ü😀",  "\xC3",  "\xF0\x9F", "\x98\x80", "\n  ",     "\n\n    ", "    ",
        "\t",  "2024-", "T12:", "_s",   "n_",    "kind",     "value",    "children", "name"};
    for (const std::string& a : starts) tokens.push_back(a);
    for (std::size_t i = 0; i < starts.size(); i += 2) {
      for (std::size_t k = 0; k < starts.size(); k += 3) tokens.push_back(starts[i] + starts[k]);
    }
    tokens.emplace_back("\"kind\": \"circle\", \"r\": 1.5}");
    tokens.emplace_back("aaaaaaaaaaaaaaaa");
    tokens.emplace_back("ab");  // twice in the vocabulary
    return std::make_shared<ListTokenizer>(std::move(tokens));
  }();
  return kTokenizer;
}

inline const std::shared_ptr<const VocabularyTrie>& small_trie() {
  static const auto kTrie = VocabularyTrie::build(*small_tokenizer());
  return kTrie;
}

inline const std::shared_ptr<const tokenizer::Tokenizer>& demo_tokenizer() {
  static const auto kTokenizer = [] {
    auto file = formats::ModelFile::open(tokenworks::test::demo_model_path());
    return tokenizer::Tokenizer::make(file.value()->tokenizer()).value();
  }();
  return kTokenizer;
}

inline const std::shared_ptr<const VocabularyTrie>& demo_trie() {
  static const auto kTrie = VocabularyTrie::build(*demo_tokenizer());
  return kTrie;
}

inline bool bit(const std::uint32_t* mask, TokenId id) { return (mask[id / 32] >> (id % 32) & 1) != 0; }

}  // namespace tokenworks::grammar::test
