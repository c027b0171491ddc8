#include "key_text.hpp"

#include <algorithm>
#include <array>

#include "tokenworks/base/crypto.hpp"

namespace tokenworks::tenancy {
namespace {

constexpr std::string_view kAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

std::string random_letters(std::size_t length) {
  // Bytes from 248 on are thrown away, so that every letter is equally likely.
  constexpr std::uint8_t kFair = 256 / 62 * 62;
  std::string letters;
  std::array<std::uint8_t, 64> bytes;
  while (letters.size() < length) {
    random_bytes(bytes);
    for (const std::uint8_t byte : bytes) {
      if (byte < kFair && letters.size() < length) letters += kAlphabet[byte % kAlphabet.size()];
    }
  }
  std::ranges::fill(bytes, std::uint8_t{0});
  return letters;
}

bool only_letters(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return kAlphabet.find(c) != std::string_view::npos; });
}

}  // namespace

KeyText make_key_text() {
  KeyText key{random_letters(kIdLength), {}};
  key.text = std::string(kKeyPrefix) + key.id + "-" + random_letters(kSecretLength);
  return key;
}

std::optional<std::string_view> id_of_key(std::string_view text) {
  if (text.size() != kKeyPrefix.size() + kIdLength + 1 + kSecretLength || !text.starts_with(kKeyPrefix)) return std::nullopt;
  const std::string_view id = text.substr(kKeyPrefix.size(), kIdLength);
  const std::string_view secret = text.substr(text.size() - kSecretLength);
  if (!only_letters(id) || !only_letters(secret) || text[kKeyPrefix.size() + kIdLength] != '-') return std::nullopt;
  return id;
}

}  // namespace tokenworks::tenancy
