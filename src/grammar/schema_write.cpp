// Shapes to expressions: values, numbers, strings, arrays. Objects: schema_object.cpp.
#include <algorithm>

#include "grammar/characters.hpp"
#include "grammar/regex.hpp"
#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kInlineStates = 32;
constexpr std::int64_t kCountedStates = 50'000, kCountedSteps = 4'000'000, kCountedLeast = 100;

bool nested(const Shape& s) {
  const auto is_nested = [](const Json* v) { return v->is_structured(); };
  if (s.values) return std::any_of(s.values->begin(), s.values->end(), is_nested);
  return (s.types & (kArray | kObject)) != 0;
}

Expr quoted(const std::shared_ptr<const Dfa>& inside) {
  return sequence({literal("\""), automaton(inside), literal("\"")});
}

}  // namespace

RuleId SchemaCompiler::run() { return run(root_, "#"); }

RuleId SchemaCompiler::run(const Json& part, const std::string& path) {
  const RuleId start = book_.declare("the schema at " + path);
  const Expr body = value(child(part, path));
  book_.define(start, sequence({json_.space(), body}));
  while (!pending_.empty() && budget_.step()) {  // a queue, not recursion: schemas refer to each other at any depth
    auto [rule, shapes] = std::move(pending_.front());
    pending_.pop_front();
    std::vector<Expr> all;
    for (const Shape& s : shapes) all.push_back(write(s));
    book_.define(rule, choice(std::move(all)));
  }
  return start;
}

// A schema's values: in place when they are plain, otherwise by a rule of their own, the same for equal schemas.
Expr SchemaCompiler::value(const Sub& sub) {
  if (sub.everything()) return json_.value();
  if (sub.none() || !budget_.step(8)) return nothing();
  if (const auto found = known_.find(sub.parts); found != known_.end()) return found->second;
  std::vector<Shape> shapes = expand(sub);
  Expr expression;
  if (std::any_of(shapes.begin(), shapes.end(), nested)) {
    const RuleId rule = book_.declare("the schema at " + sub.path);
    expression = call(rule);
    pending_.emplace_back(rule, std::move(shapes));
  } else {
    std::vector<Expr> all;
    for (const Shape& s : shapes) all.push_back(write(s));
    expression = choice(std::move(all));
  }
  known_.emplace(sub.parts, expression);
  return expression;
}

Expr SchemaCompiler::write(const Shape& shape) {
  std::vector<Expr> all;
  if (shape.values) {
    const std::vector<const Json*>& values = *shape.values;
    Shape rest = shape;
    rest.values.reset();
    for (std::size_t i = 0; i < values.size() && budget_.step(i / 4 + 1); ++i) {
      const bool again = std::any_of(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(i),
                                     [&](const Json* v) { return *v == *values[i]; });
      if (!again && fits(*values[i], rest)) all.push_back(write_value(*values[i]));
    }
    return choice(std::move(all));
  }
  if ((shape.types & kNull) != 0) all.push_back(literal("null"));
  if ((shape.types & kBoolean) != 0) all.push_back(choice({literal("true"), literal("false")}));
  if ((shape.types & kNumber) != 0) all.push_back(write_number(shape));
  if ((shape.types & kString) != 0) all.push_back(write_string(shape));
  if ((shape.types & kArray) != 0) all.push_back(write_array(shape));
  if ((shape.types & kObject) != 0) all.push_back(write_object(shape));
  return choice(std::move(all));
}

// One value of an enum, with the white space that JSON may have.
Expr SchemaCompiler::write_value(const Json& v) {
  if (!budget_.step(4)) return nothing();
  if (v.is_string())
    return sequence({literal("\""), spelled_text(v.get_ref<const std::string&>(), Spelling::json), literal("\"")});
  if (!v.is_structured()) return literal(v.dump());
  std::vector<Expr> parts{literal(v.is_array() ? "[" : "{"), json_.space()};
  bool first = true;
  for (const auto& [name, child] : v.items()) {
    if (!first) parts.push_back(json_.comma());
    first = false;
    if (v.is_object()) {
      parts.push_back(write_value(Json(name)));
      parts.push_back(json_.colon());
    }
    parts.push_back(write_value(child));
  }
  if (!first) parts.push_back(json_.space());
  parts.push_back(literal(v.is_array() ? "]" : "}"));
  return sequence(std::move(parts));
}

Expr SchemaCompiler::write_number(const Shape& shape) {
  const bool whole = shape.integers || shape.divisor > 1;
  if (!shape.low && !shape.high && shape.divisor == 1) return whole ? json_.integer() : json_.number();
  const Expr range = shape.low || shape.high ? numbers_between(shape.low, shape.high, whole, budget_) : nullptr;
  if (shape.divisor == 1) return range;
  const std::shared_ptr<const Dfa> multiple = multiples(shape.divisor, budget_);
  if (range == nullptr) {  // still no more digits than any number may have
    const Expr any = numbers_between(std::nullopt, std::nullopt, true, budget_);
    return automaton(std::make_shared<const Dfa>(intersect(build(any, 0, budget_), *multiple, budget_)));
  }
  return automaton(std::make_shared<const Dfa>(intersect(build(range, 0, budget_), *multiple, budget_)));
}

