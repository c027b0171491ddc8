// Shuffles, votes and asynchronous copies. Compiled without instrumentation.
#include <fmt/format.h>

#include <cstring>

#include "execute.hpp"
#include "state.hpp"

namespace tokenworks::emulator {

std::uint32_t shuffle(std::uint32_t mask, std::uint32_t value, std::uint32_t source_lane) {
  struct Slot {
    std::uint32_t value, source, result;
  } slot{value, source_lane, 0};
  if (source_lane < 32 && (mask >> source_lane & 1u) == 0)
    fault_with(fmt::format("shuffle: lane {} reads lane {}, which is not in the mask {:#x}", lane(), source_lane, mask));
  meet(mask, "shuffle", &slot, [](void** slots, std::uint32_t met) {
    for (std::uint32_t l = 0; l < 32; ++l) {
      if ((met >> l & 1u) == 0) continue;
      auto& s = *static_cast<Slot*>(slots[l]);
      s.result = s.source < 32 ? static_cast<Slot*>(slots[s.source])->value : s.value;
    }
  });
  return slot.result;
}

std::uint32_t ballot(std::uint32_t mask, bool value) {
  struct Slot {
    bool value;
    std::uint32_t result;
  } slot{value, 0};
  meet(mask, "vote", &slot, [](void** slots, std::uint32_t met) {
    std::uint32_t bits = 0;
    for (std::uint32_t l = 0; l < 32; ++l)
      if ((met >> l & 1u) != 0 && static_cast<Slot*>(slots[l])->value) bits |= 1u << l;
    for (std::uint32_t l = 0; l < 32; ++l)
      if ((met >> l & 1u) != 0) static_cast<Slot*>(slots[l])->result = bits;
  });
  return slot.result;
}

void copy_async(void* shared, const void* global, std::uint32_t bytes, std::uint32_t from_bytes) {
  Block& b = *running_block();
  Thread& t = running_thread();
  if (bytes != 4 && bytes != 8 && bytes != 16) fault_with(fmt::format("cp.async of {} bytes", bytes));
  if (from_bytes > bytes) fault_with(fmt::format("cp.async of {} bytes from {}", bytes, from_bytes));
  const std::size_t offset = static_cast<std::size_t>(static_cast<unsigned char*>(shared) - b.shared.get());
  if (offset >= Block::kSharedMax) fault("cp.async to an address that is not shared memory");
  if (reinterpret_cast<std::uintptr_t>(global) % bytes != 0) fault("cp.async from a misaligned address");
  if (from_bytes > 0) check_read(global, from_bytes);
  check_write(shared, bytes);
  std::memset(shared, kPoison, bytes);
  for (std::size_t i = offset; i < offset + bytes; ++i) b.cells[i].flags |= SharedCell::kInFlight;
  t.copies.push_back({reinterpret_cast<std::uintptr_t>(shared), reinterpret_cast<std::uintptr_t>(global), bytes,
                      from_bytes});
}

void copy_async_commit() {
  Thread& t = running_thread();
  t.groups.push_back(std::move(t.copies));
  t.copies.clear();
}

void copy_async_wait(std::uint32_t groups_left) {
  Block& b = *running_block();
  Thread& t = running_thread();
  while (t.groups.size() > groups_left) {
    for (const AsyncCopy& c : t.groups.front()) {
      auto* to = reinterpret_cast<unsigned char*>(c.to);
      if (c.from_bytes > 0) std::memcpy(to, reinterpret_cast<const void*>(c.from), c.from_bytes);
      std::memset(to + c.from_bytes, 0, c.bytes - c.from_bytes);
      const std::size_t offset = static_cast<std::size_t>(to - b.shared.get());
      for (std::size_t i = offset; i < offset + c.bytes; ++i) {
        b.cells[i].flags &= static_cast<std::uint8_t>(~SharedCell::kInFlight);
        b.cells[i].write_tick = b.tick;
      }
    }
    t.groups.erase(t.groups.begin());
  }
}

}  // namespace tokenworks::emulator
