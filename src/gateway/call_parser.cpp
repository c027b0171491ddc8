#include "call_parser.hpp"

#include <algorithm>

namespace tokenworks::gateway {
namespace {

constexpr std::string_view kClose = "</tool_call>";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Length of the longest end of `text` that `marker` begins with.
std::size_t overlap(std::string_view text, std::string_view marker) {
  for (std::size_t n = std::min(text.size(), marker.size()); n > 0; --n) {
    if (text.ends_with(marker.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

CallParser::CallParser(CallForm form, std::string marker, bool inside, std::vector<std::string> names, TextParameters texts)
    : form_(form), marker_(std::move(marker)), names_(std::move(names)), texts_(std::move(texts)), place_(inside ? Place::open : Place::text) {}

void CallParser::byte(char c, AnswerPieces& out) {
  switch (place_) {
    case Place::text: return text_byte(c, out);
    case Place::open: return open_byte(c, out);
    case Place::call: return call_byte(c, out);
    case Place::after: return after_byte(c, out);
  }
}

void CallParser::text_byte(char c, AnswerPieces& out) {
  // The Llama family may begin an answer with the call itself.
  if (form_ == CallForm::llama && blank_ && c == '{' && std::all_of(held_.begin(), held_.end(), is_space)) {
    taken_ = std::move(held_);
    held_.clear();
    return start_call(c, out);
  }
  held_ += c;
  const std::size_t n = overlap(held_, marker_);
  if (n > 0 && n == marker_.size()) {
    taken_ = std::move(held_);
    held_.clear();
    place_ = Place::open;
    return;
  }
  std::size_t keep = held_.size() - n;
  while (keep > 0 && is_space(held_[keep - 1])) --keep;
  if (keep == 0) return;
  blank_ = false;
  out.text.append(held_, 0, keep);
  held_.erase(0, keep);
}

// After the marker. Mistral writes a list; whatever else stands there is for the scanner to judge.
void CallParser::open_byte(char c, AnswerPieces& out) {
  if (form_ == CallForm::mistral && (is_space(c) || c == '[' || c == ',')) {
    taken_ += c;
  } else if (form_ == CallForm::mistral && c == ']') {
    taken_.clear();
    place_ = Place::text;
  } else {
    start_call(c, out);
  }
}

void CallParser::start_call(char c, AnswerPieces& out) {
  using Way = CallScanner::Way;
  const Way way = form_ == CallForm::mistral_args ? Way::bare : form_ == CallForm::parameters ? Way::tags : Way::object;
  scanner_.emplace(begun_, form_ == CallForm::llama ? &names_ : nullptr, way, &texts_);
  place_ = Place::call;
  call_byte(c, out);
}

void CallParser::call_byte(char c, AnswerPieces& out) {
  const bool before = scanner_->begun();
  const CallScanner::State state = scanner_->push(c, out);
  if (scanner_->begun() && !before) {
    ++begun_;
    taken_.clear();
  }
  if (state == CallScanner::State::done) {
    place_ = Place::after;
  } else if (state == CallScanner::State::failed) {
    if (!scanner_->begun()) return give_up(c, out);
    place_ = Place::after;
    after_byte(c, out);
  } else if (!scanner_->begun()) {
    taken_ += c;
  }
}

void CallParser::give_up(char c, AnswerPieces& out) {
  out.text += taken_;
  taken_.clear();
  blank_ = false;
  place_ = Place::text;
  text_byte(c, out);
}

// Behind a call. A tag must close: what a model writes before the tag is nothing. Elsewhere another call may follow.
void CallParser::after_byte(char c, AnswerPieces& out) {
  if (form_ == CallForm::hermes || form_ == CallForm::generic || form_ == CallForm::parameters) {
    held_ += c;
    const bool closed = overlap(held_, kClose) == kClose.size(), opened = overlap(held_, marker_) == marker_.size();
    if (!closed && !opened) {
      held_.erase(0, held_.size() - std::max(overlap(held_, kClose), overlap(held_, marker_)));
      return;
    }
    held_.clear();
    place_ = closed ? Place::text : Place::open;
    return;
  }
  if (form_ == CallForm::mistral_args) {             // the marker leads a further call, too
    place_ = Place::text;
    return text_byte(c, out);
  }
  if (is_space(c) || c == ',' || (c == ';' && form_ == CallForm::llama)) return;
  if (c == '{') return start_call(c, out);
  place_ = Place::text;
  if (form_ == CallForm::mistral && c == ']') return;
  text_byte(c, out);
}

// Behind a call the beginning of another one, cut before its name was whole, is nothing; nor is white space.
void CallParser::finish(AnswerPieces& out) {
  const std::string& rest = place_ == Place::text ? held_ : taken_;
  if (!called()) out.text += rest;
  held_.clear();
  taken_.clear();
}

}  // namespace tokenworks::gateway
