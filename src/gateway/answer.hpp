#pragma once
// ChoiceText: one choice's way from tokens to text: detokenize, match stop strings, count. Counts tokens up to the one that
// completes a stop; later ones are discarded, never billed. Used by the request's coroutine alone.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/engine/engine.hpp"
#include "tokenworks/gateway/types.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::gateway {

class ChoiceText {
 public:
  // `constrained`: a grammar ends the choice with its last character, so that the last token is text and no stop token.
  ChoiceText(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::vector<std::string> stops, bool want_tokens, bool constrained);

  // What `echo` with log probabilities gives before the first output: `text`, and every prompt token with what the model
  // gave it. The first token, which has none, is `first`. Before the first take().
  void echo(std::string text, TokenId first);
  // Takes an event of this choice. Text that may be sent is added to `chunk`, `chunk.finish` is set when the choice ended
  // for the client. Events after that change nothing.
  void take(const engine::TokenEvent& event, AnswerChunk& chunk);

  std::int64_t output() const { return output_; }    // tokens that count
  std::int64_t discarded() const { return discarded_; }   // made after the one that completed the stop
  bool ended() const { return ended_; }              // for the client; the engine may still run a step
  bool engine_ended() const { return engine_ended_; }
  engine::Finish finish() const { return finish_; }

 private:
  void emit(std::string text, AnswerChunk& chunk);
  void append_token(backend::Sampled token, AnswerChunk& chunk) const;
  void emit_echo(AnswerChunk& chunk);

  std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  tokenizer::StreamingDetokenizer detokenizer_;
  tokenizer::StopMatcher stops_;
  bool want_tokens_, constrained_;
  std::int64_t output_ = 0, discarded_ = 0;
  bool ended_ = false, engine_ended_ = false;
  engine::Finish finish_ = engine::Finish::running;

  // Tokens whose text was not sent yet, with the text offset each begins at: they travel with their text.
  struct Pending {
    backend::Sampled token;
    std::size_t begins_at;
  };
  std::vector<Pending> pending_;
  std::string echo_;
  std::vector<backend::Sampled> echoed_;             // the prompt's tokens until the first event of the output
  std::size_t made_bytes_ = 0, sent_bytes_ = 0;
};

// The word of the wire: "stop", "length", "cancelled", "error".
const char* finish_word(engine::Finish finish);

}  // namespace tokenworks::gateway
