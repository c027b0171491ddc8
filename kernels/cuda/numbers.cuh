#pragma once
// Numbers in kernels: bf16, f16 and fp8 (e4m3) to and from fp32, 16-byte loads and stores, reductions over a warp and a
// block. Conversions round to nearest even on both builds; fp8 saturates at 448 as cuda_fp8.h's __NV_SATFINITE does.
#include "kernels/cuda/launch.cuh"

#if !defined(TW_EMULATE)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#endif

namespace tokenworks::kernels::cuda::TW_TARGET {

inline constexpr float kFp8Max = 448.0f;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

struct bf16 { std::uint16_t bits; };
struct f16 { std::uint16_t bits; };
struct fp8 { std::uint8_t bits; };

#if defined(TW_EMULATE)

inline float to_float(bf16 v) { return __builtin_bit_cast(float, static_cast<std::uint32_t>(v.bits) << 16); }
inline float to_float(f16 v) {
  const std::uint32_t sign = static_cast<std::uint32_t>(v.bits & 0x8000u) << 16, exponent = v.bits >> 10 & 31u;
  std::uint32_t mantissa = v.bits & 0x3FFu;
  if (exponent == 31) return __builtin_bit_cast(float, sign | 0x7F800000u | mantissa << 13);
  if (exponent != 0) return __builtin_bit_cast(float, sign | (exponent + 112) << 23 | mantissa << 13);
  const float small = static_cast<float>(mantissa) * 0x1p-24f;
  return sign != 0 ? -small : small;
}
inline float to_float(fp8 v) {
  const std::uint32_t exponent = v.bits >> 3 & 15u, mantissa = v.bits & 7u;
  if ((v.bits & 0x7Fu) == 0x7Fu) return __builtin_nanf("");
  const float size = exponent == 0 ? static_cast<float>(mantissa) * 0x1p-9f
                                   : __builtin_bit_cast(float, (exponent + 120) << 23 | mantissa << 20);
  return (v.bits & 0x80u) != 0 ? -size : size;
}
inline bf16 to_bf16(float f) {
  const std::uint32_t u = __builtin_bit_cast(std::uint32_t, f);
  if ((u & 0x7FFFFFFFu) > 0x7F800000u) return {0x7FFF};
  return {static_cast<std::uint16_t>((u + 0x7FFFu + (u >> 16 & 1u)) >> 16)};
}
inline f16 to_f16(float f) {
  const std::uint32_t u = __builtin_bit_cast(std::uint32_t, f), sign = u >> 16 & 0x8000u, size = u & 0x7FFFFFFFu;
  if (size > 0x7F800000u) return {0x7FFF};
  if (size >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};
  if (size < 0x38800000u)                            // subnormal: a multiple of 2^-24
    return {static_cast<std::uint16_t>(
        sign | static_cast<std::uint32_t>(std::nearbyint(__builtin_bit_cast(float, size) * 0x1p24f)))};
  const std::uint32_t rounded = size + 0xFFFu + (size >> 13 & 1u);
  return {static_cast<std::uint16_t>(sign | (rounded - 0x38000000u) >> 13)};
}
inline fp8 to_fp8(float f) {
  const std::uint32_t u = __builtin_bit_cast(std::uint32_t, f), sign = u >> 24 & 0x80u, size = u & 0x7FFFFFFFu;
  if (size > 0x7F800000u) return {0x7F};
  const float a = __builtin_bit_cast(float, size);
  if (a >= kFp8Max) return {static_cast<std::uint8_t>(sign | 0x7Eu)};
  if (a < 0x1p-6f) return {static_cast<std::uint8_t>(sign | static_cast<std::uint32_t>(std::nearbyint(a * 0x1p9f)))};
  const std::uint32_t rounded = size + 0x7FFFFu + (size >> 20 & 1u);
  const std::uint32_t bits = (rounded >> 20) - (120u << 3);
  return {static_cast<std::uint8_t>(sign | (bits > 0x7Eu ? 0x7Eu : bits))};
}
inline uint4 load16(const void* at) {
  ::tokenworks::emulator::check_read(at, 16);
  uint4 v;
  __builtin_memcpy(&v, at, 16);
  return v;
}
inline void store16(void* at, uint4 v) {
  ::tokenworks::emulator::check_write(at, 16);
  __builtin_memcpy(at, &v, 16);
}

#else

__device__ __forceinline__ float to_float(bf16 v) { return __uint_as_float(static_cast<unsigned>(v.bits) << 16); }
__device__ __forceinline__ float to_float(f16 v) { return __half2float(__ushort_as_half(v.bits)); }
__device__ __forceinline__ float to_float(fp8 v) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(v.bits, __NV_E4M3)));
}
__device__ __forceinline__ bf16 to_bf16(float f) { return {__bfloat16_as_ushort(__float2bfloat16_rn(f))}; }
__device__ __forceinline__ f16 to_f16(float f) { return {__half_as_ushort(__float2half_rn(f))}; }
__device__ __forceinline__ fp8 to_fp8(float f) {
  return {static_cast<std::uint8_t>(__nv_cvt_float_to_fp8(f, __NV_SATFINITE, __NV_E4M3))};
}
__device__ __forceinline__ uint4 load16(const void* at) { return *static_cast<const uint4*>(at); }
__device__ __forceinline__ void store16(void* at, uint4 v) { *static_cast<uint4*>(at) = v; }

#endif

__device__ __forceinline__ float to_float(float v) { return v; }
template <class T> __device__ __forceinline__ T from_float(float f);
template <> __device__ __forceinline__ float from_float<float>(float f) { return f; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float f) { return to_bf16(f); }
template <> __device__ __forceinline__ f16 from_float<f16>(float f) { return to_f16(f); }
template <> __device__ __forceinline__ fp8 from_float<fp8>(float f) { return to_fp8(f); }

// Two 16-bit elements of T in one register, the lower index in the low half.
template <class T>
__device__ __forceinline__ std::uint32_t pack2(float low, float high) {
  return static_cast<std::uint32_t>(from_float<T>(low).bits) | static_cast<std::uint32_t>(from_float<T>(high).bits) << 16;
}

__device__ __forceinline__ float warp_sum(float v) {
  for (int lanes = TW_PLANT(16) ? 8 : 16; lanes > 0; lanes /= 2) v += __shfl_xor_sync(kAllLanes, v, lanes);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
  for (int lanes = 16; lanes > 0; lanes /= 2) v = fmaxf(v, __shfl_xor_sync(TW_PLANT(15) ? 0xFFFFu : kAllLanes, v, lanes));
  return v;
}

// Over all threads of a block (whole warps, at most 32); every thread gets the result. `scratch` is 32 floats of shared
// memory; a barrier stands before its first use, so it can be used again at once.
template <bool kMax>
__device__ __forceinline__ float block_reduce(float v, float* scratch) {
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int warps = static_cast<int>(blockDim.x / 32);
  v = kMax ? warp_max(v) : warp_sum(v);
  __syncthreads();
  if (lane == 0) scratch[warp] = v;
  if (TW_PLANT(17) ? warp == 0 : !TW_PLANT(1)) __syncthreads();
  v = lane < warps ? scratch[lane] : (kMax ? -__builtin_inff() : 0.0f);
  return kMax ? warp_max(v) : warp_sum(v);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
