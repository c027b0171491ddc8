// Methods of str, list, tuple and dict, as Python has them; none that changes its object.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "tokenizer/jinja_machine.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

using Kind = Sequence::Kind;
using Method = Value (*)(Machine&, const Value& self, Arguments&);

Value texts(Machine& m, std::vector<Text> parts, Kind kind = Kind::list) {
  std::vector<Value> out;
  for (Text& part : parts) out.push_back(m.text(std::move(part)));
  return m.list(std::move(out), kind);
}

// start and end of find, count, startswith: characters, as slices have them. False when the start lies behind the end.
bool window(Parameters& p, std::size_t start, std::string_view text, std::size_t& begin, std::size_t& end) {
  begin = 0, end = text.size();
  if (!p.has(start) && !p.has(start + 1)) return true;
  const auto starts = character_starts(text);
  const auto length = static_cast<std::int64_t>(starts.size()) - 1;
  const auto clamp = [&](std::int64_t at) { return std::max<std::int64_t>(at < 0 ? at + length : at, 0); };
  const std::int64_t from = p.value(start).is_none() ? 0 : clamp(p.integer(start, 0));
  const std::int64_t to = std::min(p.value(start + 1).is_none() ? length : clamp(p.integer(start + 1, length)), length);
  if (from > length || from > to) return false;
  begin = starts[static_cast<std::size_t>(from)], end = starts[static_cast<std::size_t>(to)];
  return true;
}

template <bool kUpper>
Value with_case(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, kUpper ? "upper" : "lower", a, {});
  return m.text(map_case(*self.text(), kUpper));
}
Value do_capitalize(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "capitalize", a, {});
  return m.text(capitalize(*self.text()));
}
Value do_title(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "title", a, {});
  return m.text(title(*self.text()));
}
Value do_swapcase(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "swapcase", a, {});
  return m.text(swap_case(*self.text()));
}

template <Side kSide>
Value do_strip(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "strip", a, {"chars"});
  const Text* set = p.text(0);
  return m.text(strip(*self.text(), kSide, set != nullptr ? &set->bytes() : nullptr));
}

template <bool kRight>
Value do_split(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "split", a, {"sep", "maxsplit"});
  const Text* separator = p.text(0);
  const std::int64_t count = p.integer(1, -1);
  if (separator != nullptr && separator->empty()) return m.fail("split: the separator is empty");
  if (m.failed()) return {};
  return texts(m, split(*self.text(), separator != nullptr ? &separator->bytes() : nullptr, count, kRight));
}

Value do_splitlines(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "splitlines", a, {"keepends"});
  return texts(m, split_lines(*self.text(), p.truth(0, false)));
}

template <bool kRight>
Value do_partition(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "partition", a, {"sep"}, 1);
  const Text *separator = p.text(0), &text = *self.text();
  if (separator == nullptr || separator->empty()) return m.fail("partition: the separator is missing or empty");
  const std::size_t at = kRight ? text.bytes().rfind(separator->bytes()) : text.bytes().find(separator->bytes());
  if (at == std::string::npos) {
    return texts(m, kRight ? std::vector{Text(), Text(), text} : std::vector{text, Text(), Text()}, Kind::tuple);
  }
  return texts(m, {text.slice(0, at), *separator, text.slice(at + separator->size(), text.size())}, Kind::tuple);
}

Value do_replace(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "replace", a, {"old", "new", "count"}, 2);
  if (p.text(0) == nullptr || p.text(1) == nullptr) return m.fail("replace takes two texts");
  return m.filter("replace", self, a);
}

Value do_join(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "join", a, {"iterable"}, 1);
  if (p.value(0).is_undefined()) return m.failed() ? Value() : m.text(Text());
  const auto items = m.iterate(p.value(0));
  Text out;
  for (std::size_t i = 0; i < items->size(); ++i) {
    const Text* item = (*items)[i].text();
    if (item == nullptr) return m.fail(std::string("join of a ") + (*items)[i].type_name() + " into a text");
    if (i > 0) out.append(*self.text());
    out.append(*item);
    if (out.size() > Machine::kTextBytesMax) return m.fail("join makes too long a text");
  }
  return m.text(std::move(out));
}

// One text or a tuple of them.
template <bool kEnd>
Value do_affix(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, kEnd ? "endswith" : "startswith", a, {"affix", "start", "end"}, 1);
  std::size_t begin = 0, end = 0;
  if (!window(p, 1, self.text()->bytes(), begin, end)) return false;
  const std::string_view text = std::string_view(self.text()->bytes()).substr(begin, end - begin);
  const auto matches = [&](const Value& v) {
    if (v.text() == nullptr) m.fail(std::string("startswith and endswith take texts, not a ") + v.type_name());
    return v.text() != nullptr && (kEnd ? text.ends_with(v.text()->bytes()) : text.starts_with(v.text()->bytes()));
  };
  const Sequence* several = p.value(0).sequence();
  if (several == nullptr || several->kind != Kind::tuple) return matches(p.value(0));
  return std::ranges::any_of(several->items, matches);
}

