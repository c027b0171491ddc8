#include "backend/cpu/memory.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include <cstdint>

namespace tokenworks::backend {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kPage = 4096;

std::size_t free_bytes() {
  struct sysinfo info {};
  if (sysinfo(&info) != 0) return 0;
  return (static_cast<std::size_t>(info.freeram) + info.bufferram) * info.mem_unit;
}

}  // namespace

Result<Pages> Pages::allocate(std::size_t bytes, const char* what) {
  Pages pages;
  if (bytes == 0) return pages;
  const bool huge = bytes >= kHugePage;
  const std::size_t step = huge ? kHugePage : kPage;
  const auto refused = [&] {
    return error(Errc::bad_config, fmt::format("no memory for {}: {:.1f} MiB asked for, {:.1f} MiB free", what,
                                               static_cast<double>(bytes) / (1 << 20),
                                               static_cast<double>(free_bytes()) / (1 << 20)));
  };
  if (bytes > SIZE_MAX / 4) return refused();
  const std::size_t size = (bytes + step - 1) / step * step;
  const std::size_t reserve = huge ? size + kHugePage : size;
  void* const at = mmap(nullptr, reserve, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return refused();
  auto address = reinterpret_cast<std::uintptr_t>(at);
  if (huge) {                                        // give back what lies outside an aligned range, then ask for 2 MiB pages
    const std::uintptr_t aligned = (address + kHugePage - 1) / kHugePage * kHugePage;
    if (aligned > address) munmap(at, aligned - address);
    const std::uintptr_t end = address + reserve;
    if (end > aligned + size) munmap(reinterpret_cast<void*>(aligned + size), end - aligned - size);
    address = aligned;
    madvise(reinterpret_cast<void*>(address), size, MADV_HUGEPAGE);
  }
  pages.data_ = reinterpret_cast<std::byte*>(address);
  pages.bytes_ = bytes;
  pages.mapped_ = size;
  return pages;
}

Pages::~Pages() {
  if (data_ != nullptr) munmap(data_, mapped_);
}

}  // namespace tokenworks::backend
