#include "tokenizer/jinja_lexer.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "tokenizer/jinja_text.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

bool is_digit_byte(char c) { return c >= '0' && c <= '9'; }
bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit_byte(c) || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// "\r\n" and "\r" become "\n"; one newline at the very end is dropped.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size() && !failure_) root();
    if (failure_) return *failure_;
    add(Token::Kind::end);
    return std::move(tokens_);
  }

 private:
  bool fail(const std::string& what) {
    if (!failure_) failure_ = error(Errc::bad_file, "line " + std::to_string(line_) + ": " + what);
    return false;
  }
  Token& add(Token::Kind kind, std::string text = {}) {
    tokens_.push_back({kind, std::move(text), 0, 0, line_});
    return tokens_.back();
  }
  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  bool starts(std::string_view text) const { return rest().starts_with(text); }
  // Moves on, counting lines.
  void advance(std::size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    if (to > at_) line_starting_ = source_[to - 1] == '\n';
    at_ = to;
  }
  std::size_t skip_space(std::size_t from) const {
    while (from < source_.size() && is_python_space(utf8_decode(source_, from))) from += utf8_length(source_[from]);
    return from;
  }
  static bool all_space(std::string_view text) {
    return all_characters(text, [](char32_t c) { return is_python_space(c); });
  }
  static std::string_view trimmed_right(std::string_view text) {
    std::size_t end = 0;
    for (std::size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
      if (!is_python_space(utf8_decode(text, at))) end = at + utf8_length(text[at]);
    }
    return text.substr(0, end);
  }

  // The text in front of a tag, less what the tag's sign or lstrip_blocks takes away.
  void text_before_tag(std::size_t tag, char sign, bool variable) {
    std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    if (sign == '-') {
      text = trimmed_right(text);
    } else if (sign != '+' && !variable) {
      const std::size_t newline = text.rfind('\n'), begin = newline == std::string_view::npos ? 0 : newline + 1;
      if ((begin > 0 || line_starting_) && all_space(text.substr(begin))) text = text.substr(0, begin);
    }
    if (!text.empty()) add(Token::Kind::data, std::string(text));
  }

  void root() {
    std::size_t tag = at_;
    while ((tag = source_.find('{', tag)) != std::string::npos) {
      const char next = tag + 1 < source_.size() ? source_[tag + 1] : '\0';
      if (next == '%' || next == '{' || next == '#') break;
      ++tag;
    }
    if (tag == std::string::npos) {
      add(Token::Kind::data, source_.substr(at_));
      return advance(source_.size());
    }
    const char kind = source_[tag + 1];
    std::size_t inside = tag + 2;
    const char sign =
        inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+') ? source_[inside] : '\0';
    if (sign != '\0') ++inside;
    text_before_tag(tag, sign, kind == '{');
    if (kind == '%') {
      if (const auto raw = raw_begin(inside)) {
        advance(*raw);
        return raw_block();
      }
    }
    advance(inside);
    if (kind == '#') return comment();
    add(kind == '%' ? Token::Kind::block_begin : Token::Kind::variable_begin);
    inside_tag(kind == '%');
  }

  // Where the text of a raw block begins, when "raw" stands here.
  std::optional<std::size_t> raw_begin(std::size_t at) const {
    at = skip_space(at);
    if (source_.compare(at, 3, "raw") != 0) return std::nullopt;
    at = skip_space(at + 3);
    if (source_.compare(at, 3, "-%}") == 0) return skip_space(at + 3);
    if (source_.compare(at, 2, "%}") == 0) return at + 2;
    return std::nullopt;
  }

  void raw_block() {
    for (std::size_t tag = at_; (tag = source_.find("{%", tag)) != std::string::npos; ++tag) {
      std::size_t at = tag + 2;
      const char sign = at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
      at = skip_space(sign != '\0' ? at + 1 : at);
      if (source_.compare(at, 6, "endraw") != 0) continue;
      const auto end = tag_end(skip_space(at + 6), "%}", true);
      if (!end) continue;
      text_before_tag(tag, sign, false);
      return advance(*end);
    }
    fail("missing end of raw directive");
  }

  void comment() {
    for (std::size_t at = at_; at < source_.size(); ++at) {
      if (const auto end = tag_end(at, "#}", true)) return advance(*end);
    }
    fail("missing end of comment tag");
  }

  // Behind the end of a tag that stands at `at`, with the white space it eats; nullopt when none stands there.
  std::optional<std::size_t> tag_end(std::size_t at, std::string_view end, bool trim) const {
    if (at >= source_.size()) return std::nullopt;
    const char sign = source_[at];
    if (sign == '-' && source_.compare(at + 1, 2, end) == 0) return skip_space(at + 3);
    if (trim && sign == '+' && source_.compare(at + 1, 2, end) == 0) return at + 3;
    if (source_.compare(at, 2, end) != 0) return std::nullopt;
    at += 2;
    return trim && at < source_.size() && source_[at] == '\n' ? at + 1 : at;
  }

  void inside_tag(bool block) {
    std::string open;                                // brackets not yet closed, as their closers
    while (!failure_) {
      if (at_ >= source_.size()) return;             // the parser says what is missing
      if (open.empty()) {
        if (const auto end = tag_end(at_, block ? "%}" : "}}", block)) {
          add(block ? Token::Kind::block_end : Token::Kind::variable_end);
          return advance(*end);
        }
      }
      const std::size_t space = skip_space(at_);
      if (space > at_) {
        advance(space);
      } else if (is_digit_byte(source_[at_])) {
        number();
      } else if (is_name_byte(source_[at_])) {
        std::size_t end = at_;
        while (end < source_.size() && is_name_byte(source_[end])) ++end;
        add(Token::Kind::name, source_.substr(at_, end - at_));
        advance(end);
      } else if (source_[at_] == '"' || source_[at_] == '\'') {
        string();
      } else {
        op(open);
      }
    }
  }

  void op(std::string& open) {
    static constexpr std::string_view kTwo[] = {"**", "//", "==", "!=", ">=", "<="};
    static constexpr std::string_view kOne = "+-/*%~[](){}><=.:|,;";
    for (const std::string_view two : kTwo) {
      if (starts(two)) {
        add(Token::Kind::op, std::string(two));
        return advance(at_ + 2);
      }
    }
    const char c = source_[at_];
    if (kOne.find(c) == std::string_view::npos) {
      fail(std::string("unexpected character '") + (c >= 32 ? c : '?') + "'");
      return;
    }
    if (c == '{') open += '}';
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '}' || c == ')' || c == ']') {
      if (open.empty() || open.back() != c) {
        fail(std::string("unexpected '") + c + "'" +
             (open.empty() ? "" : std::string(", expected '") + open.back() + "'"));
        return;
      }
      open.pop_back();
    }
    add(Token::Kind::op, std::string(1, c));
    advance(at_ + 1);
  }

  // Digits with single underscores between them; the end, or `from` when there is none.
  std::size_t digits(std::size_t from) const {
    std::size_t end = from;
    while (end < source_.size() &&
           (is_digit_byte(source_[end]) ||
            (source_[end] == '_' && end > from && end + 1 < source_.size() && is_digit_byte(source_[end + 1])))) {
      ++end;
    }
    return end;
  }
  static std::string without_underscores(std::string text) {
    std::erase(text, '_');
    return text;
  }

  void number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    const std::size_t whole = digits(at_);
    std::size_t end = whole;
    if (end + 1 < source_.size() && source_[end] == '.' && is_digit_byte(source_[end + 1])) end = digits(end + 1);
    if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
      std::size_t exponent = end + 1;
      if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
      if (exponent < source_.size() && is_digit_byte(source_[exponent])) end = digits(exponent);
    }
    if (end > whole && !after_dot) {
      add(Token::Kind::number).number =
          std::strtod(without_underscores(source_.substr(at_, end - at_)).c_str(), nullptr);
      return advance(end);
    }
    int base = 10;
    std::size_t begin = at_;
    end = whole;
    if (source_[at_] == '0' && at_ + 2 < source_.size()) {
      const char mark = static_cast<char>(source_[at_ + 1] | 32);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
      if (base != 10) {
        begin = end = at_ + 2;
        while (end < source_.size() && is_name_byte(source_[end])) ++end;
      }
    }
    const std::string text = without_underscores(source_.substr(begin, end - begin));
    std::int64_t value = 0;
    const auto [stop, ec] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (ec != std::errc() || stop != text.data() + text.size()) {
      fail("the number " + source_.substr(at_, std::min<std::size_t>(end - at_, 40)) + " is not one of 64 bits");
      return;
    }
    add(Token::Kind::integer).integer = value;
    advance(end);
  }

  void string() {
    const char quote = source_[at_];
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) {
      fail(std::string("a string that begins with ") + quote + " does not end");
      return;
    }
    std::string value;
    if (!unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1), value)) return;
    add(Token::Kind::string, std::move(value));
    advance(end + 1);
  }

  // Python's escapes in str literals; unknown ones stay as they are.
  bool unescape(std::string_view text, std::string& out) {
    static constexpr std::string_view kLetters = "\\'\"abfnrtv", kMeanings = "\\'\"\a\b\f\n\r\t\v";
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char c = text[++i];                      // a backslash is never last: it would have escaped the quote
      const std::size_t known = kLetters.find(c);
      if (known != std::string_view::npos) {
        out += kMeanings[known];
      } else if (c == '\n') {
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        std::size_t n = 0;
        for (; n < 3 && i + n < text.size() && text[i + n] >= '0' && text[i + n] <= '7'; ++n) {
          value = value * 8 + static_cast<char32_t>(text[i + n] - '0');
        }
        i += n - 1;
        utf8_append(out, value);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        std::uint32_t value = 0;
        const std::string_view hex = text.substr(i + 1, digits);
        const auto [stop, ec] = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
        if (hex.size() != digits || ec != std::errc() || stop != hex.data() + hex.size()) {
          return fail(std::string("truncated \\") + c + " escape in a string");
        }
        if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
          return fail("a \\u escape in a string is no character");
        }
        utf8_append(out, value);
        i += digits;
      } else if (c == 'N') {
        return fail("\\N escapes in strings are not supported");
      } else {
        out += '\\';
        out += c;
      }
    }
    return true;
  }

  const std::string source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
  std::optional<Error> failure_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
  if (!valid_utf8(source)) return error(Errc::bad_file, "the template is not UTF-8");
  return Lexer(source).run();
}

}  // namespace tokenworks::tokenizer::jinja
