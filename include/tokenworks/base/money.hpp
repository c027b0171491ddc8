#pragma once
// Money: an exact integer count of nano-units (10^-9) of a currency, or of micro-units (10^-6) of a currency that has no
// minor unit (JPY): money_places() says which. Prices are exact pico-units (10^-12) per token. No floating point anywhere:
// text goes in and out digit by digit, sums are checked, an overflow is an error.
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tokenworks/base/result.hpp"

namespace tokenworks {

struct Money {
  std::int64_t nano = 0;                             // +-9.2 thousand million units (JPY: micro-units, a thousand times that)
  auto operator<=>(const Money&) const = default;
};

// Checked arithmetic; nullopt on overflow.
std::optional<Money> add(Money a, Money b);
std::optional<Money> subtract(Money a, Money b);

// Decimal text ("12.5", "-0.000000001") as an integer count of 10^-places. Refuses empty text, exponents, more than
// `places` decimals that are not zero, and overflow; the message repeats the text and says what is wrong.
Result<std::int64_t> parse_decimal(std::string_view text, int places);
// The shortest decimal text of value * 10^-places: "0", "0.0000074", "-3".
std::string format_decimal(std::int64_t value, int places);

// ISO 4217's active currencies (list one): the digits after the point of the smallest coin; nullopt: no such currency.
std::optional<int> minor_digits(std::string_view currency);
// The decimals Money counts of a currency: 6 without a minor unit, else 9.
inline int money_places(std::string_view currency) { return minor_digits(currency) == 0 ? 6 : 9; }

inline Result<Money> parse_money(std::string_view text, std::string_view currency = "USD") {
  auto count = parse_decimal(text, money_places(currency));
  if (!count) return count.error();
  return Money{*count};
}
inline std::string to_string(Money m, std::string_view currency = "USD") { return format_decimal(m.nano, money_places(currency)); }

}  // namespace tokenworks