std::shared_ptr<const Dfa> SchemaCompiler::string_inside(const Shape& shape) {
  std::vector<std::shared_ptr<const Dfa>> all;
  for (const std::string& p : shape.patterns) all.push_back(pattern(p, shape.path));
  for (const std::string& f : shape.formats) all.push_back(pattern(*format_pattern(f), shape.path));
  if (all.empty()) return nullptr;
  std::shared_ptr<const Dfa> both = all[0];
  for (std::size_t i = 1; i < all.size() && budget_.ok(); ++i)
    both = std::make_shared<const Dfa>(intersect(*both, *all[i], budget_));
  const std::int64_t longest = counted_to(shape.max_length, shape.min_length, kTextMost);
  if (shape.min_length == 0 && longest < 0) return both;
  const auto counted = [&](std::int64_t most, Budget& budget) {
    const Expr length = repeat(any_character(Spelling::json), shape.min_length, most);
    return std::make_shared<const Dfa>(intersect(*both, build(length, 0, budget), budget));
  };
  // Counting takes a state for each number of characters and each state of the pattern. Where that is too much, as for an
  // address of up to 2,083 characters, texts are not written to their full length.
  if (longest > kCountedLeast) {
    Budget some(kCountedStates, kCountedSteps);
    if (const auto exact = counted(longest, some); some.ok()) return budget_.state(exact->states.size()) ? exact : both;
    const auto states = static_cast<std::int64_t>(both->states.size());
    const auto shorter = counted(std::max({kCountedStates / 2 / states, kCountedLeast, shape.min_length}), budget_);
    if (!budget_.ok() || !accepts_nothing(*shorter)) return shorter;
  }
  return counted(longest, budget_);
}

Expr SchemaCompiler::write_string(const Shape& shape) {
  if (shape.max_length >= 0 && shape.min_length > shape.max_length) return nothing();
  if (!shape.patterns.empty() || !shape.formats.empty()) return write_held_string(shape);
  const std::int64_t longest = counted_to(shape.max_length, shape.min_length, kTextMost);
  if (shape.min_length == 0 && longest < 0) return json_.string();
  return sequence({literal("\""), repeat(json_.character(), shape.min_length, longest), literal("\"")});
}

// Large ones are rules, and the same at several places is one.
Expr SchemaCompiler::write_held_string(const Shape& shape) {
  const std::string what = Json::array({shape.patterns, shape.formats, shape.min_length, shape.max_length}).dump();
  if (const auto found = texts_.find(what); found != texts_.end()) return found->second;
  const auto inside = string_inside(shape);
  if (!budget_.ok()) return nothing();
  Expr text = quoted(inside);
  if (inside->states.size() > kInlineStates) {
    const RuleId rule = book_.declare("the text at " + shape.path);
    book_.define(rule, text);
    text = call(rule);
  }
  return texts_.emplace(what, std::move(text)).first->second;
}

Expr SchemaCompiler::write_array(const Shape& shape) {
  if (shape.max_items >= 0 && shape.min_items > shape.max_items) return nothing();
  const auto fixed = static_cast<std::int64_t>(shape.prefix.size());
  const std::int64_t most = counted_to(shape.max_items, std::max(shape.min_items, fixed), kListMost);
  if (shape.unique && (most < 0 || most > 1)) return write_unique(shape);
  const Expr open = sequence({literal("["), json_.space()}), close = literal("]");
  // What may follow once `i` items were written, from the back.
  const std::int64_t places = most < 0 ? fixed : std::min(fixed, most);
  const Expr item = value(shape.items);
  Expr rest = empty();  // after the last place of the prefix
  if (fixed == places && (most < 0 || most > fixed)) {
    const std::int64_t min = std::max<std::int64_t>(0, shape.min_items - fixed);
    if (fixed == 0) {
      const Expr more =
          repeat(sequence({json_.comma(), item}), std::max<std::int64_t>(0, min - 1), most < 0 ? -1 : most - 1);
      rest = sequence({item, more, json_.space()});
      if (min == 0) rest = optional(rest);
      return sequence({open, rest, close});
    }
    rest = repeat(sequence({json_.comma(), item}), min, most < 0 ? -1 : most - fixed);
  } else if (shape.min_items > places) {
    return nothing();
  }
  if (places == 0) return shape.min_items > 0 ? nothing() : sequence({open, close});
  for (std::int64_t i = places - 1; i > 0; --i) {
    const Expr one = sequence({json_.comma(), value(shape.prefix[static_cast<std::size_t>(i)]), rest});
    rest = i < shape.min_items ? one : optional(one);
  }
  Expr all = sequence({value(shape.prefix[0]), rest, json_.space()});
  if (shape.min_items == 0) all = optional(all);
  return sequence({open, all, close});
}

}  // namespace tokenworks::grammar
