#include "tokenizer/jinja_text.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cassert>

#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

// Calls `each(character, begin, end)` for every character until it returns false.
template <class Each>
void characters(std::string_view text, Each each) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at + utf8_length(text[at]);
    if (!each(utf8_decode(text, at), at, end)) return;
    at = end;
  }
}

std::string upper_of(char32_t c) {
  if (c == 0xDF) return "SS";                        // the one common letter whose upper case is two
  std::string out;
  utf8_append(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  return out;
}

std::string lower_of(char32_t c) {
  if (c == 0x130) return "i\xCC\x87";
  std::string out;
  utf8_append(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  return out;
}

std::string title_of(char32_t c) {
  if (c == 0xDF) return "Ss";
  std::string out;
  utf8_append(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  return out;
}

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool is_cased(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

}  // namespace

Text::Text(std::string bytes, bool trusted) : bytes_(std::move(bytes)) {
  if (!bytes_.empty()) runs_.push_back({bytes_.size(), trusted});
}

bool Text::trusted_at(std::size_t byte) const {
  const auto run = std::ranges::upper_bound(runs_, byte, {}, &Run::end);
  return run != runs_.end() && run->trusted;
}

void Text::append(std::string_view bytes, bool trusted) {
  if (bytes.empty()) return;
  bytes_ += bytes;
  if (!runs_.empty() && runs_.back().trusted == trusted) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), trusted});
  }
}

void Text::append(const Text& other) {
  std::size_t begin = 0;
  for (const Run& run : other.runs_) {
    append(std::string_view(other.bytes_).substr(begin, run.end - begin), run.trusted);
    begin = run.end;
  }
}

Text Text::slice(std::size_t begin, std::size_t end) const {
  Text out;
  end = std::min(end, size());
  if (begin >= end) return out;
  out.bytes_ = bytes_.substr(begin, end - begin);
  for (auto run = std::ranges::upper_bound(runs_, begin, {}, &Run::end); run != runs_.end(); ++run) {
    out.runs_.push_back({std::min(run->end, end) - begin, run->trusted});
    if (run->end >= end) break;
  }
  return out;
}

std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::size_t character_offset(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  while (index-- > 0 && at < text.size()) at += utf8_length(text[at]);
  return at;
}

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> out;
  for (std::size_t at = 0; at < text.size(); at += utf8_length(text[at])) out.push_back(at);
  out.push_back(text.size());
  return out;
}

bool is_python_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_line_end(char32_t c) {
  return (c >= 10 && c <= 13) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

Text strip(const Text& text, Side side, const std::string* set) {
  const auto drop = [&](char32_t c) {
    if (set == nullptr) return is_python_space(c);
    bool found = false;
    characters(*set, [&](char32_t s, std::size_t, std::size_t) { return !(found = s == c); });
    return found;
  };
  const std::string& bytes = text.bytes();
  std::size_t begin = 0, end = bytes.size();
  if (side != Side::right) {
    while (begin < end && drop(utf8_decode(bytes, begin))) begin += utf8_length(bytes[begin]);
  }
  while (side != Side::left && end > begin) {
    std::size_t last = end - 1;
    while ((static_cast<unsigned char>(bytes[last]) & 0xC0) == 0x80) --last;
    if (!drop(utf8_decode(bytes, last))) break;
    end = last;
  }
  return text.slice(begin, end);
}

Text replace(const Text& text, const std::string& old, const Text& with, std::int64_t count) {
  Text out;
  const std::string& bytes = text.bytes();
  std::size_t done = 0;
  if (old.empty()) {                                 // between all characters, as Python does
    for (std::size_t at = 0; count != 0; --count) {
      out.append(with);
      if (at >= bytes.size()) return out;
      const std::size_t next = at + utf8_length(bytes[at]);
      out.append(text.slice(at, next));
      done = at = next;
    }
  } else {
    for (std::size_t at = 0; count != 0 && (at = bytes.find(old, done)) != std::string::npos; --count) {
      out.append(text.slice(done, at));
      out.append(with);
      done = at + old.size();
    }
  }
  out.append(text.slice(done, bytes.size()));
  return out;
}

namespace {

std::vector<Text> split_spaces(const Text& text, std::int64_t count, bool from_right) {
  std::vector<Text> out;
  Text rest = strip(text, from_right ? Side::right : Side::left);
  while (!rest.empty() && count-- != 0) {
    const std::string& bytes = rest.bytes();
    std::size_t begin = 0, end = bytes.size();       // of the word at the near end
    if (from_right) {
      characters(bytes, [&](char32_t c, std::size_t, std::size_t after) {
        if (is_python_space(c)) begin = after;
        return true;
      });
    } else {
      characters(bytes, [&](char32_t c, std::size_t at, std::size_t) {
        if (is_python_space(c)) return end = at, false;
        return true;
      });
    }
    out.push_back(rest.slice(begin, end));
    rest = from_right ? strip(rest.slice(0, begin), Side::right) : strip(rest.slice(end, bytes.size()), Side::left);
  }
  if (!rest.empty()) out.push_back(rest);            // the count was reached: the far end keeps its spaces
  if (from_right) std::ranges::reverse(out);
  return out;
}

}  // namespace

std::vector<Text> split(const Text& text, const std::string* separator, std::int64_t count, bool from_right) {
  if (separator == nullptr) return split_spaces(text, count, from_right);
  assert(!separator->empty());
  std::vector<Text> out;
  const std::string& bytes = text.bytes();
  std::size_t begin = 0, end = bytes.size();
  if (from_right) {
    for (; count != 0 && end >= separator->size(); --count) {
      const std::size_t at = bytes.rfind(*separator, end - separator->size());
      if (at == std::string::npos) break;
      out.push_back(text.slice(at + separator->size(), end));
      end = at;
    }
    out.push_back(text.slice(0, end));
    std::ranges::reverse(out);
    return out;
  }
  for (std::size_t at = 0; count != 0 && (at = bytes.find(*separator, begin)) != std::string::npos; --count) {
    out.push_back(text.slice(begin, at));
    begin = at + separator->size();
  }
  out.push_back(text.slice(begin, end));
  return out;
}

std::vector<Text> split_lines(const Text& text, bool keep_ends) {
  std::vector<Text> out;
  const std::string& bytes = text.bytes();
  std::size_t begin = 0;
  characters(bytes, [&](char32_t c, std::size_t at, std::size_t after) {
    if (at < begin || !is_line_end(c)) return true;  // the \n of a \r\n was taken already
    if (c == '\r' && after < bytes.size() && bytes[after] == '\n') ++after;
    out.push_back(text.slice(begin, keep_ends ? after : at));
    begin = after;
    return true;
  });
  if (begin < bytes.size()) out.push_back(text.slice(begin, bytes.size()));
  return out;
}

Text join(const Text& separator, const std::vector<Text>& items) {
  Text out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator);
    out.append(items[i]);
  }
  return out;
}

