#pragma once
// Strong ids: values of different meaning do not mix, and each has one text form.
//
// RequestId is a UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits, so ids made later sort later and a
// database index on them grows at its end.
#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace tokenworks {

using TokenId = std::int32_t;                        // a model token, never a credential

struct RequestId {
  std::array<std::uint8_t, 16> bytes{};

  // `unix_ms` and 10 random bytes; version and variant bits are set here.
  static RequestId make(std::int64_t unix_ms, const std::array<std::uint8_t, 10>& random);
  static RequestId make_now();                       // system clock and OpenSSL's generator; within a process, ascending
  static std::optional<RequestId> parse(std::string_view text);   // accepts what to_string writes

  std::string to_string() const;                     // "req_" and 32 lower-case hex digits
  auto operator<=>(const RequestId&) const = default;
};

// A text id that does not mix with others: Name<struct OrganizationTag>.
template <class Tag>
struct Name {
  std::string value;
  auto operator<=>(const Name&) const = default;
};
using OrganizationId = Name<struct OrganizationTag>;   // "acme"
using ProjectId = Name<struct ProjectTag>;             // "acme/search": always organization/project
using KeyId = Name<struct KeyTag>;                     // the 8 characters after sk-tw-
using ModelId = Name<struct ModelTag>;                 // as configured, "smollm2-135m-instruct"

}  // namespace tokenworks

template <>
struct std::hash<tokenworks::RequestId> {
  std::size_t operator()(const tokenworks::RequestId& id) const noexcept {
    std::size_t h = 0;
    for (int i = 8; i < 16; ++i) h = h << 8 | id.bytes[static_cast<std::size_t>(i)];   // the random half
    return h;
  }
};
template <class Tag>
struct std::hash<tokenworks::Name<Tag>> {
  std::size_t operator()(const tokenworks::Name<Tag>& id) const noexcept { return std::hash<std::string>{}(id.value); }
};
