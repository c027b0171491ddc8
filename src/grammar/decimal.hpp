#pragma once
// Decimals: bounds of numbers, exactly as a schema writes them, and the automata of the decimal numbers between two of
// them.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "grammar/automaton.hpp"

namespace tokenworks::grammar {

struct Decimal {
  bool negative = false;
  std::string whole;     // digits, no leading zeros; "" is zero
  std::string fraction;  // digits, no trailing zeros
  bool zero() const { return whole.empty() && fraction.empty(); }
};
// Of JSON number text, "-1.5e3" too; nullopt when it has more than 40 digits.
std::optional<Decimal> parse_decimal_text(std::string_view text);
int compare(const Decimal& a, const Decimal& b);  // -1, 0, 1

struct Bound {
  Decimal value;
  bool exclusive = false;
};
// JSON numbers, without exponents, at or above `low` and at or below `high`; whole numbers only when `integers`.
Expr numbers_between(const std::optional<Bound>& low, const std::optional<Bound>& high, bool integers, Budget& budget);
// Whole JSON numbers that `divisor` (>= 1) divides.
std::shared_ptr<const Dfa> multiples(std::int64_t divisor, Budget& budget);

}  // namespace tokenworks::grammar
