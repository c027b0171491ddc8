#pragma once
// Flags between cards that reach each other's memory, with a device body and an emulator body as in ptx.cuh.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

#if defined(TW_EMULATE)

// A store that everything the block did before its last barrier is visible with,
// and a wait for a flag to reach `least` (as a distance, so that it may wrap around). False: `left` became nonzero first.
inline void store_flag(std::uint32_t* at, std::uint32_t value) { ::tokenworks::emulator::store_flag(at, value); }
inline bool wait_flag(const std::uint32_t* at, std::uint32_t least, const std::uint32_t* left) {
  return ::tokenworks::emulator::wait_flag(at, least, left);
}

#else

inline constexpr std::uint32_t kFlagLooks = 64;      // at the flag, for one at what else may end the waiting
inline constexpr unsigned long long kFlagPatience = 20'000'000'000;   // nanoseconds; then the grid fails, and with it the card
__device__ __forceinline__ unsigned long long global_ns() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}
__device__ __forceinline__ void store_flag(std::uint32_t* at, std::uint32_t value) {
  asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}
__device__ __forceinline__ bool wait_flag(const std::uint32_t* at, std::uint32_t least, const std::uint32_t* left) {
  const unsigned long long began = global_ns();
  for (std::uint32_t look = 1;; ++look) {
    std::uint32_t flag, gone;
    asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(flag) : "l"(at) : "memory");
    if (static_cast<std::int32_t>(flag - least) >= 0) return true;
    if (look % kFlagLooks != 0) continue;            // `left` lies in the host's memory: a microsecond, and the bus for all blocks
    asm volatile("ld.relaxed.sys.u32 %0, [%1];" : "=r"(gone) : "l"(left) : "memory");
    if (gone != 0) return false;
    if (global_ns() - began > kFlagPatience) __trap();
  }
}

#endif

}  // namespace tokenworks::kernels::cuda::TW_TARGET
