#include "grammar/regex.hpp"

#include <memory>
#include <string>
#include <vector>

namespace tokenworks::grammar {
namespace {

constexpr std::int64_t kRepeatMax = 100'000;

// The pattern as a tree, before anchors are resolved.
struct Part {
  enum class Kind : std::uint8_t { characters, sequence, choice, repeat, begin, end } kind = Kind::sequence;
  CharacterSet set;
  std::vector<Part> parts;
  std::int64_t min = 0, max = 0;
};

CharacterSet range_set(std::initializer_list<std::pair<char32_t, char32_t>> ranges) {
  CharacterSet s;
  for (const auto& r : ranges) s.add(r.first, r.second);
  return s;
}
const CharacterSet& digits() {
  static const CharacterSet s = range_set({{'0', '9'}});
  return s;
}
const CharacterSet& word() {
  static const CharacterSet s = range_set({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}});
  return s;
}
const CharacterSet& space() {
  static const CharacterSet s = range_set({{9, 13}, {32, 32}});
  return s;
}
// The inverse within ASCII: beyond it the dialects disagree.
CharacterSet ascii_inverse(const CharacterSet& set) {
  CharacterSet s = set.inverse();
  s.remove(0x80, 0x10FFFF);
  s.remove(0x1C, 0x1F);  // white space in Python only
  return s;
}

class Parser {
 public:
  Parser(std::string_view text, std::size_t depth_max, const std::string& where, Budget& budget)
      : text_(text), depth_max_(depth_max), where_(where), budget_(budget) {}

  Part run() {
    Part all = choice(0);
    if (budget_.ok() && at_ < text_.size()) fail("has a ) without its (");
    return all;
  }

 private:
  void fail(const std::string& what) {
    budget_.fail(where_ + " " + what + ", at character " + std::to_string(at_ + 1) + " of '" +
                 std::string(text_.substr(0, 200)) + "'");
  }
  bool more() const { return at_ < text_.size() && budget_.ok(); }
  bool take(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Part choice(std::size_t depth) {
    Part all{.kind = Part::Kind::choice};
    if (depth > depth_max_) fail("nests too deeply");
    do {
      all.parts.push_back(sequence(depth));
    } while (take('|') && budget_.step());
    if (all.parts.size() > 1) return all;
    Part only = std::move(all.parts[0]);
    return only;
  }

  Part sequence(std::size_t depth) {
    Part all{.kind = Part::Kind::sequence};
    while (more() && text_[at_] != '|' && text_[at_] != ')' && budget_.step()) {
      Part part = atom(depth);
      quantify(part);
      all.parts.push_back(std::move(part));
    }
    return all;
  }

  void quantify(Part& part) {
    std::int64_t min = 1, max = 1;
    bool any = false;
    while (more()) {
      if (take('*')) {
        min = 0, max = -1;
      } else if (take('+')) {
        min = 1, max = -1;
      } else if (take('?')) {
        min = 0, max = 1;
      } else if (text_[at_] == '{' && braces(min, max)) {
      } else {
        return;
      }
      if (!budget_.ok()) return;
      if (any) return fail("repeats a repetition");
      if (part.kind == Part::Kind::begin || part.kind == Part::Kind::end) return fail("repeats an anchor");
      any = true;
      Part inner = std::move(part);
      part = Part{.kind = Part::Kind::repeat, .min = min, .max = max};
      part.parts.push_back(std::move(inner));
      take('?');  // lazy: the same strings match
      if (more() && text_[at_] == '+') return fail("uses a possessive quantifier, which is not supported");
    }
  }

  // {n}, {n,}, {n,m}; anything else in braces is literal text.
  bool braces(std::int64_t& min, std::int64_t& max) {
    const std::size_t start = at_;
    ++at_;
    const auto number = [&]() -> std::int64_t {
      std::int64_t n = -1;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
        n = (n < 0 ? 0 : n) * 10 + (text_[at_++] - '0');
        if (n > kRepeatMax) fail("repeats too often"), n = 0;
      }
      return n;
    };
    min = number();
    max = min;
    if (take(',')) max = number();
    if (min < 0 || !take('}')) {
      at_ = start;
      return false;
    }
    if (max >= 0 && max < min) fail("has a repetition whose end is below its start");
    return true;
  }

  Part characters(CharacterSet set) { return Part{.kind = Part::Kind::characters, .set = std::move(set)}; }
  Part character(char32_t c) {
    CharacterSet s;
    s.add(c, c);
    return characters(std::move(s));
  }

