// Does a value fit a schema (to filter enum and const by the rest), and can two shapes fit one value (oneOf)?
#include <algorithm>

#include "grammar/regex.hpp"
#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

constexpr int kDisjointDepth = 8;

unsigned type_of(const Json& v) {
  if (v.is_null()) return kNull;
  if (v.is_boolean()) return kBoolean;
  if (v.is_number()) return kNumber;
  if (v.is_string()) return kString;
  return v.is_array() ? kArray : kObject;
}

// Two of a list's values are equal; the order of keys does not count.
bool repeats(const Json& list, Budget& budget) {
  const nlohmann::json plain = list;
  if (!budget.step(plain.size() * plain.size() / 4)) return true;
  for (auto a = plain.begin(); a != plain.end(); ++a) {
    if (std::find(plain.begin(), a, *a) != a) return true;
  }
  return false;
}

std::string json_inside(const std::string& text) {
  const Expr e = spelled_text(text, Spelling::json);
  return e->kind == Node::Kind::bytes ? e->bytes : "";
}

std::int64_t characters(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

bool within(const std::optional<Bound>& low, const std::optional<Bound>& high, const Decimal& d) {
  if (low && (compare(d, low->value) < 0 || (low->exclusive && compare(d, low->value) == 0))) return false;
  return !high || compare(d, high->value) < 0 || (!high->exclusive && compare(d, high->value) == 0);
}

bool below(const Shape& a, const Shape& b) {  // all numbers of a are below all of b
  if (!a.high || !b.low) return false;
  const int order = compare(a.high->value, b.low->value);
  return order < 0 || (order == 0 && (a.high->exclusive || b.low->exclusive));
}

}  // namespace

std::shared_ptr<const Dfa> SchemaCompiler::pattern(const std::string& pattern, const std::string& path) {
  auto& known = patterns_[pattern];
  if (known == nullptr) {
    const std::string where = "the pattern at " + path;
    const Expr e = parse_regex(pattern, Anchoring::search, Spelling::json, limits_.depth, where, budget_);
    known = std::make_shared<const Dfa>(build(e, 0, budget_));
  }
  return known;
}

bool SchemaCompiler::matches(const std::string& p, const std::string& text, const std::string& path) {
  return accepts(*pattern(p, path), json_inside(text));
}

bool SchemaCompiler::fits(const Json& value, const Sub& sub) {
  const std::vector<Shape> shapes = expand(sub);
  return std::any_of(shapes.begin(), shapes.end(), [&](const Shape& s) { return fits(value, s); });
}

bool SchemaCompiler::fits(const Json& value, const Shape& shape) {
  if (!budget_.step(4) || (shape.types & type_of(value)) == 0) return false;
  if (shape.values) {
    budget_.step(shape.values->size() / 4);
    if (std::none_of(shape.values->begin(), shape.values->end(), [&](const Json* v) { return *v == value; }))
      return false;
  }
  switch (type_of(value)) {
    case kNumber: {
      const auto d = parse_decimal_text(value.dump());
      if (!d) return false;
      if (!within(shape.low, shape.high, *d)) return false;
      if ((shape.integers || shape.divisor > 1) && !d->fraction.empty()) return false;
      std::int64_t remainder = 0;
      for (const char c : d->whole) remainder = (remainder * 10 + (c - '0')) % shape.divisor;
      return remainder == 0;
    }
    case kString: {
      const auto& text = value.get_ref<const std::string&>();
      const std::int64_t n = characters(text);
      if (n < shape.min_length || (shape.max_length >= 0 && n > shape.max_length)) return false;
      for (const std::string& p : shape.patterns) {
        if (!matches(p, text, shape.path)) return false;
      }
      return std::all_of(shape.formats.begin(), shape.formats.end(),
                         [&](const std::string& f) { return matches(*format_pattern(f), text, shape.path); });
    }
    case kArray: {
      const auto n = static_cast<std::int64_t>(value.size());
      if (n < shape.min_items || (shape.max_items >= 0 && n > shape.max_items)) return false;
      if (shape.unique && repeats(value, budget_)) return false;
      for (std::size_t i = 0; i < value.size(); ++i) {
        if (!fits(value[i], i < shape.prefix.size() ? shape.prefix[i] : shape.items)) return false;
      }
      return true;
    }
    case kObject:
      return fits_object(value, shape);
    default:
      return true;
  }
}

