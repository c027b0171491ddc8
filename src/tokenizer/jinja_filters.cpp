// Filters on numbers and on any value; the lookup over all tables.
#include "tokenizer/jinja_filters.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <unordered_map>

namespace tokenworks::tokenizer::jinja {

std::optional<std::int64_t> parse_integer(std::string_view text, int base) {
  std::string digits = strip(Text(std::string(text), true), Side::both).bytes();
  for (std::size_t i = 0; i < digits.size(); ++i) {  // 1_000: an underscore stands between two digits
    if (digits[i] == '_' && (i == 0 || i + 1 == digits.size() || digits[i + 1] == '_' ||
                             !std::isalnum(static_cast<unsigned char>(digits[i - 1]))))
      return std::nullopt;
  }
  std::erase(digits, '_');
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  if (digits.starts_with('-') || digits.starts_with('+')) return std::nullopt;
  const auto prefixed = [&](int of, char mark) {
    return (base == of || base == 0) && digits.size() > 2 && digits[0] == '0' && (digits[1] | 32) == mark;
  };
  for (const auto& [of, mark] : {std::pair(16, 'x'), std::pair(8, 'o'), std::pair(2, 'b')}) {
    if (!prefixed(of, mark)) continue;
    digits.erase(0, 2);
    base = of;
    break;
  }
  if (base == 0) base = 10;
  if (base < 2 || base > 36) return std::nullopt;
  if (negative) digits.insert(digits.begin(), '-');
  std::int64_t value = 0;
  const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (ec != std::errc() || end != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  return value;
}

std::optional<double> parse_float(std::string_view text) {
  std::string digits = strip(Text(std::string(text), true), Side::both).bytes();
  if (digits.empty() || digits.find_first_of("xXpP") != std::string::npos || digits.find('\0') != std::string::npos) {
    return std::nullopt;
  }
  if (digits.find("(") != std::string::npos) return std::nullopt;          // strtod's nan(...)
  std::erase(digits, '_');
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  if (end != digits.c_str() + digits.size() || end == digits.c_str()) return std::nullopt;
  return value;
}

Text text_of(Machine& m, const Value& v) { return v.text() != nullptr ? *v.text() : m.str(v); }

Value without_case(Machine& m, const Value& v, bool case_sensitive) {
  if (case_sensitive || v.text() == nullptr) return v;
  return m.text(map_case(*v.text(), false));
}

namespace {

std::optional<std::int64_t> truncated(double d) {
  if (!std::isfinite(d) || std::abs(d) >= 9.2e18) return std::nullopt;
  return static_cast<std::int64_t>(d);
}

Value do_int(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "int", arguments, {"default", "base"});
  if (v.is_undefined()) return m.fail_undefined(v);
  const Value otherwise = p.value(0, std::int64_t{0});
  if (const Text* t = v.text()) {
    m.charge(v.weight());
    if (const auto i = parse_integer(t->bytes(), static_cast<int>(p.integer(1, 10)))) return *i;
    const auto d = parse_float(t->bytes());
    const auto whole = d ? truncated(*d) : std::nullopt;
    return whole ? Value(*whole) : otherwise;
  }
  if (const auto i = v.integer()) return *i;
  const auto whole = v.is_float() ? truncated(*v.number()) : std::nullopt;
  return whole ? Value(*whole) : otherwise;
}

Value do_float(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "float", arguments, {"default"});
  if (v.is_undefined()) return m.fail_undefined(v);
  if (const Text* t = v.text()) {
    const auto d = parse_float(t->bytes());
    return d ? Value(*d) : p.value(0, 0.0);
  }
  const auto d = v.number();
  return d ? Value(*d) : p.value(0, 0.0);
}

Value do_abs(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "abs", arguments, {});
  if (v.is_undefined()) return m.fail_undefined(v);
  if (v.is_float()) return std::abs(*v.number());
  const auto i = v.integer();
  if (!i || *i == std::numeric_limits<std::int64_t>::min()) return m.fail(std::string("abs of a ") + v.type_name());
  return std::abs(*i);
}

