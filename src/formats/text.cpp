#include "formats/text.hpp"

#include <fmt/format.h>

namespace tokenworks::formats {

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 32 && u < 127) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", u);
    }
  }
  return out + (text.size() > kShown ? "...'" : "'");
}

}  // namespace tokenworks::formats
