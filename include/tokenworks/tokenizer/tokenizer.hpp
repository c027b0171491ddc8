#pragma once
// Tokenizer: text to token ids and back, identical to the reference implementation of each family. Immutable; any thread.
//
// Text from a user is never parsed for control tokens: `encode` treats "<|im_start|>" as plain characters. Only the pieces
// a chat template wrote itself are encoded with `encode_trusted`; see chat_template.hpp for how the two are kept apart.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/formats/model_file.hpp"

namespace tokenworks::tokenizer {

// What an incremental decode carries from one token to the next. Owned by the caller, one per text.
struct DecodeState {
  std::string held;                                  // bytes that are not yet certain text
  bool first = true;                                 // no token was decoded yet
  std::int32_t strip = -1;                           // leading characters still to be cut; -1: as the decoder begins
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // bad_file, naming the part of the data at fault, when the data is inconsistent or uses a part that is not known.
  static Result<std::shared_ptr<const Tokenizer>> make(const formats::TokenizerData& data);

  // Plain text, never control tokens, no BOS. Invalid UTF-8 is first replaced as Python's errors="replace" does.
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  // Text in which the spellings of special tokens mean those tokens (what `tokenizers` does by default); no BOS.
  virtual std::vector<TokenId> encode_trusted(std::string_view text) const = 0;
  // A prompt in parts, tokenized as one text: in untrusted parts special spellings stay plain characters.
  struct Part {
    std::string text;
    bool trusted = false;
  };
  virtual std::vector<TokenId> encode_parts(const std::vector<Part>& parts) const = 0;

  virtual std::optional<TokenId> bos() const = 0;    // to prepend to a raw (non-chat) prompt, when the model wants it
  // To append to a raw text that is embedded ([SEP] of BERT), when the model wants it.
  virtual std::optional<TokenId> end_of_text() const { return std::nullopt; }
  virtual const std::vector<TokenId>& stop_tokens() const = 0;
  virtual std::int32_t vocab_size() const = 0;
  // The bytes a token adds to decoded text; empty for control tokens. What the grammar compiler builds its trie from.
  virtual const std::string& token_bytes(TokenId id) const = 0;
  virtual bool is_control(TokenId id) const = 0;
  virtual std::optional<TokenId> find_control(std::string_view spelling) const = 0;
  // Whole-text decode; control tokens are skipped unless `with_control`. Invalid UTF-8 becomes U+FFFD.
  virtual std::string decode(const std::vector<TokenId>& ids, bool with_control = false) const = 0;
  // The same step by step: decode_next for every token, then decode_end once; what they return, put together, is `decode`
  // of the tokens. decode_next returns only what no later token can change. The default decodes `token_bytes` as UTF-8.
  virtual std::string decode_next(DecodeState& state, TokenId id, bool with_control = false) const;
  virtual std::string decode_end(DecodeState& state) const;
  virtual const Digest& digest() const = 0;          // over everything that influences ids; written in every entry
};

// StreamingDetokenizer: turns tokens into text as they come and never emits half a UTF-8 character. One per choice.
// What it emits in all equals `decode` of all its tokens.
class StreamingDetokenizer {
 public:
  explicit StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer);
  std::string push(TokenId id);                      // may be empty
  std::string finish();                              // what is left: U+FFFD for an incomplete character

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  DecodeState state_;
};

// StopMatcher: finds stop strings in streamed text. Text that could still become one is held back. One per choice.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);
  struct Step {
    std::string text;                                // may be sent now
    bool stopped = false;                            // a stop string was completed; it and what follows is cut off
  };
  Step push(std::string_view text);
  std::string finish();                              // what was held back when the sequence ended otherwise

 private:
  std::vector<std::string> stops_;
  std::string held_;
};

}  // namespace tokenworks::tokenizer