Value do_round(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "round", arguments, {"precision", "method"});
  const std::int64_t precision = p.integer(0, 0);
  const Text* named = p.text(1);
  const std::string method = named != nullptr ? named->bytes() : "common";
  if (method != "common" && method != "ceil" && method != "floor") {
    return m.fail("round: the method must be common, ceil or floor");
  }
  if (v.is_undefined()) return m.fail_undefined(v);
  if (!v.is_number()) return m.fail(std::string("round of a ") + v.type_name());
  if (precision < -300 || precision > 300) return m.fail("round: the precision is out of range");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method != "common") {
    const double scaled = *v.number() * scale;
    return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
  }
  if (v.integer() && precision >= 0) return *v.integer();
  if (precision < 0) {
    const double rounded = std::nearbyint(*v.number() * scale) / scale;
    const auto whole = truncated(rounded);
    return v.integer() && whole ? Value(*whole) : Value(rounded);
  }
  char buffer[800];                                  // correctly rounded decimal, as Python's float.__round__
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), *v.number());
  return std::strtod(buffer, nullptr);
}

Value do_default(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "default", arguments, {"default_value", "boolean"});
  if (!v.is_undefined() && !(p.truth(1, false) && !truth(v))) return v;
  return p.value(0, std::make_shared<const Text>());
}

Value do_length(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "length", arguments, {});
  const auto n = m.length(v);
  return n ? Value(*n) : Value();
}

Value do_string(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "string", arguments, {});
  return v.text() != nullptr ? v : m.text(m.str(v));
}

Value do_attr(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "attr", arguments, {"name"}, 1);
  const Text* name = p.text(0);
  if (name == nullptr) return m.failed() ? Value() : m.fail("attr needs a name");
  if (v.dict() != nullptr && !has_method(v, name->bytes())) return m.undefined("a dict has no attribute of this name");
  return m.get_attribute(v, name->bytes());
}

Value do_tojson(Machine& m, const Value& v, Arguments& arguments) {
  Parameters p(m, "tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = p.truth(0, false);
  style.sort_keys = p.truth(3, false);
  const Value indent = p.value(1, None{});
  if (const Text* t = indent.text()) {
    style.indent = *t;
  } else if (const auto spaces = indent.integer()) {
    if (*spaces > 1000) return m.fail("tojson: the indent is too wide");
    style.indent = Text(std::string(static_cast<std::size_t>(std::max<std::int64_t>(*spaces, 0)), ' '), true);
  } else if (!indent.is_none()) {
    return m.fail(std::string("tojson: the indent must be an integer or a text, not a ") + indent.type_name());
  }
  if (style.indent) style.item_separator.pop_back();   // json.dumps: no space at the end of a line
  const Value separators = p.value(2, None{});
  if (!separators.is_none()) {
    const auto parts = m.iterate(separators);
    if (parts->size() != 2 || (*parts)[0].text() == nullptr || (*parts)[1].text() == nullptr) {
      return m.fail("tojson: the separators must be two texts");
    }
    style.item_separator = (*parts)[0].text()->bytes();
    style.key_separator = (*parts)[1].text()->bytes();
  }
  return m.failed() ? Value() : to_json(m, v, style);
}

constexpr NamedFilter kFilters[] = {{"abs", do_abs},     {"attr", do_attr},       {"count", do_length},
                                    {"d", do_default},   {"default", do_default}, {"float", do_float},
                                    {"int", do_int},     {"length", do_length},   {"round", do_round},
                                    {"safe", do_string}, {"string", do_string},   {"tojson", do_tojson}};

}  // namespace

Filter find_filter(const std::string& name) {
  static const auto kAll = [] {
    std::unordered_map<std::string, Filter> all;
    for (const NamedFilter& f : kFilters) all.emplace(f.name, f.filter);
    for (const NamedFilter& f : text_filters()) all.emplace(f.name, f.filter);
    for (const NamedFilter& f : sequence_filters()) all.emplace(f.name, f.filter);
    return all;
  }();
  const auto it = kAll.find(name);
  return it == kAll.end() ? nullptr : it->second;
}

}  // namespace tokenworks::tokenizer::jinja
