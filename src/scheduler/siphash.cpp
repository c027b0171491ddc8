#include "scheduler/siphash.hpp"

#include <bit>

namespace tokenworks::scheduler {
namespace {

struct SipState {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1, v1 = std::rotl(v1, 13), v1 ^= v0, v0 = std::rotl(v0, 32);
    v2 += v3, v3 = std::rotl(v3, 16), v3 ^= v2;
    v0 += v3, v3 = std::rotl(v3, 21), v3 ^= v0;
    v2 += v1, v1 = std::rotl(v1, 17), v1 ^= v2, v2 = std::rotl(v2, 32);
  }
  void absorb(std::uint64_t word) {
    v3 ^= word;
    round(), round();
    v0 ^= word;
  }
  std::uint64_t squeeze() {
    round(), round(), round(), round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

Hash128 siphash128(const Hash128& key, std::span<const std::uint64_t> words) {
  SipState s{key.low ^ 0x736f6d6570736575, key.high ^ 0x646f72616e646f6d, key.low ^ 0x6c7967656e657261,
             key.high ^ 0x7465646279746573};
  s.v1 ^= 0xee;                                      // the 128-bit variant
  for (const std::uint64_t word : words) s.absorb(word);
  s.absorb(static_cast<std::uint64_t>(words.size() * 8) << 56);
  s.v2 ^= 0xee;
  Hash128 hash;
  hash.low = s.squeeze();
  s.v1 ^= 0xdd;
  hash.high = s.squeeze();
  return hash;
}

}  // namespace tokenworks::scheduler
