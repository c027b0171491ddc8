#pragma once
// What a .cu file sees in place of the CUDA headers when the host compiler builds it for the emulator: the qualifiers, the
// built-in variables and functions, vector types. Everything here either is plain arithmetic or calls into the emulator,
// which is compiled without instrumentation; kernels are compiled with -fsanitize=thread, whose calls at every load and
// store the emulator answers itself (hooks.cpp).
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__

namespace tokenworks::emulator {

struct Index {
  std::uint32_t x, y, z;
};
Index thread_index();
Index block_index();
Index block_size();
Index grid_size();

void* shared_memory(std::size_t bytes);              // the block's; a fault if the launch gave less
void sync_threads();
int sync_threads_or(int value);
void sync_warp(std::uint32_t mask);
void fence();
std::uint32_t active_lanes();                        // lanes of the warp that have not ended

// All lanes of `mask` meet here with the same `what`; the last one to arrive runs combine(slots), slots[lane] being what
// that lane handed in, null outside the mask.
using Combine = void (*)(void* slots[32], std::uint32_t mask);
void meet(std::uint32_t mask, const char* what, void* mine, Combine combine);
std::uint32_t lane();
[[noreturn]] void fault(const char* why);            // of the calling thread; it never continues

void check_read(const void* at, std::size_t bytes);  // what the hooks do, for bodies that the hooks do not see
void check_write(void* at, std::size_t bytes);
void check_atomic(void* at, std::size_t bytes);

// Shuffle of 4 bytes: value of lane source(lane), which must be in the mask.
std::uint32_t shuffle(std::uint32_t mask, std::uint32_t value, std::uint32_t source_lane);
std::uint32_t ballot(std::uint32_t mask, bool value);

// cp.async: `bytes` (4, 8, 16) of which the first `from_bytes` are copied and the rest zeroed; what is in flight must not be
// touched. Groups as in PTX: commit closes one, wait_group(n) completes all but the newest n of this thread.
void copy_async(void* shared, const void* global, std::uint32_t bytes, std::uint32_t from_bytes);
void copy_async_commit();
void copy_async_wait(std::uint32_t groups_left);

// Between cards: a store with release and a wait with acquire, of system scope. While a grid's threads wait, another card's grid
// may run on its own thread of the host. False: `left` became nonzero first.
void store_flag(std::uint32_t* at, std::uint32_t value);
bool wait_flag(const std::uint32_t* at, std::uint32_t least, const std::uint32_t* left);

bool planted(int bug);

template <class T>
T atomic_apply(T* at, T (*f)(T old, T operand), T operand);
extern template std::uint32_t atomic_apply(std::uint32_t*, std::uint32_t (*)(std::uint32_t, std::uint32_t), std::uint32_t);
extern template std::int32_t atomic_apply(std::int32_t*, std::int32_t (*)(std::int32_t, std::int32_t), std::int32_t);
extern template float atomic_apply(float*, float (*)(float, float), float);
extern template double atomic_apply(double*, double (*)(double, double), double);
extern template unsigned long long atomic_apply(unsigned long long*,
                                                unsigned long long (*)(unsigned long long, unsigned long long),
                                                unsigned long long);
std::uint32_t atomic_swap_if(std::uint32_t* at, std::uint32_t expected, std::uint32_t value);

}  // namespace tokenworks::emulator

#define threadIdx (::tokenworks::emulator::thread_index())
#define blockIdx (::tokenworks::emulator::block_index())
#define blockDim (::tokenworks::emulator::block_size())
#define gridDim (::tokenworks::emulator::grid_size())

struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

