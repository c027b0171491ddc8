// propertyNames, where it names the names or gives them one pattern: the same is then said by the keywords of properties.
#include <algorithm>

#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

const Json kNobody = false;
constexpr int kWithinMax = 8;                     // names whose names have names...

}  // namespace

void SchemaCompiler::read_names(const Json& value, const std::string& path, Shape& shape) {
  const std::string here = step_into(path, "propertyNames");
  const Sub sub = child(value, here);
  if (sub.everything()) return;
  if (names_within_ >= kWithinMax) return unsupported("propertyNames", path, "they stand within each other too often");
  ++names_within_;
  const std::vector<Shape> shapes = expand(sub);
  --names_within_;
  std::vector<std::string> names, patterns;         // patterns: of those that are not named
  bool others = false;
  for (const Shape& s : shapes) {
    if (s.values) {
      Shape rest = s;
      rest.values.reset();
      for (const Json* v : *s.values) {
        if (!budget_.step(names.size() / 8 + 4)) return;
        if (!v->is_string() || !fits(*v, rest)) continue;
        const auto& name = v->get_ref<const std::string&>();
        if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      }
    } else if ((s.types & kString) != 0) {
      const bool plain = s.patterns.size() == 1 && s.formats.empty() && s.min_length == 0 && s.max_length < 0;
      others = others || !plain;
      if (plain) patterns.push_back(s.patterns[0]);
    }
  }
  // Declared properties would have to fit what is said of additional ones, too.
  const bool declared = !shape.properties.empty() && !shape.additional.everything() && !shape.additional.none();
  if (others || patterns.size() > 1 || (!patterns.empty() && (!names.empty() || !shape.pattern_properties.empty() || declared))) {
    return unsupported("propertyNames", path, "only names from enum or const are, or one pattern beside plain properties");
  }
  if (patterns.empty()) {
    name_properties(names, shape);
  } else {
    std::erase_if(shape.properties, [&](const auto& property) { return !matches(patterns[0], property.first, here); });
    if (!shape.additional.none()) shape.pattern_properties.emplace_back(patterns[0], shape.additional);
  }
  shape.additional = Sub{{&kNobody}, here};
}

// Exactly these, with all that is said of each.
void SchemaCompiler::name_properties(const std::vector<std::string>& names, Shape& shape) {
  std::vector<std::pair<std::string, Sub>> all;
  const auto add = [&](const std::string& name) {
    Sub sub = applied(shape, name);
    for (const auto& [p, also] : shape.pattern_properties) {
      if (matches(p, name, shape.path)) sub = both(sub, also);
    }
    all.emplace_back(name, std::move(sub));
  };
  for (const auto& [name, unused] : shape.properties) {   // in the schema's order
    if (budget_.step(names.size() / 8 + 8) && std::find(names.begin(), names.end(), name) != names.end()) add(name);
  }
  for (const std::string& name : names) {
    if (budget_.step(shape.properties.size() / 8 + 8) && shape.property(name) == nullptr) add(name);
  }
  shape.properties = std::move(all);
  shape.pattern_properties.clear();
}

}  // namespace tokenworks::grammar
