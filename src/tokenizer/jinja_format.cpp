// Python's two ways to format: "%s" % values and "{}".format(values). What is put in keeps its origin.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "tokenizer/jinja_machine.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer::jinja {
namespace {

constexpr std::int64_t kWidthMax = 10'000;

struct Spec {
  Text fill{" ", true};
  char align = '\0', sign = '-', type = '\0';
  bool alternate = false, comma = false, zero = false;
  std::int64_t width = 0, precision = -1;
};

std::string digits_of(std::uint64_t magnitude, unsigned base, bool upper) {
  const std::string_view alphabet = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  for (; magnitude != 0 || out.empty(); magnitude /= base) out += alphabet[magnitude % base];
  return {out.rbegin(), out.rend()};
}

void group_thousands(std::string& digits) {
  const std::size_t point = std::min(digits.find('.'), digits.size());
  for (std::size_t at = point; at > 3; at -= 3) digits.insert(at - 3, 1, ',');
}

// The number without its sign; nullopt for a type letter that is no number's.
std::optional<std::string> magnitude_of(const Value& v, const Spec& spec) {
  const char type = spec.type;
  if (v.integer() && (type == '\0' || type == 'd' || type == 'i' || type == 'u' || type == 'x' || type == 'X' ||
                      type == 'o' || type == 'b')) {
    const auto bits = static_cast<std::uint64_t>(*v.integer());
    const std::uint64_t magnitude = *v.integer() < 0 ? ~bits + 1 : bits;
    const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    std::string out = digits_of(magnitude, base, type == 'X');
    if (spec.comma) group_thousands(out);
    if (spec.alternate && base != 10) out = std::string("0") + type + out;
    return out;
  }
  const double d = std::abs(v.number().value_or(0));
  if (type == '\0') return spec.precision < 0 ? std::optional(python_float(d)) : std::nullopt;
  if (std::string_view("eEfFgG%").find(type) == std::string_view::npos) return std::nullopt;
  const auto precision = static_cast<int>(spec.precision < 0 ? 6 : std::min<std::int64_t>(spec.precision, 300));
  const char format[] = {'%', '.', '*', type == '%' ? 'f' : type, '\0'};
  char buffer[1000];
  std::snprintf(buffer, sizeof buffer, format, precision, type == '%' ? d * 100 : d);
  std::string out = buffer;
  if (spec.comma) group_thousands(out);
  return type == '%' ? out + "%" : out;
}

Text aligned(const Text& text, const Spec& spec, char otherwise) {
  const char align = spec.align != '\0' ? spec.align : otherwise;
  const auto width = static_cast<std::size_t>(spec.width);
  if (align != '^') return pad(text, width, align == '<' ? Side::right : Side::left, spec.fill);
  const std::size_t have = count_characters(text.bytes());
  const std::size_t left = width > have ? (width - have) / 2 : 0;          // format() puts the odd space right
  return pad(pad(text, have + left, Side::left, spec.fill), width, Side::right, spec.fill);
}

std::optional<Text> number_text(const Value& v, const Spec& spec) {
  const auto magnitude = magnitude_of(v, spec);
  if (!magnitude) return std::nullopt;
  const bool negative = std::signbit(*v.number()) && (v.is_float() || *v.integer() < 0);
  const std::string sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  if (spec.zero || spec.align == '=') {
    Spec inner = spec;
    inner.width = std::max<std::int64_t>(0, spec.width - static_cast<std::int64_t>(sign.size()));
    if (spec.zero) inner.fill = Text("0", true);
    Text out(sign, true);
    out.append(pad(Text(*magnitude, true), static_cast<std::size_t>(inner.width), Side::left, inner.fill));
    return out;
  }
  return aligned(Text(sign + *magnitude, true), spec, '>');
}

// Reads decimal digits; refuses widths that would only make memory.
bool read_number(Machine& m, std::string_view text, std::size_t& at, std::int64_t& out) {
  if (at >= text.size() || text[at] < '0' || text[at] > '9') return false;
  for (out = 0; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    out = std::min(out * 10 + (text[at] - '0'), kWidthMax + 1);
  }
  if (out > kWidthMax) m.fail("a format's width or precision is too large");
  return true;
}

// One %-conversion of `v`.
Value converted(Machine& m, const Value& v, Spec spec) {
  const char type = spec.type;
  if (type == 's' || type == 'r' || type == 'a') {
    Text text;
    if (type == 's') {
      text = m.str(v);
    } else if (m.charge(v.weight())) {
      append_repr(v, text);
    }
    if (spec.precision >= 0) {
      text = text.slice(0, character_offset(text.bytes(), static_cast<std::size_t>(spec.precision)));
    }
    return m.text(aligned(text, spec, '>'));
  }
  if (v.is_undefined()) return m.fail_undefined(v);
  if (type == 'c' && v.text() != nullptr && count_characters(v.text()->bytes()) == 1) {
    return m.text(aligned(*v.text(), spec, '>'));
  }
  Value number = v;
  if (std::string_view("diu").find(type) != std::string_view::npos && v.is_float()) {
    const double d = std::trunc(*v.number());
    if (!(std::abs(d) < 9.2e18)) return m.fail("%d of a number that does not fit 64 bits");
    number = static_cast<std::int64_t>(d);
  }
  if (!number.is_number()) return m.fail(std::string("%") + type + " of a " + v.type_name());
  if (spec.align == '<') spec.zero = false;
  const auto text = number_text(number, spec);
  return text ? m.text(*text) : m.fail(std::string("%") + type + " of a " + v.type_name());
}

}  // namespace

