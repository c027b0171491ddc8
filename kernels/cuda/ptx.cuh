#pragma once
// The instructions that C++ has no words for, each with a device body and an emulator body that does the same by the PTX
// manual's words (PTX ISA 8.x: cp.async, ldmatrix, mma.sync fragments of m16n8k16): fragments are lane for lane the same,
// so a kernel whose indexing is right in the emulator is right on the card.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

#if defined(TW_EMULATE)

// 16 bytes from global to shared memory, of which the first `from_bytes` are read and the rest become zero.
inline void copy_async16(void* to, const void* from, std::uint32_t from_bytes = 16) {
  ::tokenworks::emulator::copy_async(to, from, 16, from_bytes);
}
inline void copy_async_commit() { ::tokenworks::emulator::copy_async_commit(); }
template <int kLeft>
inline void copy_async_wait() { ::tokenworks::emulator::copy_async_wait(kLeft); }

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8, and gets elements
// [l / 4][2 (l % 4) .. + 1] of matrix i in d[i]; transposed: element [2 (l % 4) .. + 1][l / 4].
struct MatrixSlot {
  const void* row;
  std::uint32_t* d;
};
template <bool kTransposed>
inline void load_matrix(std::uint32_t (&d)[4], const void* row) {
  ::tokenworks::emulator::check_read(row, 16);
  MatrixSlot slot{row, d};
  ::tokenworks::emulator::meet(kAllLanes, kTransposed ? "ldmatrix.trans" : "ldmatrix", &slot,
                               [](void* slots[32], std::uint32_t) {
    const auto element = [&](int matrix, int r, int c) {
      std::uint16_t v;
      __builtin_memcpy(&v, static_cast<const char*>(static_cast<MatrixSlot*>(slots[matrix * 8 + r])->row) + c * 2, 2);
      return std::uint32_t{v};
    };
    for (int l = 0; l < 32; ++l)
      for (int m = 0; m < 4; ++m) {
        const int i = l / 4, j = 2 * (l % 4);
        static_cast<MatrixSlot*>(slots[l])->d[m] =
            kTransposed ? element(m, j, i) | element(m, j + 1, i) << 16 : element(m, i, j) | element(m, i, j + 1) << 16;
      }
  });
}

// c [16, 8] += a [16, 16] * b [16, 8], fp32 sums of T products. Lane l, g = l / 4, t = l % 4:
// a[0]: row g, columns 2t, 2t+1; a[1]: row g+8; a[2]: row g, columns 2t+8, +9; a[3]: row g+8, columns 2t+8, +9
// b[0]: rows 2t, 2t+1, column g; b[1]: rows 2t+8, +9;  c[0], c[1]: row g, columns 2t, 2t+1; c[2], c[3]: row g+8.
struct MmaSlot {
  const std::uint32_t *a, *b;
  float* c;
};
template <class T>
inline void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  MmaSlot slot{a, b, c};
  ::tokenworks::emulator::meet(kAllLanes, "mma.m16n8k16", &slot, [](void* slots[32], std::uint32_t) {
    float left[16][16], right[16][8];
    const auto half = [](std::uint32_t pair, int i) { return to_float(T{static_cast<std::uint16_t>(pair >> (16 * i))}); };
    for (int l = 0; l < 32; ++l) {
      const auto& s = *static_cast<MmaSlot*>(slots[l]);
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 2; ++i) {
        left[g][2 * t + i] = half(s.a[0], i);
        left[g + 8][2 * t + i] = half(s.a[1], i);
        left[g][2 * t + 8 + i] = half(s.a[2], i);
        left[g + 8][2 * t + 8 + i] = half(s.a[3], i);
        right[2 * t + i][g] = half(s.b[0], i);
        right[2 * t + 8 + i][g] = half(s.b[1], i);
      }
    }
    for (int l = 0; l < 32; ++l) {
      const auto& s = *static_cast<MmaSlot*>(slots[l]);
      for (int e = 0; e < 4; ++e) {
        const int row = l / 4 + (e / 2) * 8, column = 2 * (l % 4) + e % 2;
        float sum = s.c[e];
        for (int k = 0; k < 16; ++k) sum = std::fma(left[row][k], right[k][column], sum);
        s.c[e] = sum;
      }
    }
  });
}

#else

__device__ __forceinline__ unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}
__device__ __forceinline__ void copy_async16(void* to, const void* from, std::uint32_t from_bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(from_bytes)
               : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}
template <bool kTransposed>
__device__ __forceinline__ void load_matrix(std::uint32_t (&d)[4], const void* row) {
  if constexpr (kTransposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(shared_address(row)) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(shared_address(row)) : "memory");
}
template <class T>
__device__ __forceinline__ void mma_16x8x16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, f16>)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

}  // namespace tokenworks::kernels::cuda::TW_TARGET
