#include "answer.hpp"

#include <algorithm>
#include <limits>

#include "tokenworks/base/crypto.hpp"

namespace tokenworks::gateway {

ChoiceText::ChoiceText(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, const AnswerStyle& style, const Reading& reading,
                       std::uint32_t number)
    : tokenizer_(std::move(tokenizer)), style_(&style), stops_(reading.stops), want_tokens_(reading.want_tokens),
      constrained_(reading.constrained), prompt_alone_(reading.prompt_alone), request_(reading.request), number_(number) {
  if (reading.chat && !style.think_open.empty() && !reading.calling) {
    thoughts_.emplace(style.think_open, style.think_close, reading.thinking);
    meter_.emplace(style.think_open, style.think_close, reading.thinking);
  }
  if (reading.calls) calls_.emplace(style.calls, style.marker, reading.calling, reading.names, reading.texts);
}

// The text a token adds. Control tokens have none, except those that the parsers must see.
std::string ChoiceText::text_of(TokenId token, bool& shown) {
  const auto& controls = style_->shown_controls;
  shown = (thoughts_ || calls_) && std::find(controls.begin(), controls.end(), token) != controls.end();
  return tokenizer_->decode_next(decoding_, token, shown);
}

void ChoiceText::count_reasoning(std::string_view text) {
  if (!meter_) return;
  const bool before = meter_->thinking();
  std::string reasoning, answer;
  meter_->push(text, reasoning, answer);
  if (before || meter_->thinking()) ++reasoned_;     // the token of either tag counts, too
}

void ChoiceText::echo(std::string text, TokenId first) {
  echo_ = std::move(text);
  echoed_.push_back({first, std::numeric_limits<float>::quiet_NaN(), {}});
}

void ChoiceText::take(const engine::TokenEvent& event, AnswerChunk& chunk) {
  if (event.prompt) return echoed_.push_back({event.token, event.logprob, event.top});
  emit_echo(chunk);
  if (event.finish != engine::Finish::running) engine_ended_ = true;
  if (ended_) {                                      // made after the stop, before the engine knew
    if (event.token >= 0) ++discarded_;
    return;
  }
  if (prompt_alone_ && event.token >= 0) {           // failed and cancelled ends come without a token
    ++discarded_;
    ended_ = true;
    finish_ = engine::Finish::length;
    chunk.finish = finish_word(finish_);
    return;
  }
  bool stopped = false;
  if (event.token >= 0) {
    ++output_;
    logprobs_ += static_cast<double>(event.logprob);
    // A stop token itself is not text.
    const bool silent = event.finish == engine::Finish::stop && (!constrained_ || tokenizer_->is_control(event.token));
    if (!silent) {
      bool shown = false;
      const std::string text = text_of(event.token, shown);
      count_reasoning(text);
      if (want_tokens_) {
        pending_.push_back({{event.token, event.logprob, event.top}, made_bytes_});
        made_bytes_ += shown ? text.size() : tokenizer_->token_bytes(event.token).size();
      }
      auto step = stops_.push(text);
      stopped = step.stopped;
      emit(std::move(step.text), chunk);
    }
  }
  if (stopped) {
    ended_ = true;
    finish_ = engine::Finish::stop;
  } else if (event.finish != engine::Finish::running) {
    ended_ = true;
    finish_ = event.finish;
    auto rest = stops_.push(tokenizer_->decode_end(decoding_));
    emit(std::move(rest.text), chunk);
    if (rest.stopped) {
      finish_ = engine::Finish::stop;
    } else {
      emit(stops_.finish(), chunk);
      sent_bytes_ = SIZE_MAX;                        // whatever is pending belongs to sent text
      emit({}, chunk);
    }
  }
  if (ended_) {
    part({}, true, chunk);
    chunk.finish = finish_word(finish_);
    if (calls_ && calls_->called() && finish_ == engine::Finish::stop) chunk.finish = "tool_calls";
    chunk.stopped_by_budget = finish_ == engine::Finish::budget;
  }
}

void ChoiceText::emit(std::string text, AnswerChunk& chunk) {
  if (sent_bytes_ != SIZE_MAX) sent_bytes_ += text.size();
  part(text, false, chunk);
  std::size_t sent = 0;
  while (sent < pending_.size() && pending_[sent].begins_at < sent_bytes_) {
    append_token(std::move(pending_[sent].token), chunk);
    ++sent;
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(sent));
}

void ChoiceText::append_token(backend::Sampled token, AnswerChunk& chunk) const {
  chunk.token_texts.push_back(tokenizer_->token_bytes(token.token));
  std::vector<std::string> tops;
  for (const backend::TokenLogprob& top : token.top) tops.push_back(tokenizer_->token_bytes(top.token));
  chunk.top_texts.push_back(std::move(tops));
  chunk.tokens.push_back(std::move(token));
}

void ChoiceText::emit_echo(AnswerChunk& chunk) {
  if (echoed_.empty()) return;
  chunk.echoed_tokens = echoed_.size();
  chunk.echoed_bytes = echo_.size();
  chunk.text = std::move(echo_);
  for (backend::Sampled& token : echoed_) append_token(std::move(token), chunk);
  echoed_.clear();
}

// Gives text to the parsers, if there are any, and what they make of it to the chunk. `last`: what they held back, too.
void ChoiceText::part(std::string_view text, bool last, AnswerChunk& chunk) {
  std::string answer;
  if (thoughts_) {
    thoughts_->push(text, chunk.reasoning, answer);
    if (last) thoughts_->finish(chunk.reasoning, answer);
    text = answer;
  }
  if (!calls_) {
    chunk.text += text;
    return;
  }
  AnswerPieces pieces;
  calls_->push(text, pieces);
  if (last) calls_->finish(pieces);
  chunk.text += pieces.text;
  for (CallDelta& delta : pieces.calls) {
    if (!delta.name.empty()) delta.id = call_id(delta.index);
    chunk.calls.push_back(std::move(delta));
  }
}

// Unlike any other call's, and the same when the same request is replayed. Templates of the Mistral family refuse ids that
// are not nine letters and digits.
std::string ChoiceText::call_id(std::uint32_t index) const {
  static constexpr std::string_view kDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const Digest digest = sha256(request_.to_string() + "/" + std::to_string(number_) + "/" + std::to_string(index));
  const bool mistral = style_->calls == CallForm::mistral || style_->calls == CallForm::mistral_args;
  std::string id = mistral ? "" : "call_";
  for (std::size_t i = 0; i < (mistral ? 9u : 24u); ++i) id += kDigits[static_cast<std::size_t>(digest[i]) % kDigits.size()];
  return id;
}

const char* finish_word(engine::Finish finish) {
  switch (finish) {
    case engine::Finish::stop: return "stop";
    case engine::Finish::length:
    case engine::Finish::budget: return "length";
    case engine::Finish::cancelled:
    case engine::Finish::deadline: return "cancelled";
    case engine::Finish::failed:
    case engine::Finish::running: break;
  }
  return "error";
}

}  // namespace tokenworks::gateway
