#pragma once
// ByteSet: a set of byte values.
#include <array>
#include <bit>
#include <cstdint>

namespace tokenworks::grammar {

class ByteSet {
 public:
  static ByteSet range(unsigned low, unsigned high) {  // inclusive
    ByteSet s;
    for (unsigned b = low; b <= high; ++b) s.add(b);
    return s;
  }
  void add(unsigned b) { words_[b >> 6] |= 1ull << (b & 63); }
  bool has(unsigned b) const { return (words_[b >> 6] >> (b & 63) & 1) != 0; }
  bool empty() const { return (words_[0] | words_[1] | words_[2] | words_[3]) == 0; }
  ByteSet& operator|=(const ByteSet& o) {
    for (std::size_t i = 0; i < 4; ++i) words_[i] |= o.words_[i];
    return *this;
  }
  bool operator==(const ByteSet&) const = default;

 private:
  std::array<std::uint64_t, 4> words_{};
};

}  // namespace tokenworks::grammar
