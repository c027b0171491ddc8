// Filters that make text from text.
#include <algorithm>

#include "tokenizer/jinja_filters.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

Value do_upper(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "upper", a, {});
  return m.text(map_case(text_of(m, v), true));
}
Value do_lower(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "lower", a, {});
  return m.text(map_case(text_of(m, v), false));
}
Value do_capitalize(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "capitalize", a, {});
  return m.text(capitalize(text_of(m, v)));
}

// Jinja's own title: a word begins behind white space, hyphens and opening brackets only.
Value do_title(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "title", a, {});
  const Text text = text_of(m, v);
  Text out;
  bool first = true;
  const auto starts = character_starts(text.bytes());
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const char32_t c = utf8_decode(text.bytes(), starts[i]);
    const Text letter = text.slice(starts[i], starts[i + 1]);
    const bool separates = is_python_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    out.append(separates ? letter : map_case(letter, first));
    first = separates;
  }
  return m.text(std::move(out));
}

Value do_trim(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "trim", a, {"chars"});
  const Text* set = p.text(0);
  return m.text(strip(text_of(m, v), Side::both, set != nullptr ? &set->bytes() : nullptr));
}

Value do_replace(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "replace", a, {"old", "new", "count"}, 2);
  const Text text = text_of(m, v), old = text_of(m, p.value(0)), with = text_of(m, p.value(1));
  const std::int64_t count = p.has(2) && !p.value(2).is_none() ? p.integer(2, -1) : -1;
  // An upper bound of the result, so that a replacement cannot make more than may be kept.
  const std::size_t places = old.empty() ? text.size() + 1 : text.size() / old.size() + 1;
  if (m.failed() || (with.size() > 0 && places > Machine::kTextBytesMax * 4 / with.size())) {
    return m.fail("replace would make too long a text");
  }
  return m.text(replace(text, old.bytes(), with, count));
}

Value do_indent(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "indent", a, {"width", "first", "blank"});
  if (v.text() == nullptr) {
    return v.is_undefined() ? m.fail_undefined(v) : m.fail(std::string("indent of a ") + v.type_name());
  }
  Text margin;
  if (p.value(0).text() != nullptr) {
    margin = *p.value(0).text();
  } else {
    const std::int64_t width = p.integer(0, 4);
    if (width > 10'000) return m.fail("indent: the width is too large");
    margin = Text(std::string(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' '), true);
  }
  const bool blank = p.truth(2, false);
  Text ended = *v.text();
  ended.append("\n", true);
  const auto lines = split_lines(ended);
  if (lines.size() * margin.size() > Machine::kTextBytesMax) return m.fail("indent would make too long a text");
  Text out;
  if (p.truth(1, false)) out.append(margin);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", true);
    if (i > 0 && (blank || !lines[i].empty())) out.append(margin);
    out.append(lines[i]);
  }
  return m.text(std::move(out));
}

Value do_center(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "center", a, {"width"});
  const std::int64_t width = p.integer(0, 80);
  if (width > 1'000'000) return m.fail("center: the width is too large");
  return m.text(
      pad(text_of(m, v), static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), Side::both, Text(" ", true)));
}

Value do_truncate(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "truncate", a, {"length", "killwords", "end", "leeway"});
  const Text end = p.has(2) ? text_of(m, p.value(2)) : Text("...", true);
  const std::int64_t length = p.integer(0, 255), leeway = p.has(3) && !p.value(3).is_none() ? p.integer(3, 5) : 5;
  const auto end_length = static_cast<std::int64_t>(count_characters(end.bytes()));
  if (length < end_length || leeway < 0) return m.fail("truncate: the length is too small");
  const auto have = m.length(v);
  if (!have || *have <= length + leeway) return v;   // anything with a length may pass
  if (v.text() == nullptr) return m.fail(std::string("truncate of a ") + v.type_name());
  const Text& text = *v.text();
  Text kept = text.slice(0, character_offset(text.bytes(), static_cast<std::size_t>(length - end_length)));
  if (!p.truth(1, false)) {
    const std::size_t space = kept.bytes().rfind(' ');
    if (space != std::string::npos) kept = kept.slice(0, space);
  }
  kept.append(end);
  return m.text(std::move(kept));
}

Value do_wordcount(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "wordcount", a, {});
  const Text text = text_of(m, v);
  std::int64_t count = 0;
  bool inside = false;
  for (std::size_t at = 0; at < text.size(); at += utf8_length(text.bytes()[at])) {
    const char32_t c = utf8_decode(text.bytes(), at);
    const bool word = c == '_' || is_alnum(c);
    count += word && !inside;
    inside = word;
  }
  return count;
}

Value do_escape(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "escape", a, {});
  const Text text = text_of(m, v);
  static constexpr std::pair<char, const char*> kEscapes[] = {
      {'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
  Text out;
  std::size_t done = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    for (const auto& [c, escape] : kEscapes) {
      if (text.bytes()[i] != c) continue;
      out.append(text.slice(done, i));
      out.append(escape, text.trusted_at(i));
      done = i + 1;
    }
  }
  out.append(text.slice(done, text.size()));
  return m.text(std::move(out));
}

std::string url_quoted(std::string_view text, bool query) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (std::isalnum(u) || c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !query)) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += {'%', kHex[u >> 4], kHex[u & 15]};
    }
  }
  return out;
}

Value do_urlencode(Machine& m, const Value& v, Arguments& a) {
  Parameters p(m, "urlencode", a, {});
  if (v.dict() == nullptr && v.sequence() == nullptr) {
    const Text text = text_of(m, v);
    return m.text(url_quoted(text.bytes(), false), text.all_trusted());
  }
  std::string out;
  bool trusted = true;
  const Value pairs = v.dict() != nullptr ? m.filter("items", v, a) : v;
  for (const auto items = m.iterate(pairs); const Value& pair : *items) {
    const auto parts = m.iterate(pair);
    if (parts->size() != 2) return m.fail("urlencode of a list takes pairs");
    const Text k = text_of(m, (*parts)[0]), w = text_of(m, (*parts)[1]);
    out += (out.empty() ? "" : "&") + url_quoted(k.bytes(), true) + "=" + url_quoted(w.bytes(), true);
    trusted = trusted && k.all_trusted() && w.all_trusted();
  }
  return m.text(std::move(out), trusted);
}

Value do_format(Machine& m, const Value& v, Arguments& a) {
  const Text format = text_of(m, v);
  if (!a.named.empty()) {
    if (!a.items.empty()) return m.fail("format takes arguments by position or by name, not both");
    auto d = std::make_shared<Dict>();
    for (auto& [name, value] : a.named) m.put(*d, m.text(name, true), std::move(value));
    return format_percent(m, format, m.dict(std::move(d)));
  }
  return format_percent(m, format, m.list(std::move(a.items), Sequence::Kind::tuple));
}

constexpr NamedFilter kFilters[] = {
    {"capitalize", do_capitalize}, {"center", do_center},       {"e", do_escape},           {"escape", do_escape},
    {"forceescape", do_escape},    {"format", do_format},       {"indent", do_indent},      {"lower", do_lower},
    {"replace", do_replace},       {"title", do_title},         {"trim", do_trim},          {"truncate", do_truncate},
    {"upper", do_upper},           {"urlencode", do_urlencode}, {"wordcount", do_wordcount}};

}  // namespace

std::span<const NamedFilter> text_filters() { return kFilters; }

}  // namespace tokenworks::tokenizer::jinja
