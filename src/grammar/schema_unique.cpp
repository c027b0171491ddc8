// uniqueItems: a grammar cannot compare what was written, but where the values are few and named it can go by the set of
// those that were: one rule for each set. What is equal in JSON (1 and 1.0) is one value.
#include <algorithm>
#include <bit>

#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kNamedMax = 8;  // values; the rules are two to the power of it

const Json kNullValue = nullptr, kTrueValue = true, kFalseValue = false;

}  // namespace

// Which of `all` a schema allows, as bits; new ones are added. None: it allows values without names, lists or objects, or
// too many of them.
std::optional<unsigned> SchemaCompiler::named_values(const Sub& sub, std::vector<const Json*>& all) {
  unsigned bits = 0;
  const auto add = [&](const Json& value) {
    const auto known = std::find_if(all.begin(), all.end(), [&](const Json* v) { return *v == value; });
    bits |= 1u << (known - all.begin());
    if (known == all.end()) all.push_back(&value);
    return all.size() <= kNamedMax && budget_.step(4);
  };
  for (const Shape& shape : expand(sub)) {
    if (shape.values) {
      Shape rest = shape;
      rest.values.reset();
      for (const Json* value : *shape.values) {
        if (!fits(*value, rest)) continue;
        if (value->is_structured() || !add(*value)) return std::nullopt;
      }
      continue;
    }
    if ((shape.types & ~(kNull | kBoolean)) != 0) return std::nullopt;
    if ((shape.types & kNull) != 0 && !add(kNullValue)) return std::nullopt;
    if ((shape.types & kBoolean) != 0 && !(add(kTrueValue) && add(kFalseValue))) return std::nullopt;
  }
  return bits;
}

Expr SchemaCompiler::write_unique(const Shape& shape) {
  std::vector<const Json*> all;
  std::vector<unsigned> allowed;  // at each place; behind them: the last
  const auto place = [&](const Sub& sub) {
    const auto bits = sub.none() ? std::optional<unsigned>(0) : sub.everything() ? std::nullopt : named_values(sub, all);
    if (bits) allowed.push_back(*bits);
    return bits.has_value();
  };
  bool named = true;
  for (const Sub& sub : shape.prefix) named = named && place(sub);
  if (!named || !place(shape.items)) {
    unsupported("uniqueItems", *shape.unique, "a grammar keeps a list free of repetitions only where its values are named (enum, const, boolean, null) "
                "and at most " + std::to_string(kNamedMax) + ", or where maxItems is 1");
    return nothing();
  }
  const std::size_t sets = std::size_t{1} << all.size();
  std::vector<Expr> after(sets, nothing());  // what may follow when the values of a set are written
  for (std::size_t set = sets; set-- > 0 && budget_.step(all.size() + 4);) {
    const int count = std::popcount(set);
    std::vector<Expr> ways;
    if (count >= shape.min_items) ways.push_back(empty());
    const unsigned here = allowed[std::min(static_cast<std::size_t>(count), allowed.size() - 1)];
    for (std::size_t i = 0; i < all.size() && (shape.max_items < 0 || count < shape.max_items); ++i) {
      const std::size_t next = set | std::size_t{1} << i;
      if (next == set || (here >> i & 1u) == 0 || is_nothing(after[next])) continue;
      const Expr written = write_value(*all[i]);
      ways.push_back(count == 0 ? sequence({written, after[next], json_.space()}) : sequence({json_.comma(), written, after[next]}));
    }
    if (ways.empty()) continue;
    if (set == 0 || (ways.size() == 1 && count >= shape.min_items)) {   // the beginning, or the end and nothing else
      after[set] = choice(std::move(ways));
      continue;
    }
    const RuleId rule = book_.declare("the list at " + *shape.unique);
    book_.define(rule, choice(std::move(ways)));
    after[set] = call(rule);
  }
  if (is_nothing(after[0])) return nothing();
  return sequence({literal("["), json_.space(), after[0], literal("]")});
}

}  // namespace tokenworks::grammar
