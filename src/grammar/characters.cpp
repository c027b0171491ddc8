#include "grammar/characters.hpp"

#include <algorithm>
#include <cstdio>

namespace tokenworks::grammar {
namespace {

constexpr char32_t kLast = 0x10FFFF;

std::string utf8(char32_t c) {
  std::string s;
  if (c < 0x80) {
    s += static_cast<char>(c);
  } else if (c < 0x800) {
    s += static_cast<char>(0xC0 | c >> 6);
    s += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    s += static_cast<char>(0xE0 | c >> 12);
    s += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    s += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    s += static_cast<char>(0xF0 | c >> 18);
    s += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    s += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    s += static_cast<char>(0x80 | (c & 0x3F));
  }
  return s;
}

// The UTF-8 of [low, high], all of one length, as byte sequences. Splits where a trailing byte would wrap.
void utf8_range(const std::string& low, const std::string& high, std::vector<Expr>& to) {
  const auto byte = [](const std::string& s, std::size_t i) {
    return static_cast<unsigned>(static_cast<unsigned char>(s[i]));
  };
  const std::size_t n = low.size();
  const auto span = [&](const std::string& a, const std::string& b) {
    std::vector<Expr> parts;
    for (std::size_t i = 0; i < n; ++i) parts.push_back(any_of(ByteSet::range(byte(a, i), byte(b, i))));
    to.push_back(sequence(std::move(parts)));
  };
  std::size_t same = 0;
  while (same < n && low[same] == high[same]) ++same;
  const auto tail_is = [&](const std::string& s, char c) {
    return std::all_of(s.begin() + static_cast<std::ptrdiff_t>(std::min(n, same + 1)), s.end(),
                       [&](char x) { return x == c; });
  };
  if (same + 1 >= n || (tail_is(low, '\x80') && tail_is(high, '\xBF'))) return span(low, high);
  if (!tail_is(low, '\x80')) {  // up to the end of low's block
    std::string end = low;
    std::fill(end.begin() + static_cast<std::ptrdiff_t>(same) + 1, end.end(), '\xBF');
    utf8_range(low, end, to);
    std::string next = low;
    next[same] = static_cast<char>(byte(low, same) + 1);
    std::fill(next.begin() + static_cast<std::ptrdiff_t>(same) + 1, next.end(), '\x80');
    return utf8_range(next, high, to);
  }
  std::string begin = high;  // from the start of high's block
  std::fill(begin.begin() + static_cast<std::ptrdiff_t>(same) + 1, begin.end(), '\x80');
  std::string before = high;
  before[same] = static_cast<char>(byte(high, same) - 1);
  std::fill(before.begin() + static_cast<std::ptrdiff_t>(same) + 1, before.end(), '\xBF');
  utf8_range(low, before, to);
  utf8_range(begin, high, to);
}

void plain_range(char32_t low, char32_t high, std::vector<Expr>& to) {
  constexpr std::pair<char32_t, char32_t> kLengths[] = {
      {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, kLast}};
  for (const auto& [first, last] : kLengths) {
    const char32_t a = std::max(low, first), b = std::min(high, last);
    if (a <= b) utf8_range(utf8(a), utf8(b), to);
  }
}

std::string json_escape(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  char text[8];
  std::snprintf(text, sizeof text, "\\u%04x", static_cast<unsigned>(c));
  return text;
}

bool escaped_in_json(char32_t c) { return c < 0x20 || c == '"' || c == '\\'; }

}  // namespace

CharacterSet CharacterSet::all() {
  CharacterSet s;
  s.ranges_ = {{0, 0xD7FF}, {0xE000, kLast}};
  return s;
}

void CharacterSet::add(char32_t low, char32_t high) {
  std::vector<std::pair<char32_t, char32_t>> out;
  for (const auto& r : ranges_) {
    if (r.second + 1 < low || high + 1 < r.first) {
      out.push_back(r);
    } else {
      low = std::min(low, r.first);
      high = std::max(high, r.second);
    }
  }
  out.emplace_back(low, high);
  std::sort(out.begin(), out.end());
  ranges_ = std::move(out);
}

void CharacterSet::add(const CharacterSet& other) {
  for (const auto& r : other.ranges_) add(r.first, r.second);
}

void CharacterSet::remove(char32_t low, char32_t high) {
  std::vector<std::pair<char32_t, char32_t>> out;
  for (const auto& r : ranges_) {
    if (r.first < low) out.emplace_back(r.first, std::min<char32_t>(r.second, low - 1));
    if (r.second > high) out.emplace_back(std::max<char32_t>(r.first, high + 1), r.second);
  }
  ranges_ = std::move(out);
}

CharacterSet CharacterSet::inverse() const {
  CharacterSet s = all();
  for (const auto& r : ranges_) s.remove(r.first, r.second);
  return s;
}

Expr spelled(const CharacterSet& set, Spelling how) {
  std::vector<Expr> parts;
  for (auto [low, high] : set.ranges()) {
    if (how == Spelling::json) {
      for (char32_t c = low; c <= high && c <= '\\'; ++c) {
        if (escaped_in_json(c)) parts.push_back(literal(json_escape(c)));
      }
      constexpr std::pair<char32_t, char32_t> kBare[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, kLast}};
      for (const auto& [first, last] : kBare) {
        const char32_t a = std::max(low, first), b = std::min(high, last);
        if (a <= b) plain_range(a, b, parts);
      }
    } else {
      plain_range(low, high, parts);
    }
  }
  return choice(std::move(parts));
}

Expr spelled_text(std::string_view text, Spelling how) {
  if (how == Spelling::plain) return literal(text);
  std::string out;
  for (const char c : text) {
    const auto b = static_cast<unsigned char>(c);
    if (escaped_in_json(b)) {
      out += json_escape(b);
    } else {
      out += c;
    }
  }
  return literal(out);
}

Expr any_character(Spelling how) {
  static const Expr kPlain = spelled(CharacterSet::all(), Spelling::plain),
                    kJson = spelled(CharacterSet::all(), Spelling::json);
  return how == Spelling::plain ? kPlain : kJson;
}

std::optional<char32_t> read_hexadecimal(std::string_view text, std::size_t& at, std::size_t digits) {
  char32_t value = 0;
  for (std::size_t i = 0; i < digits; ++i, ++at) {
    const char c = at < text.size() ? text[at] : ' ';
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + static_cast<char32_t>(digit);
  }
  return value;
}

}  // namespace tokenworks::grammar
