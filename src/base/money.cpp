#include "tokenworks/base/money.hpp"

namespace tokenworks {

std::optional<Money> add(Money a, Money b) {
  Money sum;
  if (__builtin_add_overflow(a.nano, b.nano, &sum.nano)) return std::nullopt;
  return sum;
}

std::optional<Money> subtract(Money a, Money b) {
  Money difference;
  if (__builtin_sub_overflow(a.nano, b.nano, &difference.nano)) return std::nullopt;
  return difference;
}

Result<std::int64_t> parse_decimal(std::string_view text, int places) {
  const auto refuse = [&](const std::string& why) {
    return error(Errc::invalid_request, "'" + std::string(text.substr(0, 64)) + "' " + why);
  };
  std::size_t at = 0;
  const bool negative = !text.empty() && text[0] == '-';
  if (negative) ++at;
  std::int64_t value = 0;
  int decimals = -1;                                 // digits after the point so far; -1 before the point
  int digits = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.' && decimals < 0) {
      decimals = 0;
      continue;
    }
    if (c < '0' || c > '9') return refuse("is not a decimal number (digits and at most one point)");
    ++digits;
    if (decimals >= places) {
      if (c != '0') return refuse("has more than " + std::to_string(places) + " decimals");
      continue;
    }
    if (decimals >= 0) ++decimals;
    // Counted downwards, because the negative range is the larger one.
    if (__builtin_mul_overflow(value, std::int64_t{10}, &value) || __builtin_sub_overflow(value, c - '0', &value)) {
      return refuse("is too large");
    }
  }
  if (digits == 0) return refuse("is not a decimal number (digits and at most one point)");
  for (int i = decimals < 0 ? 0 : decimals; i < places; ++i) {
    if (__builtin_mul_overflow(value, std::int64_t{10}, &value)) return refuse("is too large");
  }
  if (!negative && __builtin_sub_overflow(std::int64_t{0}, value, &value)) return refuse("is too large");
  return value;
}

std::string format_decimal(std::int64_t value, int places) {
  std::uint64_t magnitude = value < 0 ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  std::string digits = std::to_string(magnitude);
  if (digits.size() <= static_cast<std::size_t>(places)) digits.insert(0, static_cast<std::size_t>(places) + 1 - digits.size(), '0');
  if (places > 0) {
    digits.insert(digits.size() - static_cast<std::size_t>(places), 1, '.');
    while (digits.back() == '0') digits.pop_back();
    if (digits.back() == '.') digits.pop_back();
  }
  return value < 0 ? "-" + digits : digits;
}

}  // namespace tokenworks