namespace {

// Every character replaced by what `change(character, index)` makes of it; the marks stay.
template <class Change>
Text changed(const Text& text, Change change) {
  Text out;
  std::size_t index = 0;
  characters(text.bytes(), [&](char32_t c, std::size_t at, std::size_t) {
    out.append(change(c, index++), text.trusted_at(at));
    return true;
  });
  return out;
}

}  // namespace

Text map_case(const Text& text, bool upper) {
  return changed(text, [&](char32_t c, std::size_t) { return upper ? upper_of(c) : lower_of(c); });
}

Text capitalize(const Text& text) {
  return changed(text, [](char32_t c, std::size_t index) { return index == 0 ? title_of(c) : lower_of(c); });
}

Text title(const Text& text) {
  bool inside = false;
  return changed(text, [&](char32_t c, std::size_t) {
    const bool first = !inside;
    inside = is_cased(c);
    return inside ? (first ? title_of(c) : lower_of(c)) : lower_of(c);
  });
}

Text swap_case(const Text& text) {
  return changed(
      text, [](char32_t c, std::size_t) { return category(c) == UTF8PROC_CATEGORY_LU ? lower_of(c) : upper_of(c); });
}

Text reverse(const Text& text) {
  Text out;
  const auto starts = character_starts(text.bytes());
  for (std::size_t i = starts.size() - 1; i-- > 0;) out.append(text.slice(starts[i], starts[i + 1]));
  return out;
}

Text pad(const Text& text, std::size_t width, Side side, const Text& fill) {
  const std::size_t have = count_characters(text.bytes());
  if (have >= width) return text;
  const std::size_t missing = width - have;
  // str.center puts the odd space left when the width is odd as well (CPython's unicode_center).
  const std::size_t left = side == Side::left ? missing : side == Side::right ? 0 : missing / 2 + (missing & width & 1);
  Text out;
  for (std::size_t i = 0; i < left; ++i) out.append(fill);
  out.append(text);
  for (std::size_t i = left; i < missing; ++i) out.append(fill);
  return out;
}

bool all_characters(std::string_view text, const std::function<bool(char32_t)>& test) {
  bool all = !text.empty();
  characters(text, [&](char32_t c, std::size_t, std::size_t) { return all = test(c); });
  return all;
}

bool is_alpha(char32_t c) {
  const auto k = category(c);
  return is_cased(c) || k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_LO;
}
bool is_digit(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_alnum(char32_t c) {
  const auto k = category(c);
  return is_alpha(c) || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
bool is_printable(char32_t c) {
  if (c == ' ') return true;
  const auto k = category(c);
  return k != UTF8PROC_CATEGORY_CC && k != UTF8PROC_CATEGORY_CF && k != UTF8PROC_CATEGORY_CS &&
         k != UTF8PROC_CATEGORY_CO && k != UTF8PROC_CATEGORY_CN && k != UTF8PROC_CATEGORY_ZL &&
         k != UTF8PROC_CATEGORY_ZP && k != UTF8PROC_CATEGORY_ZS;
}

bool is_cased_as(std::string_view text, bool upper) {
  bool cased = false, right = true;
  characters(text, [&](char32_t c, std::size_t, std::size_t) {
    if (is_cased(c)) {
      cased = true;
      right = (category(c) == UTF8PROC_CATEGORY_LU) == upper && category(c) != UTF8PROC_CATEGORY_LT;
    }
    return right;
  });
  return cased && right;
}

}  // namespace tokenworks::tokenizer::jinja
