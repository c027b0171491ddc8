#pragma once
// A vocabulary for tests of answers: a control token 0 that stops, control tokens of choice, then every byte, then pieces
// of JSON and tags.
#include <algorithm>
#include <string>
#include <vector>

#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::gateway::test {

class ByteTokenizer final : public tokenizer::Tokenizer {
 public:
  explicit ByteTokenizer(std::vector<std::string> controls, const std::vector<std::string>& pieces = {})
      : controls_(std::move(controls)), stop_{0} {
    controls_.insert(controls_.begin(), "<|end|>");
    tokens_.resize(controls_.size());
    for (int b = 0; b < 256; ++b) tokens_.emplace_back(1, static_cast<char>(b));
    tokens_.insert(tokens_.end(), pieces.begin(), pieces.end());
    digest_.fill(static_cast<std::uint8_t>(controls_.size() + pieces.size()));
  }
  TokenId byte(char c) const { return static_cast<TokenId>(controls_.size() + static_cast<unsigned char>(c)); }

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(byte(c));
    return ids;
  }
  std::vector<TokenId> encode_trusted(std::string_view text) const override {
    const auto piece = std::find(tokens_.begin() + static_cast<std::ptrdiff_t>(controls_.size()) + 256, tokens_.end(), text);
    if (piece != tokens_.end()) return {static_cast<TokenId>(piece - tokens_.begin())};
    return encode(text);
  }
  std::vector<TokenId> encode_parts(const std::vector<Part>& parts) const override {
    std::string all;
    for (const Part& part : parts) all += part.text;
    return encode(all);
  }
  std::optional<TokenId> bos() const override { return std::nullopt; }
  const std::vector<TokenId>& stop_tokens() const override { return stop_; }
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(tokens_.size()); }
  const std::string& token_bytes(TokenId id) const override { return tokens_[static_cast<std::size_t>(id)]; }
  bool is_control(TokenId id) const override { return static_cast<std::size_t>(id) < controls_.size(); }
  std::optional<TokenId> find_control(std::string_view spelling) const override {
    const auto found = std::find(controls_.begin(), controls_.end(), spelling);
    if (found == controls_.end()) return std::nullopt;
    return static_cast<TokenId>(found - controls_.begin());
  }
  std::string decode(const std::vector<TokenId>& ids, bool with_control) const override {
    std::string text;
    for (const TokenId id : ids) text += is_control(id) ? with_control ? controls_[static_cast<std::size_t>(id)] : std::string() : token_bytes(id);
    return text;
  }
  std::string decode_next(tokenizer::DecodeState& state, TokenId id, bool with_control) const override {
    if (is_control(id)) return with_control ? controls_[static_cast<std::size_t>(id)] : std::string();
    return tokenizer::Tokenizer::decode_next(state, id, with_control);
  }
  const Digest& digest() const override { return digest_; }

 private:
  std::vector<std::string> controls_, tokens_;
  std::vector<TokenId> stop_;
  Digest digest_;
};

}  // namespace tokenworks::gateway::test
