#pragma once
// ChoiceText: one choice's way from tokens to text: detokenize, match stop strings, part reasoning and calls of tools from
// the answer, count. Counts tokens up to the one that completes a stop; later ones are discarded, never billed. Used by the
// request's coroutine alone.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "call_parser.hpp"
#include "reasoning.hpp"
#include "tokenworks/engine/engine.hpp"
#include "tokenworks/gateway/style.hpp"
#include "tokenworks/gateway/types.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::gateway {

// How the answer of a request is read.
struct Reading {
  std::vector<std::string> stops;
  bool want_tokens = false;
  bool prompt_alone = false;                         // no output was asked for: what a pass makes all the same is discarded
  // A grammar ends the choice with its last character, so that the last token is text and no stop token.
  bool constrained = false;
  bool chat = false;                                 // reasoning is told from the answer
  bool thinking = false, calling = false;            // what the prompt has begun: see AnswerBegin
  bool calls = false;                                // tools may be called
  std::vector<std::string> names;                    // of the tools
  TextParameters texts;                              // of the tools, see tool_grammar.hpp
  RequestId request{};                               // the ids of calls come from it
};

class ChoiceText {
 public:
  // `style` outlives the object; `number` is the choice's within the request.
  ChoiceText(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, const AnswerStyle& style, const Reading& reading,
             std::uint32_t number);

  // What `echo` with log probabilities gives before the first output: `text`, and every prompt token with what the model
  // gave it. The first token, which has none, is `first`. Before the first take().
  void echo(std::string text, TokenId first);
  // Takes an event of this choice. Text that may be sent is added to `chunk`, `chunk.finish` is set when the choice ended
  // for the client. Events after that change nothing.
  void take(const engine::TokenEvent& event, AnswerChunk& chunk);

  std::int64_t output() const { return output_; }    // tokens that count
  std::int64_t reasoning() const { return reasoned_; }   // of these, the ones that were thought
  std::int64_t discarded() const { return discarded_; }   // made after the one that completed the stop
  double mean_logprob() const { return output_ > 0 ? logprobs_ / static_cast<double>(output_) : 0; }   // of the tokens that count
  bool ended() const { return ended_; }              // for the client; the engine may still run a step
  bool engine_ended() const { return engine_ended_; }
  engine::Finish finish() const { return finish_; }

 private:
  std::string text_of(TokenId token, bool& shown);
  void count_reasoning(std::string_view text);
  void emit(std::string text, AnswerChunk& chunk);
  void append_token(backend::Sampled token, AnswerChunk& chunk) const;
  void emit_echo(AnswerChunk& chunk);
  void part(std::string_view text, bool last, AnswerChunk& chunk);
  std::string call_id(std::uint32_t index) const;

  std::shared_ptr<const tokenizer::Tokenizer> tokenizer_;
  const AnswerStyle* style_;
  tokenizer::DecodeState decoding_;
  tokenizer::StopMatcher stops_;
  bool want_tokens_, constrained_, prompt_alone_;
  RequestId request_;
  std::uint32_t number_;
  std::optional<ReasoningParser> thoughts_, meter_;  // the meter runs ahead: it sees what the stop matcher holds back
  std::optional<CallParser> calls_;
  std::int64_t output_ = 0, discarded_ = 0, reasoned_ = 0;
  double logprobs_ = 0;                              // their sum
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
