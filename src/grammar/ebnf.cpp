#include "grammar/ebnf.hpp"

#include <algorithm>
#include <map>

#include "grammar/characters.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::int64_t kRepeatMax = 100'000;

class EbnfParser {
 public:
  EbnfParser(std::string_view text, std::size_t depth_max, RuleBook& book, Budget& budget)
      : text_(text), depth_max_(depth_max), book_(book), budget_(budget) {}

  RuleId run() {
    blank(true);
    while (more()) {
      const std::string name = identifier();
      if (name.empty()) {
        fail("a rule name is expected here");
        return 0;
      }
      const RuleId rule = rule_of(name);
      blank(false);
      if (text_.substr(at_, 3) != "::=") {
        fail("::= is expected after the rule name '" + name + "'");
        return 0;
      }
      at_ += 3;
      blank(true);
      if (defined_[name]) {
        fail("the rule '" + name + "' is defined twice");
        return 0;
      }
      defined_[name] = true;
      book_.define(rule, alternatives(0));
      blank(true);
    }
    for (const auto& [name, rule] : rules_) {
      if (!defined_[name]) budget_.fail("the grammar uses the rule '" + name + "', which it does not define");
    }
    if (rules_.count("root") == 0) budget_.fail("the grammar has no rule 'root'");
    return budget_.ok() ? rules_.at("root") : 0;
  }

 private:
  void fail(const std::string& what) {
    const auto line = std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n') + 1;
    const std::size_t start = at_ == 0 ? std::string_view::npos : text_.rfind('\n', at_ - 1);
    const std::size_t column = at_ - (start == std::string_view::npos ? 0 : start + 1) + 1;
    budget_.fail("the grammar, line " + std::to_string(line) + " column " + std::to_string(column) + ": " + what);
  }
  bool more() const { return at_ < text_.size() && budget_.ok(); }
  bool take(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void blank(bool lines) {
    while (more()) {
      const char c = text_[at_];
      if (c == '#') {
        while (more() && text_[at_] != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }
  static bool name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  }
  std::string identifier() {
    const std::size_t start = at_;
    while (more() && name_character(text_[at_])) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }
  RuleId rule_of(const std::string& name) {
    const auto [at, fresh] = rules_.try_emplace(name, 0);
    if (fresh) at->second = book_.declare("the rule '" + name + "'");
    return at->second;
  }
  // Does a new rule begin here? Rules end where the next begins, also without an empty line.
  bool at_definition() const {
    std::size_t i = at_;
    while (i < text_.size() && name_character(text_[i])) ++i;
    if (i == at_) return false;
    while (i < text_.size() && (text_[i] == ' ' || text_[i] == '\t')) ++i;
    return text_.substr(i, 3) == "::=";
  }

  Expr alternatives(std::size_t depth) {
    if (depth > depth_max_) fail("groups nest too deeply");
    std::vector<Expr> all;
    do {
      blank(true);
      all.push_back(terms(depth));
    } while (take('|') && budget_.step());
    return choice(std::move(all));
  }

  Expr terms(std::size_t depth) {
    std::vector<Expr> all;
    for (;;) {
      blank(true);
      if (!more() || text_[at_] == '|' || text_[at_] == ')' || at_definition() || !budget_.step()) break;
      Expr term = primary(depth);
      for (;;) {
        if (take('*')) {
          term = repeat(std::move(term), 0, -1);
        } else if (take('+')) {
          term = repeat(std::move(term), 1, -1);
        } else if (take('?')) {
          term = optional(std::move(term));
        } else if (more() && text_[at_] == '{') {
          term = braces(std::move(term));
        } else {
          break;
        }
      }
      all.push_back(std::move(term));
    }
    return sequence(std::move(all));
  }

  Expr braces(Expr what) {
    ++at_;
    const auto number = [&]() -> std::int64_t {
      blank(false);
      std::int64_t n = -1;
      while (more() && text_[at_] >= '0' && text_[at_] <= '9') {
        n = (n < 0 ? 0 : n) * 10 + (text_[at_++] - '0');
        if (n > kRepeatMax) fail("the repetition is too long");
      }
      blank(false);
      return n;
    };
    std::int64_t min = number(), max = min;
    if (take(',')) max = number();
    if (min < 0 || !take('}') || (max >= 0 && max < min)) fail("{n}, {n,} or {n,m} with n <= m is expected here");
    return repeat(std::move(what), min, max);
  }

  Expr primary(std::size_t depth) {
    if (take('(')) {
      Expr inside = alternatives(depth + 1);
      blank(true);
      if (!take(')')) fail("a ) is missing");
      return inside;
    }
    if (take('"')) {
      std::vector<Expr> parts;
      while (more() && text_[at_] != '"' && text_[at_] != '\n' && budget_.step()) {
        CharacterSet one;
        const char32_t c = character();
        one.add(c, c);
        parts.push_back(spelled(one, Spelling::plain));
      }
      if (!take('"')) fail("the literal does not end on its line");
      return sequence(std::move(parts));
    }
    if (take('[')) return bracket();
    if (take('.')) return any_character(Spelling::plain);
    const std::string name = identifier();
    if (name.empty()) {
      fail(std::string("'") + text_[at_] + "' is not expected here");
      return nothing();
    }
    return call(rule_of(name));
  }

  Expr bracket() {
    const bool inverted = take('^');
    CharacterSet set;
    while (more() && text_[at_] != ']' && budget_.step()) {
      const char32_t low = character();
      char32_t high = low;
      if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        high = character();
      }
      if (high < low) fail("the character range ends before it begins");
      if (budget_.ok()) set.add(low, high);
    }
    if (!take(']')) fail("a ] is missing");
    set.remove(0xD800, 0xDFFF);
    return spelled(inverted ? set.inverse() : set, Spelling::plain);
  }

  char32_t hex(std::size_t n) {
    const auto value = read_hexadecimal(text_, at_, n);
    if (!value) {
      fail("the escape lacks hexadecimal digits");
    } else if (*value > 0x10FFFF || (*value >= 0xD800 && *value < 0xE000)) {
      fail("the escape names no character");
    }
    return value.value_or(0);
  }

  char32_t character() {
    if (take('\\')) {
      if (!more()) {
        fail("the text ends in a backslash");
        return 0;
      }
      const char c = text_[at_++];
      switch (c) {
        case 'n':
          return '\n';
        case 'r':
          return '\r';
        case 't':
          return '\t';
        case 'x':
          return hex(2);
        case 'u':
          return hex(4);
        case 'U':
          return hex(8);
        case '"':
        case '\\':
        case '[':
        case ']':
        case '-':
        case '^':
        case '/':
        case '\'':
          return static_cast<unsigned char>(c);
        default:
          fail(std::string("the escape \\") + c + " is not known");
          return 0;
      }
    }
    const auto b = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text_[at_ + i])); };
    const char32_t lead = b(0);
    const std::size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t c = n == 1 ? lead : lead & (0x7Fu >> n);
    for (std::size_t i = 1; i < n; ++i) c = c << 6 | (b(i) & 0x3F);
    at_ += n;
    return c;
  }

  std::string_view text_;
  std::size_t depth_max_, at_ = 0;
  RuleBook& book_;
  Budget& budget_;
  std::map<std::string, RuleId> rules_;
  std::map<std::string, bool> defined_;
};

}  // namespace

RuleId parse_ebnf(std::string_view text, std::size_t depth_max, RuleBook& book, Budget& budget) {
  return EbnfParser(text, depth_max, book, budget).run();
}

}  // namespace tokenworks::grammar