template <bool kRight, bool kMust>
Value do_find(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "find", a, {"sub", "start", "end"}, 1);
  const Text* wanted = p.text(0);
  if (wanted == nullptr) return m.failed() ? Value() : m.fail("find takes a text");
  std::size_t begin = 0, end = 0;
  const bool inside = window(p, 1, self.text()->bytes(), begin, end);
  const std::string_view text = std::string_view(self.text()->bytes()).substr(begin, end - begin);
  m.charge(self.weight());
  const std::size_t at = !inside  ? std::string_view::npos
                         : kRight ? text.rfind(wanted->bytes())
                                  : text.find(wanted->bytes());
  if (at != std::string_view::npos) {
    return static_cast<std::int64_t>(count_characters(std::string_view(self.text()->bytes()).substr(0, begin + at)));
  }
  return kMust ? m.fail("index: the text is not there") : Value(std::int64_t{-1});
}

Value do_count(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "count", a, {"sub", "start", "end"}, 1);
  const Text* wanted = p.text(0);
  if (wanted == nullptr) return m.failed() ? Value() : m.fail("count takes a text");
  std::size_t begin = 0, end = 0;
  if (!window(p, 1, self.text()->bytes(), begin, end)) return std::int64_t{0};
  const std::string_view text = std::string_view(self.text()->bytes()).substr(begin, end - begin);
  m.charge(self.weight());
  if (wanted->empty()) return static_cast<std::int64_t>(count_characters(text)) + 1;
  std::int64_t count = 0;
  for (std::size_t at = 0; (at = text.find(wanted->bytes(), at)) != std::string_view::npos; at += wanted->size()) {
    ++count;
  }
  return count;
}

template <bool kPrefix>
Value do_remove(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "removeprefix", a, {"affix"}, 1);
  const Text *affix = p.text(0), &text = *self.text();
  if (affix == nullptr) return m.failed() ? Value() : m.fail("removeprefix and removesuffix take a text");
  if (kPrefix ? !text.bytes().starts_with(affix->bytes()) : !text.bytes().ends_with(affix->bytes())) return self;
  return m.text(kPrefix ? text.slice(affix->size(), text.size()) : text.slice(0, text.size() - affix->size()));
}

template <Side kSide>
Value do_pad(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "ljust, rjust and center", a, {"width", "fillchar"}, 1);
  const std::int64_t width = p.integer(0, 0);
  const Text* fill = p.text(1);
  if (width > 1'000'000) return m.fail("the width is too large");
  if (fill != nullptr && count_characters(fill->bytes()) != 1) return m.fail("the fill must be one character");
  return m.text(pad(*self.text(), static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), kSide,
                    fill != nullptr ? *fill : Text(" ", true)));
}

Value do_zfill(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "zfill", a, {"width"}, 1);
  const std::int64_t width = p.integer(0, 0);
  if (width > 1'000'000) return m.fail("the width is too large");
  const bool sign = self.text()->bytes().starts_with('-') || self.text()->bytes().starts_with('+');
  Text out = self.text()->slice(0, sign ? 1 : 0);
  out.append(pad(self.text()->slice(sign ? 1 : 0, self.text()->size()),
                 static_cast<std::size_t>(std::max<std::int64_t>(width - (sign ? 1 : 0), 0)), Side::left,
                 Text("0", true)));
  return m.text(std::move(out));
}

Value do_format(Machine& m, const Value& self, Arguments& a) { return format_braces(m, *self.text(), a); }

template <bool (*kTest)(char32_t)>
Value all_are(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "isX", a, {});
  return all_characters(self.text()->bytes(), kTest);
}
template <bool kUpper>
Value is_case(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "isupper", a, {});
  return is_cased_as(self.text()->bytes(), kUpper);
}
Value is_ascii(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "isascii", a, {});
  return std::ranges::all_of(self.text()->bytes(), [](char c) { return static_cast<unsigned char>(c) < 128; });
}
Value is_identifier(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "isidentifier", a, {});
  const std::string& s = self.text()->bytes();
  return all_characters(s, [](char32_t c) { return c == '_' || is_alnum(c); }) && !is_digit(utf8_decode(s, 0));
}

// Lists and tuples.
Value list_count(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "count", a, {"value"}, 1);
  return static_cast<std::int64_t>(
      std::ranges::count_if(self.sequence()->items, [&](const Value& v) { return m.same(v, p.value(0)); }));
}
Value list_index(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "index", a, {"value"}, 1);
  const auto& items = self.sequence()->items;
  const auto it = std::ranges::find_if(items, [&](const Value& v) { return m.same(v, p.value(0)); });
  return it == items.end() ? m.fail("index: the value is not in the list")
                           : Value(static_cast<std::int64_t>(it - items.begin()));
}
Value copy(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "copy", a, {});
  return self;                                       // nothing can change it
}

