#pragma once
// Decoder: token ids to text. What each token contributes is worked out once; what depends on its neighbours (bytes
// that form a character together, a leading space that is cut) is done step by step, so that streamed text and whole
// text come from the same code. Immutable; any thread.
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/ids.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::tokenizer {

struct DecoderSpec {
  enum class Joining : std::uint8_t {
    bytes,       // tokens are bytes; ill-formed parts become U+FFFD (byte-level)
    runs,        // a run of byte tokens is text only if well-formed as a whole,
                 // otherwise one U+FFFD per byte (`tokenizers`' ByteFallback)
    characters,  // each ill-formed byte becomes U+FFFD (SentencePiece)
  } joining = Joining::bytes;
  std::vector<std::string> text;        // by id: what the token adds; raw bytes
  std::vector<bool> is_byte;            // by id: a byte token <0xNN>
  std::vector<bool> control;            // by id: skipped unless asked for
  std::string between;                  // put between tokens
  std::string strip;                    // one character ...
  std::int32_t strip_count = 0;         // ... cut so often from the start of the text
  bool strip_pieces_only = false;       // a byte token ends the cutting (SentencePiece)
  std::vector<std::string> first_text;  // by id, when the first token is decoded differently (Metaspace)
};

class Decoder {
 public:
  explicit Decoder(DecoderSpec spec) : spec_(std::move(spec)) {}
  std::string next(DecodeState& state, TokenId id, bool with_control) const;
  std::string end(DecodeState& state) const;
  const DecoderSpec& spec() const { return spec_; }

 private:
  std::string flush(DecodeState& state) const;
  std::string strip(DecodeState& state, std::string text, bool piece) const;
  DecoderSpec spec_;
};

// Takes from the front of `held` all that is certain: characters, and U+FFFD for what cannot become one. Leaves at most
// the 3 bytes of a character that has begun.
std::string take_characters(std::string& held);

}  // namespace tokenworks::tokenizer