  Part atom(std::size_t depth) {
    switch (text_[at_]) {
      case '(':
        return group(depth);
      case '[':
        return bracket();
      case '.': {
        ++at_;
        CharacterSet s = CharacterSet::all();
        for (const char32_t c : {U'\n', U'\r', U'\x2028', U'\x2029'}) s.remove(c, c);
        return characters(std::move(s));
      }
      case '^':
        ++at_;
        return Part{.kind = Part::Kind::begin};
      case '$':
        ++at_;
        return Part{.kind = Part::Kind::end};
      case '\\': {
        CharacterSet set;
        bool dialect = false;
        escape(set, false, dialect);
        return characters(std::move(set));
      }
      case '*':
      case '+':
      case '?':
        fail("has nothing to repeat");
        return {};
      default:
        return character(next());
    }
  }

  Part group(std::size_t depth) {
    ++at_;
    if (take('?')) {
      if (take(':')) {
      } else if (more() && (text_[at_] == 'P' || text_[at_] == '<') && text_.substr(at_, 2) != "<=" &&
                 text_.substr(at_, 2) != "<!" && text_.substr(at_, 2) != "P=") {
        const std::size_t end = text_.find('>', at_);
        if (end == std::string_view::npos) fail("has a group name without its end");
        at_ = std::min(end, text_.size() - 1) + 1;
      } else {
        fail("uses a look-around, a back reference or an inline flag, which are not supported");
      }
    }
    Part inside = choice(depth + 1);
    if (budget_.ok() && !take(')')) fail("has a ( without its )");
    return inside;
  }

  char32_t next() {  // one character of valid UTF-8
    const auto b = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text_[at_ + i])); };
    const char32_t lead = b(0);
    const std::size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    char32_t c = n == 1 ? lead : lead & (0x7Fu >> n);
    for (std::size_t i = 1; i < n; ++i) c = c << 6 | (b(i) & 0x3F);
    at_ += n;
    return c;
  }

  char32_t hex(std::size_t n) {
    const auto value = read_hexadecimal(text_, at_, n);
    if (!value) fail("has an escape without its hexadecimal digits");
    return value.value_or(0);
  }

  // An escape into `set`; returns the single character it stands for, or a class: 0xFFFFFFFF.
  char32_t escape(CharacterSet& set, bool in_class, bool& dialect) {
    constexpr char32_t kClass = 0xFFFFFFFF;
    ++at_;
    if (!more()) {
      fail("ends in a backslash");
      return 0;
    }
    const char c = text_[at_];
    const auto one = [&](char32_t x) {
      set.add(x, x);
      return x;
    };
    const auto cls = [&](const CharacterSet& s) {
      set.add(s);
      dialect = true;
      return kClass;
    };
    if (static_cast<unsigned char>(c) >= 0x80) return one(next());
    ++at_;
    switch (c) {
      case 'd':
        return cls(digits());
      case 'w':
        return cls(word());
      case 's':
        return cls(space());
      case 'D':
        return cls(ascii_inverse(digits()));
      case 'W':
        return cls(ascii_inverse(word()));
      case 'S':
        return cls(ascii_inverse(space()));
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        return one(0);
      case 'x':
        return one(hex(2));
      case 'u': {
        char32_t x = 0;
        if (take('{')) {
          while (more() && text_[at_] != '}' && x <= 0x10FFFF) x = x * 16 + hex(1);
          if (!take('}')) fail("has \\u{ without its }");
        } else {
          x = hex(4);
          if (x >= 0xD800 && x < 0xDC00 && text_.substr(at_, 2) == "\\u") {
            at_ += 2;
            const char32_t low = hex(4);
            x = 0x10000 + ((x - 0xD800) << 10) + (low - 0xDC00);
          }
        }
        if (x > 0x10FFFF || (x >= 0xD800 && x < 0xE000)) {
          fail("names a code point that is no character");
          return 0;
        }
        return one(x);
      }
      case 'b':
        if (in_class) return one('\b');
        [[fallthrough]];
      default:
        break;
    }
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9')) {
      fail(std::string("uses the escape \\") + c + ", which is not supported");
      return 0;
    }
    return one(static_cast<unsigned char>(c));
  }

  Part bracket() {
    ++at_;
    const bool inverted = take('^');
    CharacterSet set;
    bool dialect = false, first = true;
    while (more() && (text_[at_] != ']' || first) && budget_.step()) {
      if (text_[at_] == ']' && first) break;  // [] and [^]: nothing, everything (ECMA 262)
      first = false;
      if (text_.substr(at_, 2) == "[:") fail("uses a POSIX class, which is not supported");
      const auto item = [&](CharacterSet& into) { return text_[at_] == '\\' ? escape(into, true, dialect) : next(); };
      CharacterSet single;
      const char32_t low = item(single);
      if (low == 0xFFFFFFFF) {
        set.add(single);
      } else if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
        ++at_;
        const char32_t high = item(single);
        if (high == 0xFFFFFFFF || high < low) {
          fail("has a character range whose end is below its start");
          break;
        }
        set.add(low, high);
      } else {
        set.add(low, low);
      }
    }
    if (!take(']')) fail("has a [ without its ]");
    if (inverted) {
      set = set.inverse();
      if (dialect) {
        set.remove(0x80, 0x10FFFF);
        set.remove(0x1C, 0x1F);
      }
    }
    set.remove(0xD800, 0xDFFF);
    return characters(std::move(set));
  }

  std::string_view text_;
  std::size_t depth_max_, at_ = 0;
  const std::string& where_;
  Budget& budget_;
};

