#include "reasoning.hpp"

#include <algorithm>

namespace tokenworks::gateway {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::size_t overlap(std::string_view text, std::string_view marker) {
  for (std::size_t n = std::min(text.size(), marker.size()); n > 0; --n) {
    if (text.ends_with(marker.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

ReasoningParser::ReasoningParser(std::string open, std::string close, bool inside)
    : open_(std::move(open)), close_(std::move(close)), place_(inside ? Place::inside : Place::start) {}

void ReasoningParser::push(std::string_view text, std::string& reasoning, std::string& answer) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (place_ == Place::answer) {
      answer += text.substr(i);
      return;
    }
    byte(text[i], reasoning, answer);
  }
}

void ReasoningParser::byte(char c, std::string& reasoning, std::string& answer) {
  switch (place_) {
    case Place::start: {
      held_ += c;
      const std::size_t n = overlap(held_, open_);
      const bool only_space = std::all_of(held_.begin(), held_.end() - static_cast<std::ptrdiff_t>(n), is_space);
      if (!only_space) {
        answer += held_;
        held_.clear();
        place_ = Place::answer;
      } else if (n == open_.size()) {
        held_.clear();
        place_ = Place::inside;
      }
      return;
    }
    case Place::inside: {
      held_ += c;
      const std::size_t n = overlap(held_, close_);
      if (n == close_.size()) {                      // and the white space before it is dropped
        held_.clear();
        place_ = Place::between;
        return;
      }
      std::size_t keep = held_.size() - n;
      while (keep > 0 && is_space(held_[keep - 1])) --keep;
      if (keep == 0) return;
      const std::size_t from = blank_ ? static_cast<std::size_t>(std::find_if_not(held_.begin(), held_.end(), is_space) - held_.begin()) : 0;
      blank_ = false;
      reasoning.append(held_, from, keep - from);
      held_.erase(0, keep);
      return;
    }
    case Place::between:
      if (is_space(c)) return;
      place_ = Place::answer;
      answer += c;
      return;
    case Place::answer:
      answer += c;
      return;
  }
}

void ReasoningParser::finish(std::string& reasoning, std::string& answer) {
  if (place_ == Place::start) answer += held_;
  if (place_ == Place::inside && !(blank_ && std::all_of(held_.begin(), held_.end(), is_space))) reasoning += held_;
  held_.clear();
}

}  // namespace tokenworks::gateway
