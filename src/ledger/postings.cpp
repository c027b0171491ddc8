#include "ledger/postings.hpp"

#include <algorithm>

namespace tokenworks::ledger {

std::string kind_of(Account account, std::string_view token_class) {
  switch (account) {
    case Account::available: return "available";
    case Account::held: return "held";
    case Account::funding: return "funding";
    case Account::adjustment: return "adjustment";
    case Account::revenue: return "revenue:" + std::string(token_class);
  }
  return "unknown";
}

std::array<std::uint8_t, 16> to_bytes(Unsigned128 value) {
  std::array<std::uint8_t, 16> bytes;
  for (int i = 15; i >= 0; --i) {
    bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(value & 0xff);
    value >>= 8;
  }
  return bytes;
}

Unsigned128 from_bytes(std::span<const std::uint8_t> bytes) {
  Unsigned128 value = 0;
  if (bytes.size() != 16) return value;
  for (const std::uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

std::string decimal_text(Unsigned128 nano, int places) {
  std::string digits;
  for (int place = 0; place <= places || nano != 0; ++place) {
    if (place == places) digits += '.';
    digits += static_cast<char>('0' + static_cast<int>(nano % 10));
    nano /= 10;
  }
  const auto first = digits.find_first_not_of('0');  // the text is still reversed: these are trailing zeros
  digits.erase(0, digits[first] == '.' ? first + 1 : first);
  std::reverse(digits.begin(), digits.end());
  return digits;
}

}  // namespace tokenworks::ledger
