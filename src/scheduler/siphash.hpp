#pragma once
// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012; the 128-bit variant of their reference): a keyed
// hash that cannot be steered without the key. The prefix cache chains it over blocks of tokens. Pure.
#include <cstdint>
#include <span>

namespace tokenworks::scheduler {

struct Hash128 {
  std::uint64_t low = 0, high = 0;
  bool operator==(const Hash128&) const = default;
};

Hash128 siphash128(const Hash128& key, std::span<const std::uint64_t> words);   // over words, little-endian

}  // namespace tokenworks::scheduler
