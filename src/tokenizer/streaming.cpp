#include <algorithm>

#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::tokenizer {

StreamingDetokenizer::StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)) {}

std::string StreamingDetokenizer::push(TokenId id) { return tokenizer_->decode_next(state_, id); }

std::string StreamingDetokenizer::finish() { return tokenizer_->decode_end(state_); }

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, std::string());  // an empty string would stop everything
}

// The earliest stop string wins; of two that begin at the same place, the one that is complete first.
StopMatcher::Step StopMatcher::push(std::string_view text) {
  Step step;
  const std::size_t had = held_.size();
  held_ += text;
  if (stops_.empty()) {
    step.text.swap(held_);
    return step;
  }
  std::size_t cut = std::string::npos, cut_end = 0;
  for (const std::string& stop : stops_) {
    // What was held before was searched already: a new match ends in the new text.
    const std::size_t from = had >= stop.size() ? had - stop.size() + 1 : 0;
    const std::size_t at = held_.find(stop, from);
    if (at == std::string::npos) continue;
    const std::size_t end = at + stop.size();
    if (cut == std::string::npos || end < cut_end || (end == cut_end && at < cut)) cut = at, cut_end = end;
  }
  if (cut != std::string::npos) {
    step.text = held_.substr(0, cut);
    step.stopped = true;
    held_.clear();
    return step;
  }
  // Keep the longest tail that begins some stop string.
  std::size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
    }
  }
  step.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return step;
}

std::string StopMatcher::finish() {
  std::string rest;
  rest.swap(held_);
  return rest;
}

}  // namespace tokenworks::tokenizer
