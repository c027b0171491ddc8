// Objects: the declared properties in their order, then additional ones. Keys are written in their one shortest
// spelling, so that an additional key can be kept apart from the declared names.
#include <algorithm>

#include "grammar/characters.hpp"
#include "grammar/schema.hpp"

namespace tokenworks::grammar {

Expr SchemaCompiler::write_object(const Shape& shape) {
  std::vector<std::pair<std::string, Sub>> declared = shape.properties;
  for (const std::string& name :
       shape.required) {  // required but not declared: an additional property that must be there
    if (shape.property(name) == nullptr) declared.emplace_back(name, applied(shape, name));
  }
  std::vector<std::pair<Expr, bool>> members;  // and whether it is required
  for (auto& [name, sub] : declared) {
    if (!budget_.step(8)) return nothing();
    for (const auto& [p, also] : shape.pattern_properties) {
      if (matches(p, name, shape.path)) sub = both(sub, also);
    }
    const bool required = shape.required.count(name) != 0;
    const Expr v = value(sub);
    if (is_nothing(v) && required) return nothing();
    if (!is_nothing(v)) members.emplace_back(sequence({write_value(Json(name)), json_.colon(), v}), required);
  }
  const std::vector<Expr> extra = extra_members(shape);

  const auto all = static_cast<std::int64_t>(members.size());
  std::int64_t extra_max = extra.empty() ? 0 : -1;
  if (shape.max_properties >= 0) {
    if (shape.max_properties < static_cast<std::int64_t>(shape.required.size())) return nothing();
    if (shape.max_properties < all) {
      unsupported("maxProperties", shape.path, "it is below the number of declared properties");
      return nothing();
    }
    if (!extra.empty()) extra_max = counted_to(shape.max_properties, all, all + kMembersMost);
    if (extra_max > 0) extra_max -= all;
  }
  const auto required = static_cast<std::int64_t>(shape.required.size());
  if (shape.min_properties > std::max<std::int64_t>(required, 1)) {
    unsupported("minProperties", shape.path, "above 1 and above the number of required properties");
    return nothing();
  }
  const bool may_be_empty = required == 0 && shape.min_properties == 0;
  if (members.empty() && (extra.empty() || extra_max == 0)) {
    return may_be_empty ? sequence({literal("{"), json_.space(), literal("}")}) : nothing();
  }
  const Expr inside = write_members(shape, std::move(members), extra, extra_max);
  const Expr body = may_be_empty ? choice({literal("}"), inside}) : inside;
  return sequence({literal("{"), json_.space(), body});
}

// The members and the closing brace, at least one member. `after[i]` is what can follow once a member was written and
// members from i on are left; it is a rule where several places lead to it.
Expr SchemaCompiler::write_members(const Shape& shape, std::vector<std::pair<Expr, bool>> members,
                                   const std::vector<Expr>& extra, std::int64_t extra_max) {
  const Expr close = sequence({json_.space(), literal("}")});
  const Expr one_extra = choice(extra);
  Expr after = close;
  if (extra_max != 0) after = sequence({repeat(sequence({json_.comma(), one_extra}), 0, extra_max), close});
  // first: what can come where no member was written yet.
  Expr first = nothing();
  if (extra_max != 0)
    first = sequence(
        {one_extra, repeat(sequence({json_.comma(), one_extra}), 0, extra_max < 0 ? -1 : extra_max - 1), close});
  for (std::size_t i = members.size(); i-- > 0 && budget_.step(4);) {
    const auto& [member, required] = members[i];
    const RuleId rule = book_.declare("the schema at " + shape.path);
    book_.define(rule, after);
    after = call(rule);
    const Expr begin = sequence({member, after});
    first = required ? begin : choice({begin, first});
    const Expr next = sequence({json_.comma(), member});
    after = sequence({required ? next : optional(next), after});
  }
  return first;
}

std::vector<Expr> SchemaCompiler::extra_members(const Shape& shape) {
  std::vector<Expr> out;
  if (shape.additional.none() && shape.pattern_properties.empty()) return out;
  std::vector<Expr> names;
  for (const auto& [name, sub] : shape.properties) names.push_back(spelled_text(name, Spelling::json));
  for (const std::string& name : shape.required) names.push_back(spelled_text(name, Spelling::json));
  if (names.empty() && shape.pattern_properties.empty()) {
    const Expr v = value(shape.additional);
    if (!is_nothing(v)) out.push_back(sequence({json_.string(), json_.colon(), v}));
    return out;
  }
  const auto add = [&](Dfa keys, const Sub& sub) {
    const Expr v = value(sub);
    if (!budget_.ok() || is_nothing(v) || accepts_nothing(keys)) return;
    out.push_back(sequence(
        {literal("\""), automaton(std::make_shared<const Dfa>(std::move(keys))), literal("\""), json_.colon(), v}));
  };
  const Dfa declared = build(choice(names), 0, budget_);
  for (const auto& [p, sub] : shape.pattern_properties) {
    if (!budget_.ok()) return out;
    Dfa keys = subtract(*pattern(p, shape.path), declared, budget_);
    // A key that two patterns match needs both schemas; such keys are left out.
    for (const auto& [other, unused] : shape.pattern_properties) {
      if (other != p && budget_.ok()) keys = subtract(keys, *pattern(other, shape.path), budget_);
    }
    add(std::move(keys), sub);
  }
  if (!shape.additional.none()) {
    Dfa keys = subtract(build(repeat(any_character(Spelling::json), 0, -1), 0, budget_), declared, budget_);
    for (const auto& [p, sub] : shape.pattern_properties) {
      if (budget_.ok()) keys = subtract(keys, *pattern(p, shape.path), budget_);
    }
    add(std::move(keys), shape.additional);
  }
  return out;
}

}  // namespace tokenworks::grammar
