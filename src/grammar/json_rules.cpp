#include "grammar/json_rules.hpp"

#include "grammar/characters.hpp"

namespace tokenworks::grammar {
namespace {

constexpr std::int64_t kDigitsMax = 24;
constexpr std::int64_t kIndentMax = 40;

Expr byte_of(std::string_view any) {
  ByteSet s;
  for (const char c : any) s.add(static_cast<unsigned char>(c));
  return any_of(s);
}
Expr digits(std::int64_t min, std::int64_t max) { return repeat(byte_of("0123456789"), min, max); }

}  // namespace

Expr JsonRules::space_body() {
  const Expr line = sequence({optional(literal("\r")), literal("\n")});
  return choice({empty(), literal(" "), sequence({repeat(line, 1, 2), repeat(byte_of(" \t"), 0, kIndentMax)})});
}

Expr JsonRules::character_body() {
  CharacterSet bare = CharacterSet::all();
  bare.remove(0, 0x1F);
  bare.remove('"', '"');
  bare.remove('\\', '\\');
  const Expr hex = byte_of("0123456789abcdefABCDEF");
  const Expr unit = choice({sequence({byte_of("0123456789abcefABCEF"), repeat(hex, 3, 3)}),
                            sequence({byte_of("dD"), byte_of("01234567"), repeat(hex, 2, 2)})});
  const Expr pair = sequence({byte_of("dD"), byte_of("89abAB"), repeat(hex, 2, 2), literal("\\u"), byte_of("dD"),
                              byte_of("cdefCDEF"), repeat(hex, 2, 2)});
  return choice({spelled(bare, Spelling::plain), sequence({literal("\\"), byte_of("\"\\/bfnrt")}),
                 sequence({literal("\\u"), choice({unit, pair})})});
}

Expr JsonRules::string_body() { return sequence({literal("\""), repeat(character_body(), 0, -1), literal("\"")}); }

Expr JsonRules::integer_body() {
  return sequence(
      {optional(literal("-")), choice({literal("0"), sequence({byte_of("123456789"), digits(0, kDigitsMax - 1)})})});
}

Expr JsonRules::number_body() {
  return sequence({integer_body(), optional(sequence({literal("."), digits(1, kDigitsMax)})),
                   optional(sequence({byte_of("eE"), optional(byte_of("+-")), digits(1, 2)}))});
}

Expr JsonRules::value() {
  if (!value_) {
    value_ = book_.declare("value");
    book_.define(*value_,
                 choice({string(), number(), object(), array(), literal("true"), literal("false"), literal("null")}));
  }
  return call(*value_);
}

Expr JsonRules::object() {
  if (!object_) {
    object_ = book_.declare("object");
    const Expr member = sequence({string(), colon(), value()});
    const Expr members = sequence({member, repeat(sequence({comma(), member}), 0, -1), space()});
    book_.define(*object_, sequence({literal("{"), space(), optional(members), literal("}")}));
  }
  return call(*object_);
}

Expr JsonRules::array() {
  if (!array_) {
    array_ = book_.declare("array");
    const Expr items = sequence({value(), repeat(sequence({comma(), value()}), 0, -1), space()});
    book_.define(*array_, sequence({literal("["), space(), optional(items), literal("]")}));
  }
  return call(*array_);
}

}  // namespace tokenworks::grammar
