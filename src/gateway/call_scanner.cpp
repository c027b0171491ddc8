#include "call_scanner.hpp"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

namespace tokenworks::gateway {
namespace {

constexpr std::size_t kWordMax = 512;                // of a key or a name

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// What a JSON string with its quotes says; false when it is none.
bool unquote(const std::string& quoted, std::string& text) {
  const auto json = nlohmann::json::parse(quoted, nullptr, false);
  if (!json.is_string()) return false;
  text = json.get<std::string>();
  return true;
}

}  // namespace

CallScanner::State CallScanner::push(char c, AnswerPieces& out) {
  switch (place_) {
    case Place::before:
      if (is_space(c)) return State::running;
      if (c != '{') return State::failed;
      place_ = Place::before_key;
      return State::running;
    case Place::before_key:
      if (is_space(c)) return State::running;
      if (c == '}') return close(out);
      if (c != '"') return State::failed;
      word_ = c;
      place_ = Place::key;
      return State::running;
    case Place::key:
      if (word_.size() > kWordMax) return State::failed;
      if (!quoted(c)) return State::running;
      if (!unquote(word_, key_)) return State::failed;
      place_ = Place::after_key;
      return State::running;
    case Place::after_key:
      if (is_space(c)) return State::running;
      if (c != ':') return State::failed;
      place_ = Place::before_value;
      return State::running;
    case Place::before_value:
      return is_space(c) ? State::running : value_begins(c, out);
    case Place::name:
      if (word_.size() > kWordMax) return State::failed;
      return quoted(c) ? name_ends() : State::running;
    case Place::arguments:
      pass_on({&c, 1}, out);
      if (nested(c)) place_ = Place::after_value;
      return State::running;
    case Place::quoted_arguments: {                  // some models write the object as a string
      if (!quoted(c)) return State::running;
      std::string text;
      if (!unquote(word_, text)) return State::failed;
      pass_on(text, out);
      place_ = Place::after_value;
      return State::running;
    }
    case Place::skipped:
      if (depth_ == 0 && !string_ && (c == ',' || c == '}')) {
        place_ = Place::after_value;
        return push(c, out);
      }
      nested(c);
      return State::running;
    case Place::bare_name: return bare_name(c, out);
    case Place::tag_function:
    case Place::tag_name:
    case Place::tag_between:
    case Place::tag_key: return tag(c, out);
    case Place::tag_value: return tag_text(c, out);
    case Place::bare_before:
      if (is_space(c)) return State::running;
      if (c != '{') return State::failed;
      place_ = Place::bare_arguments;
      [[fallthrough]];
    case Place::bare_arguments:
      pass_on({&c, 1}, out);
      return nested(c) ? State::done : State::running;
    case Place::after_value:
      if (named_ && !begun_ && argued_) begin(out);
      if (is_space(c)) return State::running;
      if (c == '}') return close(out);
      if (c != ',') return State::failed;
      place_ = Place::before_key;
      return State::running;
  }
  return State::failed;
}

CallScanner::State CallScanner::value_begins(char c, AnswerPieces& out) {
  if (key_ == "name" && !named_) {
    if (c != '"') return State::failed;
    word_ = c;
    place_ = Place::name;
    return State::running;
  }
  if ((key_ == "arguments" || key_ == "parameters") && !argued_ && (c == '{' || c == '"')) {
    argued_ = true;
    if (named_ && !begun_) begin(out);
    place_ = c == '{' ? Place::arguments : Place::quoted_arguments;
    word_ = c;
    if (c == '{') {
      depth_ = 0;
      nested(c);
      pass_on({&c, 1}, out);
    }
    return State::running;
  }
  const bool expected = key_ == "id" || key_ == "type" || key_ == "arguments" || key_ == "parameters";
  if (!expected && !begun_) return State::failed;
  depth_ = 0;
  string_ = escaped_ = false;
  place_ = Place::skipped;
  nested(c);
  return State::running;
}

CallScanner::State CallScanner::name_ends() {
  if (!unquote(word_, name_) || name_.empty()) return State::failed;
  if (known_ != nullptr && std::find(known_->begin(), known_->end(), name_) == known_->end()) return State::failed;
  named_ = true;
  place_ = Place::after_value;
  return State::running;
}

// "f[ARGS]", perhaps with an id between: "f[CALL_ID]123456789[ARGS]".
CallScanner::State CallScanner::bare_name(char c, AnswerPieces& out) {
  constexpr std::string_view kArguments = "[ARGS]", kId = "[CALL_ID]";
  const std::size_t bracket = word_.find('[');
  const bool letter = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.' || c == ':' || c == '/';
  if (word_.size() > kWordMax) return State::failed;
  if (bracket == std::string::npos) {
    if (is_space(c) && word_.empty()) return State::running;
    if (!letter && !(c == '[' && !word_.empty())) return State::failed;
    word_ += c;
    return State::running;
  }
  const std::string_view tail = std::string_view(word_).substr(bracket);
  const bool in_tag = kArguments.starts_with(tail) || kId.starts_with(tail);
  if (in_tag && tail != kId) {
    const std::string longer = std::string(tail) + c;
    if (!kArguments.starts_with(longer) && !kId.starts_with(longer)) return State::failed;
  }
  word_ += c;
  if (!word_.ends_with(kArguments)) return State::running;
  name_ = word_.substr(0, bracket);
  begin(out);
  place_ = Place::bare_before;
  return State::running;
}

CallScanner::State CallScanner::close(AnswerPieces& out) {
  if (!named_) return State::failed;
  if (!begun_) begin(out);
  if (!argued_) out.argument(index_, "{}");
  return State::done;
}

void CallScanner::begin(AnswerPieces& out) {
  begun_ = true;
  out.begin(index_, name_);
  if (!waiting_.empty()) out.argument(index_, waiting_);
  waiting_.clear();
}

void CallScanner::pass_on(std::string_view arguments, AnswerPieces& out) {
  if (begun_) {
    out.argument(index_, arguments);
  } else {
    waiting_ += arguments;
  }
}

bool CallScanner::nested(char c) {
  if (string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      string_ = false;
    }
    return false;
  }
  if (c == '"') string_ = true;
  if (c == '{' || c == '[') ++depth_;
  if ((c == '}' || c == ']') && depth_ > 0) return --depth_ == 0;
  return false;
}

bool CallScanner::quoted(char c) {
  word_ += c;
  if (escaped_) {
    escaped_ = false;
  } else if (c == '\\') {
    escaped_ = true;
  } else if (c == '"') {
    return true;
  }
  return false;
}

}  // namespace tokenworks::gateway