inline void __syncthreads() { ::tokenworks::emulator::sync_threads(); }
inline int __syncthreads_or(int v) { return ::tokenworks::emulator::sync_threads_or(v); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { ::tokenworks::emulator::sync_warp(mask); }
inline void __threadfence() { ::tokenworks::emulator::fence(); }
inline void __threadfence_block() {}

template <class T>
inline std::uint32_t tw_bits32(T v) {
  static_assert(sizeof(T) == 4);
  return __builtin_bit_cast(std::uint32_t, v);
}
template <class T>
inline T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  const unsigned lane = ::tokenworks::emulator::lane(), w = static_cast<unsigned>(width);
  return __builtin_bit_cast(T, ::tokenworks::emulator::shuffle(mask, tw_bits32(v), (lane & ~(w - 1)) |
                                                                                       (static_cast<unsigned>(source) & (w - 1))));
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int = 32) {
  return __builtin_bit_cast(T, ::tokenworks::emulator::shuffle(mask, tw_bits32(v),
                                                               ::tokenworks::emulator::lane() ^ static_cast<unsigned>(lanes)));
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int = 32) {
  const unsigned lane = ::tokenworks::emulator::lane(), from = lane + by < 32 ? lane + by : lane;
  return __builtin_bit_cast(T, ::tokenworks::emulator::shuffle(mask, tw_bits32(v), from));
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int = 32) {
  const unsigned lane = ::tokenworks::emulator::lane(), from = lane >= by ? lane - by : lane;
  return __builtin_bit_cast(T, ::tokenworks::emulator::shuffle(mask, tw_bits32(v), from));
}
inline unsigned __ballot_sync(unsigned mask, bool v) { return ::tokenworks::emulator::ballot(mask, v); }
inline int __any_sync(unsigned mask, bool v) { return ::tokenworks::emulator::ballot(mask, v) != 0; }
inline int __all_sync(unsigned mask, bool v) { return ::tokenworks::emulator::ballot(mask, v) == mask; }

inline std::uint32_t atomicAdd(std::uint32_t* at, std::uint32_t v) {
  return ::tokenworks::emulator::atomic_apply<std::uint32_t>(at, [](std::uint32_t a, std::uint32_t b) { return a + b; }, v);
}
inline std::int32_t atomicAdd(std::int32_t* at, std::int32_t v) {
  return ::tokenworks::emulator::atomic_apply<std::int32_t>(at, [](std::int32_t a, std::int32_t b) { return a + b; }, v);
}
inline float atomicAdd(float* at, float v) {
  return ::tokenworks::emulator::atomic_apply<float>(at, [](float a, float b) { return a + b; }, v);
}
inline double atomicAdd(double* at, double v) {
  return ::tokenworks::emulator::atomic_apply<double>(at, [](double a, double b) { return a + b; }, v);
}
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long v) {
  return ::tokenworks::emulator::atomic_apply<unsigned long long>(
      at, [](unsigned long long a, unsigned long long b) { return a + b; }, v);
}
inline std::uint32_t atomicMax(std::uint32_t* at, std::uint32_t v) {
  return ::tokenworks::emulator::atomic_apply<std::uint32_t>(
      at, [](std::uint32_t a, std::uint32_t b) { return a > b ? a : b; }, v);
}
inline std::int32_t atomicMax(std::int32_t* at, std::int32_t v) {
  return ::tokenworks::emulator::atomic_apply<std::int32_t>(at, [](std::int32_t a, std::int32_t b) { return a > b ? a : b; }, v);
}
inline std::int32_t atomicMin(std::int32_t* at, std::int32_t v) {
  return ::tokenworks::emulator::atomic_apply<std::int32_t>(at, [](std::int32_t a, std::int32_t b) { return a < b ? a : b; }, v);
}
inline std::uint32_t atomicOr(std::uint32_t* at, std::uint32_t v) {
  return ::tokenworks::emulator::atomic_apply<std::uint32_t>(at, [](std::uint32_t a, std::uint32_t b) { return a | b; }, v);
}
inline std::uint32_t atomicExch(std::uint32_t* at, std::uint32_t v) {
  return ::tokenworks::emulator::atomic_apply<std::uint32_t>(at, [](std::uint32_t, std::uint32_t b) { return b; }, v);
}
inline std::uint32_t atomicCAS(std::uint32_t* at, std::uint32_t expected, std::uint32_t v) {
  return ::tokenworks::emulator::atomic_swap_if(at, expected, v);
}

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz(static_cast<unsigned>(v)); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __float_as_uint(float f) { return __builtin_bit_cast(unsigned, f); }
inline float __uint_as_float(unsigned u) { return __builtin_bit_cast(float, u); }
inline int __float_as_int(float f) { return __builtin_bit_cast(int, f); }
inline float __int_as_float(int i) { return __builtin_bit_cast(float, i); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((std::uint64_t{a} * b) >> 32); }
