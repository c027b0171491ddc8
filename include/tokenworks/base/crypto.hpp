#pragma once
// The few cryptographic calls the rooms share, over OpenSSL 3. Any thread.
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tokenworks {

using Digest = std::array<std::uint8_t, 32>;         // SHA-256

Digest sha256(std::span<const std::byte> bytes);
Digest sha256(std::string_view bytes);
Digest hmac_sha256(std::string_view key, std::string_view bytes);
bool equal_constant_time(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b);
void random_bytes(std::span<std::uint8_t> into);     // aborts when the system has no randomness: never go on without

std::string hex(std::span<const std::uint8_t> bytes);
bool from_hex(std::string_view text, std::span<std::uint8_t> into);   // false unless exactly 2 digits per byte

// SHA-256 over pieces.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  void update(std::string_view bytes);
  Digest finish();                                   // the object is spent afterwards

 private:
  void* context_;
};

}  // namespace tokenworks
