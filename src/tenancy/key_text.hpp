#pragma once
// The text of an ApiKey: "sk-tw-", 8 characters of id, "-", 40 characters of secret, both of [0-9A-Za-z]. The secret carries
// 238 bits from the system's generator; only a hash of the whole text is ever stored.
#include <optional>
#include <string>
#include <string_view>

namespace tokenworks::tenancy {

inline constexpr std::string_view kKeyPrefix = "sk-tw-";
inline constexpr std::size_t kIdLength = 8, kSecretLength = 40;

struct KeyText {
  std::string id, text;
};
KeyText make_key_text();

// The id within a text of the right form; nullopt for anything else. Views into `text`.
std::optional<std::string_view> id_of_key(std::string_view text);

}  // namespace tokenworks::tenancy
