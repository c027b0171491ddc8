#pragma once
// Parts: what follows from the entries (accounts, credits, rollups, spend by tag) is written in parts by series, a few
// with each commit, so that no commit waits for all of it. For each part the state keeps the last entry its rows include.
#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace tokenworks::ledger {

inline constexpr std::size_t kParts = 256;

// Neighbours share a part: their rows share pages.
constexpr std::size_t part_of(std::int64_t series) { return static_cast<std::size_t>(series) / 16 % kParts; }

class Reach {
 public:
  static constexpr std::size_t kBytes = kParts * 8;

  std::int64_t of(std::int64_t series) const { return through_[part_of(series)]; }
  std::int64_t part(std::size_t part) const { return through_[part]; }
  void set(std::size_t part, std::int64_t entry) { through_[part] = entry; }
  std::int64_t least() const { return *std::min_element(through_.begin(), through_.end()); }
  std::int64_t most() const { return *std::max_element(through_.begin(), through_.end()); }

  // state.rolled: the parts in order, 8 bytes each, big-endian.
  void write(std::vector<std::uint8_t>& into) const {
    into.clear();
    for (const std::int64_t entry : through_) {
      for (int shift = 56; shift >= 0; shift -= 8) into.push_back(static_cast<std::uint8_t>(entry >> shift));
    }
  }
  // False unless there are exactly kBytes.
  bool read(std::span<const std::uint8_t> bytes) {
    if (bytes.size() != kBytes) return false;
    for (std::size_t i = 0; i < kParts; ++i) {
      std::uint64_t entry = 0;
      for (std::size_t k = 0; k < 8; ++k) entry = entry << 8 | bytes[8 * i + k];
      through_[i] = static_cast<std::int64_t>(entry);
    }
    return true;
  }

 private:
  std::array<std::int64_t, kParts> through_{};
};

}  // namespace tokenworks::ledger
