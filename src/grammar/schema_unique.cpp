// uniqueItems: a grammar cannot compare what was written, but where the values are few and named it can go by the set of
// those that were: one rule for each set. Sets of more values than that are written in the schema's order: one rule for each
// last value, and number of values where that matters. What is equal in JSON (1 and 1.0) is one value.
#include <algorithm>
#include <bit>

#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kAnyOrderMax = 8;  // values; the rules are two to the power of it
constexpr std::size_t kNamedMax = 64;

const Json kNullValue = nullptr, kTrueValue = true, kFalseValue = false;

}  // namespace

// Which of `all` a schema allows, as bits; new ones are added. None: it allows values without names, lists or objects, or
// too many of them.
std::optional<std::uint64_t> SchemaCompiler::named_values(const Sub& sub, std::vector<const Json*>& all) {
  std::uint64_t bits = 0;
  const auto add = [&](const Json& value) {
    const auto known = std::find_if(all.begin(), all.end(), [&](const Json* v) { return *v == value; });
    if (known == all.end() && all.size() == kNamedMax) return false;
    bits |= std::uint64_t{1} << (known - all.begin());
    if (known == all.end()) all.push_back(&value);
    return budget_.step(all.size() / 4 + 4);
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
  std::vector<std::uint64_t> allowed;  // at each place; behind them: the last
  const auto place = [&](const Sub& sub) {
    const auto bits = sub.none() ? std::optional<std::uint64_t>(0) : sub.everything() ? std::nullopt : named_values(sub, all);
    if (bits) allowed.push_back(*bits);
    return bits.has_value();
  };
  bool named = true;
  for (const Sub& sub : shape.prefix) named = named && place(sub);
  if (!named || !place(shape.items) || (all.size() > kAnyOrderMax && !shape.prefix.empty())) {
    unsupported("uniqueItems", *shape.unique, "a grammar keeps a list free of repetitions only where its values are named (enum, const, boolean, null) "
                "and at most " + std::to_string(kNamedMax) + " (with prefixItems " + std::to_string(kAnyOrderMax) + "), or where maxItems is 1");
    return nothing();
  }
  if (all.size() > kAnyOrderMax) return write_ordered(shape, all);
  const std::size_t sets = std::size_t{1} << all.size();
  std::vector<Expr> after(sets, nothing());  // what may follow when the values of a set are written
  for (std::size_t set = sets; set-- > 0 && budget_.step(all.size() + 4);) {
    const int count = std::popcount(set);
    std::vector<Expr> ways;
    if (count >= shape.min_items) ways.push_back(empty());
    const std::uint64_t here = allowed[std::min(static_cast<std::size_t>(count), allowed.size() - 1)];
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

// Values that come in the order of `all` repeat none.
Expr SchemaCompiler::write_ordered(const Shape& shape, const std::vector<const Json*>& all) {
  const std::size_t most = shape.max_items < 0 ? all.size() : std::min<std::size_t>(all.size(), static_cast<std::size_t>(shape.max_items));
  const std::size_t least = static_cast<std::size_t>(std::min<std::int64_t>(shape.min_items, kNamedMax + 1));
  // From so many on their number does not matter.
  const std::size_t counted = most < all.size() ? most : std::max<std::size_t>(least, 1);
  std::vector<Expr> written;
  for (const Json* value : all) written.push_back(write_value(*value));
  std::vector<std::vector<Expr>> after(all.size() + 1, std::vector<Expr>(counted + 1, nothing()));   // [values behind, how many]
  for (std::size_t i = all.size() + 1; i-- > 0;) {
    for (std::size_t count = 0; count <= counted && budget_.step(all.size() - i + 4); ++count) {
      if ((i == 0) != (count == 0)) continue;        // nobody comes there
      std::vector<Expr> ways;
      if (count >= least) ways.push_back(empty());
      for (std::size_t j = i; j < all.size() && (count < most || most == all.size()); ++j) {
        const Expr& rest = after[j + 1][std::min(count + 1, counted)];
        if (is_nothing(rest)) continue;
        ways.push_back(count == 0 ? sequence({written[j], rest, json_.space()}) : sequence({json_.comma(), written[j], rest}));
      }
      if (ways.empty()) continue;
      if (i == 0 || (ways.size() == 1 && count >= least)) {
        after[i][count] = choice(std::move(ways));
        continue;
      }
      const RuleId rule = book_.declare("the list at " + *shape.unique);
      book_.define(rule, choice(std::move(ways)));
      after[i][count] = call(rule);
    }
  }
  if (is_nothing(after[0][0])) return nothing();
  return sequence({literal("["), json_.space(), after[0][0], literal("]")});
}

}  // namespace tokenworks::grammar
