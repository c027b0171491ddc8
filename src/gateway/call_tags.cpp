// Calls written in tags (Qwen 3 Coder): <function=f>, then for each argument <parameter=key>, a line with the value and
// </parameter>, then </function>. Strings stand there as they are; every other value is JSON. Out comes an object.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "call_scanner.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::string_view kFunction = "<function=", kParameter = "<parameter=", kEnd = "</function>", kValueEnd = "</parameter>",
                           kLineEnd = "\n</parameter>";
constexpr std::size_t kNameMax = 512;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::size_t overlap(std::string_view text, std::string_view end) {
  for (std::size_t n = std::min(text.size(), end.size()); n > 0; --n) {
    if (text.ends_with(end.substr(0, n))) return n;
  }
  return 0;
}

// As a JSON string without its quotes. Byte by byte, so that it does not depend on the cut: bytes of longer characters pass.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      out += "\\u00";
      out += kDigits[static_cast<unsigned char>(c) >> 4];
      out += kDigits[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

// Between the values.
CallScanner::State CallScanner::tag(char c, AnswerPieces& out) {
  if (place_ == Place::tag_name || place_ == Place::tag_key) {
    if (c == '\n' || c == '<' || word_.size() > kNameMax) return State::failed;
    if (c != '>') {
      word_ += c;
      return State::running;
    }
    if (word_.empty()) return State::failed;
    if (place_ == Place::tag_name) {
      name_ = std::move(word_);
      begin(out);
      place_ = Place::tag_between;
    } else {
      tag_begins(out);
    }
    word_.clear();
    return State::running;
  }
  if (word_.empty() && is_space(c)) return State::running;
  const std::string longer = word_ + c;
  const bool first = place_ == Place::tag_function;
  if (first ? !kFunction.starts_with(longer) : !kParameter.starts_with(longer) && !kEnd.starts_with(longer)) return State::failed;
  word_ = longer;
  if (word_ == kEnd) {
    pass_on(argued_ ? "}" : "{}", out);
    return State::done;
  }
  if (word_ == kFunction || word_ == kParameter) {
    place_ = first ? Place::tag_name : Place::tag_key;
    word_.clear();
  }
  return State::running;
}

void CallScanner::tag_begins(AnswerPieces& out) {
  key_ = std::move(word_);
  const auto tool = texts_ == nullptr ? TextParameters::const_iterator() : texts_->find(name_);
  as_text_ = texts_ != nullptr && tool != texts_->end() && tool->second.contains(key_);
  pass_on((argued_ ? ", \"" : "{\"") + escaped(key_) + (as_text_ ? "\": \"" : "\": "), out);
  argued_ = fresh_ = true;
  place_ = Place::tag_value;
}

// Within a value: text goes out as it comes, but for what may be its end; JSON is gathered and checked.
CallScanner::State CallScanner::tag_text(char c, AnswerPieces& out) {
  if (fresh_ && c == '\n') {
    fresh_ = false;
    return State::running;
  }
  fresh_ = false;
  word_ += c;
  if (word_.ends_with(kValueEnd)) {
    tag_flush(word_.size() - (word_.ends_with(kLineEnd) ? kLineEnd : kValueEnd).size(), out);
    if (as_text_) {
      pass_on("\"", out);
    } else {
      const bool json = nlohmann::json::accept(waiting_value_);
      pass_on(json ? waiting_value_ : "\"" + escaped(waiting_value_) + "\"", out);
    }
    waiting_value_.clear();
    word_.clear();
    place_ = Place::tag_between;
    return State::running;
  }
  const std::size_t held = std::max(overlap(word_, kLineEnd), overlap(word_, kValueEnd));
  if (held < word_.size()) tag_flush(word_.size() - held, out);
  return State::running;
}

void CallScanner::tag_flush(std::size_t bytes, AnswerPieces& out) {
  if (bytes == 0) return;
  const std::string_view text = std::string_view(word_).substr(0, bytes);
  if (as_text_) {
    pass_on(escaped(text), out);
  } else {
    waiting_value_ += text;
  }
  word_.erase(0, bytes);
}

}  // namespace tokenworks::gateway
