// Two shapes as one that fits what both fit.
#include <algorithm>
#include <numeric>

#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

void tighten(std::optional<Bound>& to, const std::optional<Bound>& other, bool lower) {
  if (!other) return;
  const int order = to ? compare(other->value, to->value) : 0;
  if (!to || (lower ? order > 0 : order < 0) || (order == 0 && other->exclusive)) to = other;
}

std::int64_t least(std::int64_t a, std::int64_t b) { return a < 0 ? b : b < 0 ? a : std::min(a, b); }

template <class T>
void unite(std::vector<T>& to, const std::vector<T>& from) {
  for (const T& x : from) {
    if (std::find(to.begin(), to.end(), x) == to.end()) to.push_back(x);
  }
}

}  // namespace

Sub both(const Sub& a, const Sub& b) {
  if (a.everything()) return b;
  Sub out{a.parts, a.path};
  out.parts.insert(out.parts.end(), b.parts.begin(), b.parts.end());
  std::sort(out.parts.begin(), out.parts.end());
  out.parts.erase(std::unique(out.parts.begin(), out.parts.end()), out.parts.end());
  return out;
}

bool SchemaCompiler::conjoin(const Shape& a, const Shape& b, Shape& out) {
  out = a;
  out.types &= b.types;
  out.integers = a.integers || b.integers;
  if (b.values) {
    if (out.values) {
      budget_.step(out.values->size() * b.values->size() / 8 + 1);
      std::erase_if(*out.values, [&](const Json* v) {
        return !budget_.ok() ||
               std::none_of(b.values->begin(), b.values->end(), [&](const Json* w) { return *v == *w; });
      });
    } else {
      out.values = b.values;
    }
  }
  tighten(out.low, b.low, true);
  tighten(out.high, b.high, false);
  out.divisor = std::lcm(a.divisor, b.divisor);
  if (out.divisor > 10'000) unsupported("multipleOf", b.path, "several of them have too large a common multiple");
  out.min_length = std::max(a.min_length, b.min_length);
  out.max_length = least(a.max_length, b.max_length);
  unite(out.patterns, b.patterns);
  unite(out.formats, b.formats);

  out.prefix.clear();
  for (std::size_t i = 0; i < std::max(a.prefix.size(), b.prefix.size()); ++i) {
    out.prefix.push_back(
        both(i < a.prefix.size() ? a.prefix[i] : a.items, i < b.prefix.size() ? b.prefix[i] : b.items));
    budget_.step(4);
  }
  out.items = both(a.items, b.items);
  out.min_items = std::max(a.min_items, b.min_items);
  out.max_items = least(a.max_items, b.max_items);
  if (!out.unique) out.unique = b.unique;
  conjoin_objects(a, b, out);
  return out.types != 0 && !(out.values && out.values->empty());
}

// What `shape` says of a property by its declaration or as an additional one; its patterns are left to the merged
// shape.
Sub SchemaCompiler::applied(const Shape& shape, const std::string& name) {
  if (const Sub* declared = shape.property(name)) return *declared;
  for (const auto& [p, sub] : shape.pattern_properties) {
    if (matches(p, name, shape.path)) return {};
  }
  return shape.additional;
}

void SchemaCompiler::conjoin_objects(const Shape& a, const Shape& b, Shape& out) {
  out.properties.clear();
  const std::size_t names = a.properties.size() + b.properties.size();
  if (!budget_.step(names * names / 8 + a.pattern_properties.size() + b.pattern_properties.size() + 1)) return;
  for (const Shape* shape : {&a, &b}) {
    for (const auto& [name, sub] : shape->properties) {
      if (!budget_.step(8)) return;
      if (out.property(name) == nullptr) out.properties.emplace_back(name, both(applied(a, name), applied(b, name)));
    }
  }
  const auto has_patterns = [](const Shape& s) { return !s.pattern_properties.empty(); };
  if (has_patterns(a) && has_patterns(b) && !(a.additional.everything() && b.additional.everything())) {
    unsupported("patternProperties", b.path, "it meets another one, and additionalProperties, in one allOf");
  }
  out.pattern_properties.clear();
  for (const auto& [p, sub] : a.pattern_properties)
    out.pattern_properties.emplace_back(p, has_patterns(b) ? sub : both(sub, b.additional));
  for (const auto& [p, sub] : b.pattern_properties) {
    const auto same = std::find_if(out.pattern_properties.begin(), out.pattern_properties.end(),
                                   [&](const auto& x) { return x.first == p; });
    const Sub merged = has_patterns(a) ? sub : both(sub, a.additional);
    if (same == out.pattern_properties.end()) {
      out.pattern_properties.emplace_back(p, merged);
    } else {
      same->second = both(same->second, merged);
    }
  }
  out.additional = both(a.additional, b.additional);
  out.required.insert(b.required.begin(), b.required.end());
  out.min_properties = std::max(a.min_properties, b.min_properties);
  out.max_properties = least(a.max_properties, b.max_properties);
}

}  // namespace tokenworks::grammar
