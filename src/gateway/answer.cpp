#include "answer.hpp"

#include <limits>

namespace tokenworks::gateway {

ChoiceText::ChoiceText(std::shared_ptr<const tokenizer::Tokenizer> tokenizer, std::vector<std::string> stops, bool want_tokens,
                       bool constrained)
    : tokenizer_(tokenizer), detokenizer_(std::move(tokenizer)), stops_(std::move(stops)), want_tokens_(want_tokens),
      constrained_(constrained) {}

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
  bool stopped = false;
  if (event.token >= 0) {
    ++output_;
    // A stop token itself is not text.
    const bool silent = event.finish == engine::Finish::stop && (!constrained_ || tokenizer_->is_control(event.token));
    if (!silent) {
      if (want_tokens_) pending_.push_back({{event.token, event.logprob, event.top}, made_bytes_});
      const std::string text = detokenizer_.push(event.token);
      made_bytes_ += tokenizer_->token_bytes(event.token).size();
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
    auto rest = stops_.push(detokenizer_.finish());
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
    chunk.finish = finish_word(finish_);
    chunk.stopped_by_budget = finish_ == engine::Finish::budget;
  }
}

void ChoiceText::emit(std::string text, AnswerChunk& chunk) {
  if (sent_bytes_ != SIZE_MAX) sent_bytes_ += text.size();
  chunk.text += text;
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