Value format_percent(Machine& m, const Text& format, const Value& values) {
  const std::string& f = format.bytes();
  const Sequence* tuple =
      values.sequence() != nullptr && values.sequence()->kind == Sequence::Kind::tuple ? values.sequence() : nullptr;
  std::size_t used = 0;
  bool by_name = false;
  const auto next_value = [&]() -> Value {
    if (tuple != nullptr) {
      return used < tuple->items.size() ? tuple->items[used++] : m.fail("not enough values for the format");
    }
    return used++ == 0 ? values : m.fail("not enough values for the format");
  };
  Text out;
  for (std::size_t at = 0; at < f.size() && !m.failed();) {
    const std::size_t percent = std::min(f.find('%', at), f.size());
    out.append(format.slice(at, percent));
    if ((at = percent) == f.size()) break;
    Spec spec;
    std::optional<Value> named;
    if (++at < f.size() && f[at] == '(') {
      const std::size_t end = f.find(')', at);
      if (end == std::string::npos || values.dict() == nullptr) return m.fail("a named format needs a dict");
      const Value* found = find(*values.dict(), f.substr(at + 1, end - at - 1));
      if (found == nullptr) return m.fail("a named format finds no such key");
      named = *found;
      by_name = true;
      at = end + 1;
    }
    for (; at < f.size() && std::string_view("-+ #0").find(f[at]) != std::string_view::npos; ++at) {
      if (f[at] == '-') spec.align = '<';
      if (f[at] == '+' || (f[at] == ' ' && spec.sign != '+')) spec.sign = f[at];
      if (f[at] == '#') spec.alternate = true;
      if (f[at] == '0') spec.zero = true;
    }
    read_number(m, f, at, spec.width);
    if (at < f.size() && f[at] == '.') {
      spec.precision = 0;
      read_number(m, f, ++at, spec.precision);
    }
    if (at >= f.size()) return m.fail("the format ends inside a conversion");
    spec.type = f[at++];
    if (spec.type == '%') {
      out.append("%", true);
      continue;
    }
    if (std::string_view("srdiufFeEgGxXoac").find(spec.type) == std::string_view::npos) {
      return m.fail("a format has an unknown conversion");
    }
    const Value text = converted(m, named ? *named : next_value(), spec);
    if (text.text() != nullptr) out.append(*text.text());
    if (out.size() > Machine::kTextBytesMax) return m.fail("a format makes too long a text");
  }
  const bool mapping =
      values.dict() != nullptr || values.sequence() != nullptr || values.is_undefined();  // what % takes for one
  const bool left_over = tuple != nullptr ? used < tuple->items.size() : used == 0 && !mapping;
  if (!by_name && left_over) return m.fail("not all values are used by the format");
  return m.text(std::move(out));
}

