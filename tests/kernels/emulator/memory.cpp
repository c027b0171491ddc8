#include "memory.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tokenworks::emulator {

Memory::Memory() {
  void* at = mmap(nullptr, kRangeBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    std::perror("emulator: device memory");
    std::abort();
  }
  base_ = reinterpret_cast<std::uintptr_t>(at);
  next_ = base_ + kRedZone;
}

Memory::~Memory() { munmap(reinterpret_cast<void*>(base_), kRangeBytes); }

void* Memory::allocate(std::size_t bytes, const std::string& what) {
  const std::uintptr_t begin = next_;
  // What is asked for ends where the red zone begins, to the byte; the begin is aligned as cudaMalloc aligns.
  next_ = (begin + bytes + kRedZone + 4095) / 4096 * 4096;
  Allocation a;
  a.begin = begin;
  a.end = begin + bytes;
  a.what = what;
  allocations_.emplace(begin, std::move(a));
  std::memset(reinterpret_cast<void*>(begin), kPoison, bytes);
  bytes_ += bytes;
  return reinterpret_cast<void*>(begin);
}

bool Memory::free(void* at) {
  const auto found = allocations_.find(reinterpret_cast<std::uintptr_t>(at));
  if (found == allocations_.end()) return false;
  const std::size_t bytes = found->second.end - found->second.begin;
  madvise(at, (bytes + 4095) / 4096 * 4096, MADV_DONTNEED);
  bytes_ -= bytes;
  std::fill(std::begin(cache_), std::end(cache_), nullptr);
  allocations_.erase(found);
  return true;
}

Allocation* Memory::find(std::uintptr_t address) {
  Allocation*& cached = cache_[(address >> 12) % kCached];
  if (cached != nullptr && address >= cached->begin && address < cached->end) return cached;
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  Allocation& a = std::prev(after)->second;
  if (address >= a.end) return nullptr;
  cached = &a;
  return &a;
}

std::string Memory::describe(std::uintptr_t address, std::size_t bytes) {
  if (!holds(address)) return fmt::format("{} bytes at {:#x} are host memory", bytes, address);
  auto after = allocations_.upper_bound(address);
  std::string text = fmt::format("{} bytes", bytes);
  if (after != allocations_.begin()) {
    const Allocation& a = std::prev(after)->second;
    if (address < a.end)
      return text + fmt::format(" at offset {} of {} ({} bytes)", address - a.begin, a.what, a.end - a.begin);
    if (address < a.end + kRedZone)
      return text + fmt::format(" {} bytes behind the end of {} ({} bytes)", address - a.end, a.what, a.end - a.begin);
  }
  if (after != allocations_.end())
    return text + fmt::format(" {} bytes before {}", after->second.begin - address, after->second.what);
  return text + " in no allocation, or in a freed one";
}

}  // namespace tokenworks::emulator