bool SchemaCompiler::fits_object(const Json& value, const Shape& shape) {
  const auto n = static_cast<std::int64_t>(value.size());
  if (n < shape.min_properties || (shape.max_properties >= 0 && n > shape.max_properties)) return false;
  for (const std::string& name : shape.required) {
    if (!value.contains(name)) return false;
  }
  for (const auto& [name, child] : value.items()) {
    const Sub* declared = shape.property(name);
    bool covered = declared != nullptr;
    if (declared != nullptr && !fits(child, *declared)) return false;
    for (const auto& [p, sub] : shape.pattern_properties) {
      if (!matches(p, name, shape.path)) continue;
      covered = true;
      if (!fits(child, sub)) return false;
    }
    if (!covered && !fits(child, shape.additional)) return false;
  }
  return true;
}

bool SchemaCompiler::disjoint(const Sub& a, const Sub& b, int depth) {
  const std::vector<Shape> x = expand(a), y = expand(b);
  for (const Shape& s : x) {
    for (const Shape& t : y) {
      if (!disjoint(s, t, depth)) return false;
    }
  }
  return true;
}

// True only when no value fits both; false also when that is not seen.
bool SchemaCompiler::disjoint(const Shape& a, const Shape& b, int depth) {
  if (!budget_.step(16)) return true;
  const unsigned common = a.types & b.types;
  if (common == 0) return true;
  if (a.values)
    return std::none_of(a.values->begin(), a.values->end(), [&](const Json* v) { return fits(*v, a) && fits(*v, b); });
  if (b.values) return disjoint(b, a, depth);
  if (depth > kDisjointDepth || (common & (kNull | kBoolean)) != 0) return false;
  if ((common & kNumber) != 0 && !below(a, b) && !below(b, a)) return false;
  if ((common & kString) != 0) {
    const auto beyond = [](const Shape& s, const Shape& t) { return s.max_length >= 0 && s.max_length < t.min_length; };
    const std::shared_ptr<const Dfa> x = string_inside(a), y = string_inside(b);
    const bool apart = x != nullptr && y != nullptr && budget_.ok() && accepts_nothing(intersect(*x, *y, budget_));
    if (!beyond(a, b) && !beyond(b, a) && !apart) return false;
  }
  if ((common & kArray) != 0) {
    const auto beyond = [](const Shape& s, const Shape& t) { return s.max_items >= 0 && s.max_items < t.min_items; };
    bool apart = beyond(a, b) || beyond(b, a);
    const auto both_have = static_cast<std::size_t>(std::min(a.min_items, b.min_items));
    for (std::size_t i = 0; !apart && i < std::min(both_have, std::max(a.prefix.size(), b.prefix.size()) + 1); ++i) {
      apart =
          disjoint(i < a.prefix.size() ? a.prefix[i] : a.items, i < b.prefix.size() ? b.prefix[i] : b.items, depth + 1);
    }
    if (!apart) return false;
  }
  return (common & kObject) == 0 || disjoint_objects(a, b, depth);
}

bool SchemaCompiler::disjoint_objects(const Shape& a, const Shape& b, int depth) {
  for (const auto& [x, y] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    for (const std::string& name : x->required) {
      const Sub other = applied(*y, name);
      if (other.none()) return true;  // one needs what the other forbids
      if (y->required.count(name) != 0 && disjoint(applied(*x, name), other, depth + 1)) return true;
    }
  }
  return false;
}

}  // namespace tokenworks::grammar