namespace {

// [[fill]align][sign][#][0][width][,][.precision][type]
bool read_spec(Machine& m, std::string_view text, Spec& spec) {
  std::size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  const std::size_t first = text.empty() ? 0 : utf8_length(text[0]);
  if (first < text.size() && is_align(text[first])) {
    spec.fill = Text(std::string(text.substr(0, first)), true);
    spec.align = text[first];
    at = first + 1;
  } else if (!text.empty() && is_align(text[0])) {
    spec.align = text[at++];
  }
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (at < text.size() && text[at] == '#') spec.alternate = true, ++at;
  if (at < text.size() && text[at] == '0') {
    spec.zero = spec.align == '\0';
    ++at;
  }
  read_number(m, text, at, spec.width);
  if (at < text.size() && text[at] == ',') spec.comma = true, ++at;
  if (at < text.size() && text[at] == '.' && !read_number(m, text, ++at, spec.precision)) return false;
  if (at < text.size()) spec.type = text[at++];
  return at == text.size();
}

Value formatted(Machine& m, const Value& v, std::string_view text, char conversion) {
  if (conversion == 'r' || conversion == 'a') {
    Text repr;
    if (m.charge(v.weight())) append_repr(v, repr);
    return formatted(m, m.text(std::move(repr)), text, '\0');
  }
  Spec spec;
  if (!read_spec(m, text, spec)) return m.fail("a format has an unknown specification");
  if (text.empty() || conversion == 's') return m.text(aligned(m.str(v), spec, '<'));
  if (const Text* t = v.text()) {
    if (spec.type != '\0' && spec.type != 's') return m.fail("a format for numbers is used with a text");
    const Text cut =
        spec.precision >= 0 ? t->slice(0, character_offset(t->bytes(), static_cast<std::size_t>(spec.precision))) : *t;
    return m.text(aligned(cut, spec, '<'));
  }
  if (!v.is_number()) return m.fail(std::string("a format specification is used with a ") + v.type_name());
  if (v.is_bool() && spec.type == '\0') return m.text(aligned(m.str(v), spec, '>'));
  const auto out = number_text(v, spec);
  return out ? m.text(*out) : m.fail(std::string("a format specification does not fit a ") + v.type_name());
}

}  // namespace

Value format_braces(Machine& m, const Text& format, Arguments& arguments) {
  const std::string& f = format.bytes();
  std::size_t automatic = 0;
  Text out;
  for (std::size_t at = 0; at < f.size() && !m.failed();) {
    const std::size_t brace = std::min(f.find_first_of("{}", at), f.size());
    out.append(format.slice(at, brace));
    if ((at = brace) == f.size()) break;
    if (at + 1 < f.size() && f[at + 1] == f[at]) {   // {{ and }}
      out.append(format.slice(at, at + 1));
      at += 2;
      continue;
    }
    const std::size_t end = f.find('}', at);
    if (f[at] == '}' || end == std::string::npos) return m.fail("a format has a single brace");
    std::string field = f.substr(at + 1, end - at - 1), specification;
    if (field.find('{') != std::string::npos) return m.fail("a format inside a format is not supported");
    if (const std::size_t colon = field.find(':'); colon != std::string::npos) {
      specification = field.substr(colon + 1);
      field.resize(colon);
    }
    char conversion = '\0';
    if (field.size() >= 2 && field[field.size() - 2] == '!') {
      conversion = field.back();
      field.resize(field.size() - 2);
    }
    const std::size_t path = std::min(field.find_first_of(".["), field.size());
    const std::string first = field.substr(0, path);
    Value v;
    const auto index = first.empty() ? std::optional(static_cast<std::int64_t>(automatic++)) : parse_integer(first);
    if (index && *index >= 0 && static_cast<std::size_t>(*index) < arguments.items.size()) {
      v = arguments.items[static_cast<std::size_t>(*index)];
    } else {
      const auto it = std::ranges::find(arguments.named, first, [](const auto& entry) { return entry.first; });
      if (index || it == arguments.named.end()) return m.fail("a format names a value that is not there");
      v = it->second;
    }
    for (std::size_t i = path; i < field.size() && !m.failed();) {
      const std::size_t stop =
          std::min(field[i] == '[' ? field.find(']', i) : field.find_first_of(".[", i + 1), field.size());
      const std::string name = field.substr(i + 1, stop - i - 1);
      const auto number = parse_integer(name);
      v = field[i] == '.' ? m.get_attribute(v, name) : m.get_item(v, number ? Value(*number) : m.text(name, true));
      i = stop + (field[i] == '[' ? 1 : 0);
    }
    const Value text = m.failed() ? Value() : formatted(m, v, specification, conversion);
    if (text.text() != nullptr) out.append(*text.text());
    if (out.size() > Machine::kTextBytesMax) return m.fail("a format makes too long a text");
    at = end + 1;
  }
  return m.text(std::move(out));
}

}  // namespace tokenworks::tokenizer::jinja
