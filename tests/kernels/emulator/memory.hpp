#pragma once
// Device memory of the emulator: one reserved range of addresses; every allocation stands alone between red zones, filled
// with NaN-like poison (0xFF) when made and when freed, and its addresses are never given out again, so every access
// outside a living allocation is seen. Beside each allocation lies a shadow, one cell per 4 bytes, that knows who touched it
// last in the present launch: conflicting accesses of threads that nothing orders are found whatever order they ran in.
// Locked by whoever calls: the emulator runs one grid at a time and holds its lock.
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tokenworks::emulator {

inline constexpr unsigned char kPoison = 0xFF;

struct GlobalCell {                                  // of 4 bytes, valid in `launch` only
  std::uint32_t launch = 0;
  std::uint32_t write_block = 0, write_tick = 0;
  std::uint32_t read_block = 0, read_tick = 0;
  std::uint16_t writer = 0, reader = 0;              // thread + 1; 0: none
  std::uint8_t write_bytes = 0, read_bytes = 0;      // which of the four
  bool many_readers = false, atomic = false;
};

struct Allocation {
  std::uintptr_t begin = 0, end = 0;                 // of what was asked for
  std::string what;                                  // for messages
  std::vector<GlobalCell> shadow;                    // made at the first checked access
};

class Memory {
 public:
  Memory();
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* allocate(std::size_t bytes, const std::string& what);
  bool free(void* at);                               // false: not the begin of a living allocation
  bool holds(std::uintptr_t address) const { return address - base_ < kRangeBytes; }
  Allocation* find(std::uintptr_t address);          // the living allocation that contains it, or null
  // Why [address, address + bytes) is no living device memory: names the nearest allocation.
  std::string describe(std::uintptr_t address, std::size_t bytes);
  std::size_t living() const { return allocations_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t kRangeBytes = std::size_t{1} << 38;   // addresses only
  static constexpr std::size_t kRedZone = 4096;

  std::uintptr_t base_ = 0, next_ = 0;
  std::size_t bytes_ = 0;
  std::map<std::uintptr_t, Allocation> allocations_; // by begin
  static constexpr std::size_t kCached = 256;
  Allocation* cache_[kCached] = {};                  // by page of the address
};

}  // namespace tokenworks::emulator
