#include "tokenworks/base/ids.hpp"

#include <mutex>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/crypto.hpp"

namespace tokenworks {

RequestId RequestId::make(std::int64_t unix_ms, const std::array<std::uint8_t, 10>& random) {
  RequestId id;
  for (int i = 0; i < 6; ++i) id.bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(unix_ms >> (40 - 8 * i));
  for (std::size_t i = 0; i < 10; ++i) id.bytes[6 + i] = random[i];
  id.bytes[6] = static_cast<std::uint8_t>((id.bytes[6] & 0x0f) | 0x70);   // version 7
  id.bytes[8] = static_cast<std::uint8_t>((id.bytes[8] & 0x3f) | 0x80);   // RFC variant
  return id;
}

RequestId RequestId::make_now() {
  static std::mutex mutex;
  static RequestId last;
  std::array<std::uint8_t, 10> random;
  random_bytes(random);
  RequestId id = make(SystemClock{}.unix_ms(), random);
  std::lock_guard lock(mutex);
  if (id <= last) {                                  // the same millisecond, or a clock set back: count on from the last
    id = last;
    for (std::size_t i = 15; i > 8; --i) {
      if (++id.bytes[i] != 0) break;
    }
  }
  last = id;
  return id;
}

std::optional<RequestId> RequestId::parse(std::string_view text) {
  if (!text.starts_with("req_")) return std::nullopt;
  RequestId id;
  if (!from_hex(text.substr(4), id.bytes)) return std::nullopt;
  return id;
}

std::string RequestId::to_string() const { return "req_" + hex(bytes); }

}  // namespace tokenworks