class Lowerer {
 public:
  Lowerer(Spelling spelling, const std::string& where, Budget& budget)
      : spelling_(spelling), where_(where), budget_(budget) {}

  Expr plain(const Part& part) {
    if (!budget_.step()) return nothing();
    std::vector<Expr> parts;
    switch (part.kind) {
      case Part::Kind::characters:
        return spelled(part.set, spelling_);
      case Part::Kind::begin:
      case Part::Kind::end:
        budget_.fail(where_ + " has ^ or $ in its middle, which is not supported");
        return nothing();
      case Part::Kind::repeat:
        return repeat(plain(part.parts[0]), part.min, part.max);
      case Part::Kind::sequence:
      case Part::Kind::choice:
        for (const Part& p : part.parts) parts.push_back(plain(p));
        return part.kind == Part::Kind::sequence ? sequence(std::move(parts)) : choice(std::move(parts));
    }
    return nothing();
  }

  // A pattern with anchors at its edges, also those of groups at its edges. `free`: text may stand before and after.
  Expr edges(const Part& part, bool free) {
    if (!budget_.step()) return nothing();
    if (part.kind == Part::Kind::choice) {
      std::vector<Expr> parts;
      for (const Part& p : part.parts) parts.push_back(edges(p, free));
      return choice(std::move(parts));
    }
    std::vector<Part> line;
    if (part.kind == Part::Kind::sequence) {
      line = part.parts;
    } else {
      line.push_back(part);
    }
    bool begin = !free, end = !free;
    while (!line.empty() && line.front().kind == Part::Kind::begin) begin = true, line.erase(line.begin());
    while (!line.empty() && line.back().kind == Part::Kind::end) end = true, line.pop_back();
    for (const bool front : {true, false}) {  // a group at an edge that has the anchor inside
      if (line.empty()) break;
      const std::size_t i = front ? 0 : line.size() - 1;
      const bool group = line[i].kind == Part::Kind::choice || line[i].kind == Part::Kind::sequence;
      if (!group || !anchored(line[i])) continue;
      std::vector<Part> branches;
      if (line[i].kind == Part::Kind::choice) {
        branches = line[i].parts;
      } else {
        branches.push_back(line[i]);
      }
      std::vector<Expr> all;
      for (const Part& branch : branches) {
        Part whole{.kind = Part::Kind::sequence};
        if (begin && free) whole.parts.push_back(Part{.kind = Part::Kind::begin});
        for (std::size_t k = 0; k < line.size(); ++k) {
          if (k != i) {
            whole.parts.push_back(line[k]);
          } else if (branch.kind == Part::Kind::sequence) {
            whole.parts.insert(whole.parts.end(), branch.parts.begin(), branch.parts.end());
          } else {
            whole.parts.push_back(branch);
          }
        }
        if (end && free) whole.parts.push_back(Part{.kind = Part::Kind::end});
        all.push_back(edges(whole, free));
      }
      return choice(std::move(all));
    }
    const Expr any = repeat(any_character(spelling_), 0, -1);
    std::vector<Expr> parts;
    if (!begin) parts.push_back(any);
    for (const Part& p : line) parts.push_back(plain(p));
    if (!end) parts.push_back(any);
    return sequence(std::move(parts));
  }

 private:
  static bool anchored(const Part& part) {
    if (part.kind == Part::Kind::begin || part.kind == Part::Kind::end) return true;
    if (part.kind != Part::Kind::choice && part.kind != Part::Kind::sequence) return false;
    for (const Part& p : part.parts) {
      if (anchored(p)) return true;
    }
    return false;
  }

  Spelling spelling_;
  const std::string& where_;
  Budget& budget_;
};

}  // namespace

Expr parse_regex(std::string_view pattern, Anchoring anchoring, Spelling spelling, std::size_t depth_max,
                 const std::string& where, Budget& budget) {
  const Part tree = Parser(pattern, depth_max, where, budget).run();
  if (!budget.ok()) return nothing();
  return Lowerer(spelling, where, budget).edges(tree, anchoring == Anchoring::search);
}

}  // namespace tokenworks::grammar