// Dicts.
Value dict_items(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "items", a, {});
  std::vector<Value> out;
  for (const auto& [key, value] : self.dict()->entries) out.push_back(m.list({key, value}, Kind::tuple));
  return m.list(std::move(out), Kind::view, "dict_items");
}
Value dict_keys(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "keys", a, {});
  std::vector<Value> out;
  for (const auto& entry : self.dict()->entries) out.push_back(entry.first);
  return m.list(std::move(out), Kind::view, "dict_keys");
}
Value dict_values(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "values", a, {});
  std::vector<Value> out;
  for (const auto& entry : self.dict()->entries) out.push_back(entry.second);
  return m.list(std::move(out), Kind::view, "dict_values");
}
Value dict_get(Machine& m, const Value& self, Arguments& a) {
  Parameters p(m, "get", a, {"key", "default"}, 1);
  if (!m.failed() && !key_of(p.value(0))) {
    return m.fail(std::string("unhashable type '") + p.value(0).type_name() + "' looked up in a dict");
  }
  const Value* found = find(*self.dict(), p.value(0));
  return found != nullptr ? *found : p.value(1, None{});
}

using Methods = std::unordered_map<std::string, Method>;

const Methods& methods_of(const Value& self) {
  static const Methods kText = {{"upper", with_case<true>},
                                {"lower", with_case<false>},
                                {"casefold", with_case<false>},
                                {"capitalize", do_capitalize},
                                {"title", do_title},
                                {"swapcase", do_swapcase},
                                {"strip", do_strip<Side::both>},
                                {"lstrip", do_strip<Side::left>},
                                {"rstrip", do_strip<Side::right>},
                                {"split", do_split<false>},
                                {"rsplit", do_split<true>},
                                {"splitlines", do_splitlines},
                                {"partition", do_partition<false>},
                                {"rpartition", do_partition<true>},
                                {"replace", do_replace},
                                {"join", do_join},
                                {"startswith", do_affix<false>},
                                {"endswith", do_affix<true>},
                                {"find", do_find<false, false>},
                                {"rfind", do_find<true, false>},
                                {"index", do_find<false, true>},
                                {"rindex", do_find<true, true>},
                                {"count", do_count},
                                {"removeprefix", do_remove<true>},
                                {"removesuffix", do_remove<false>},
                                {"ljust", do_pad<Side::right>},
                                {"rjust", do_pad<Side::left>},
                                {"center", do_pad<Side::both>},
                                {"zfill", do_zfill},
                                {"format", do_format},
                                {"isalpha", all_are<is_alpha>},
                                {"isdigit", all_are<is_digit>},
                                {"isdecimal", all_are<is_digit>},
                                {"isnumeric", all_are<is_digit>},
                                {"isalnum", all_are<is_alnum>},
                                {"isspace", all_are<is_python_space>},
                                {"isupper", is_case<true>},
                                {"islower", is_case<false>},
                                {"isascii", is_ascii},
                                {"isidentifier", is_identifier}};
  static const Methods kList = {{"count", list_count}, {"index", list_index}, {"copy", copy}};
  static const Methods kTuple = {{"count", list_count}, {"index", list_index}};
  static const Methods kDict = {
      {"items", dict_items}, {"keys", dict_keys}, {"values", dict_values}, {"get", dict_get}, {"copy", copy}};
  static const Methods kNone;
  if (self.text() != nullptr) return kText;
  if (self.dict() != nullptr) return kDict;
  const Sequence* s = self.sequence();
  return s == nullptr ? kNone : s->kind == Kind::list ? kList : s->kind == Kind::tuple ? kTuple : kNone;
}

}  // namespace

bool has_method(const Value& self, const std::string& name) { return methods_of(self).contains(name); }

Value call_method(Machine& machine, const Value& self, const std::string& name, Arguments& arguments) {
  const auto it = methods_of(self).find(name);
  if (it == methods_of(self).end()) {
    return machine.fail(std::string("a ") + self.type_name() + " has no method '" + name + "'");
  }
  machine.charge(self.weight());
  return machine.failed() ? Value() : it->second(machine, self, arguments);
}

bool is_unsafe_method(const Value& self, const std::string& name) {
  static const std::unordered_set<std::string> kOfList = {"append", "clear",  "extend",  "insert",
                                                          "pop",    "remove", "reverse", "sort"};
  static const std::unordered_set<std::string> kOfDict = {"clear", "pop", "popitem", "setdefault", "update"};
  const Sequence* s = self.sequence();
  return (s != nullptr && s->kind == Kind::list && kOfList.contains(name)) ||
         (self.dict() != nullptr && kOfDict.contains(name));
}

}  // namespace tokenworks::tokenizer::jinja
