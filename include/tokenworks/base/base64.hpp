#pragma once
// Base64 with padding (RFC 4648, section 4), over OpenSSL. Any thread.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace tokenworks {

std::string base64(std::span<const std::uint8_t> bytes);
std::optional<std::string> from_base64(std::string_view text);   // the bytes; nullopt unless it is exactly that form

}  // namespace tokenworks
