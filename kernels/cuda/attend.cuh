#pragma once
// What paged decode and prefill attention share: a warp holds 16 queries as fragments of mma.m16n8k16, takes keys and values
// a page (16 positions) at a time from shared memory, and keeps the softmax as (maximum, sum, output) of its two rows.
// bf16 and f16 caches go through ldmatrix. fp8 is widened to f16 on the way into the fragment; which dimension stands where
// in it is free as long as both operands agree, so a lane takes four neighbouring bytes of a key and two of a value.
// A tile is kDim = kv_stride(head_dim) wide; what lies beyond the head is zeros in the cache and in the queries.
// Pages lie in shared memory with 16 bytes between rows, so that eight rows fall on different banks.
#include "kernels/cuda/ptx.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

inline constexpr int kPage = 16;
inline constexpr float kLog2e = 1.44269504088896341f;

template <class T>
using AttendProduct = std::conditional_t<sizeof(T) == 1, f16, T>;

template <class T, int kDim>
struct Page {
  static constexpr int kBytes = kDim * static_cast<int>(sizeof(T));   // of a row in the cache
  static constexpr int kStride = kBytes + 16;                         // of a row in shared memory
  static constexpr int kSize = kPage * kStride;
  static constexpr int kPieces = kBytes / 16;                         // of a row
};

// Two neighbouring fp8 as two f16.
__device__ __forceinline__ std::uint32_t widen_pair(std::uint32_t two) {
#if defined(TW_EMULATE)
  return pack2<f16>(to_float(fp8{static_cast<std::uint8_t>(two)}), to_float(fp8{static_cast<std::uint8_t>(two >> 8)}));
#else
  const __half2_raw h = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(two), __NV_E4M3);
  return static_cast<std::uint32_t>(h.x) | static_cast<std::uint32_t>(h.y) << 16;
#endif
}

struct ScoreRule {
  float scale, soft_cap;                             // of the product; scores leave in units of log 2
  std::int32_t window;
};
__device__ __forceinline__ ScoreRule rule_of(const AttendArgs& a) {
  const float scale = a.shape.scale * a.kv.k_scale;
  return {a.shape.soft_cap > 0 ? scale : scale * kLog2e, a.shape.soft_cap, a.shape.window};
}
__device__ __forceinline__ bool sees(const ScoreRule& rule, std::int32_t position, std::int32_t key) {
  return key <= position && (rule.window <= 0 || key > position - rule.window);
}
__device__ __forceinline__ float score_of(const ScoreRule& rule, float product) {
  if (rule.soft_cap > 0) return rule.soft_cap * kLog2e * tanhf(product * rule.scale / rule.soft_cap);
  return product * rule.scale;
}

// A query of the tile: where its row of q begins (null: there is none), its position (-1: sees nothing).
struct Query {
  const float* q;
  std::int32_t position;
};
__device__ __forceinline__ Query query_of(const AttendArgs& a, const SequenceRows& s, std::int32_t kv_head, std::int32_t query) {
  const std::int32_t group = a.shape.q_heads / a.shape.kv_heads, row = query / group;
  const std::int32_t row_stride = (a.shape.q_heads + 2 * a.shape.kv_heads) * a.shape.head_dim;
  if (row >= s.rows) return {nullptr, -1};
  return {a.qkv + static_cast<std::size_t>(s.row + row) * static_cast<std::size_t>(row_stride) +
              static_cast<std::size_t>(kv_head * group + query % group) * static_cast<std::size_t>(a.shape.head_dim),
          s.context - s.rows + row};
}
__device__ __forceinline__ std::size_t out_of(const AttendArgs& a, const SequenceRows& s, std::int32_t kv_head,
                                              std::int32_t query) {
  const std::int32_t group = a.shape.q_heads / a.shape.kv_heads;
  return static_cast<std::size_t>(s.row + query / group) * static_cast<std::size_t>(a.out.stride) +
         static_cast<std::size_t>(kv_head * group + query % group) * static_cast<std::size_t>(a.shape.head_dim);
}
__device__ __forceinline__ void store_out(const AttendArgs& a, std::size_t at, float value) {
  static_cast<std::uint16_t*>(a.out.data)[at] = a.out.element == Element::f16 ? to_f16(value).bits : to_bf16(value).bits;
}

// The head's keys (or values) of a block: 16 rows of kv_stride, contiguous.
__device__ __forceinline__ const unsigned char* page_of(const AttendArgs& a, std::int32_t block, std::size_t head_bytes,
                                                        bool values) {
  return reinterpret_cast<const unsigned char*>(a.kv.data) + static_cast<std::size_t>(block) * a.kv.block_bytes +
         (values ? a.kv.value_offset : 0) + head_bytes;
}

template <class T, int kDim>
struct Warp {
  using P = AttendProduct<T>;
  std::uint32_t q[kDim / 16][4];
  float highest[2], total[2], o[kDim / 8][4];        // of rows g and g + 8; total: this lane's columns only
  std::int32_t position[2];

  __device__ __forceinline__ void begin(const Query& low, const Query& high, int t, std::int32_t dim) {
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      const int c = k * 16 + (sizeof(T) == 1 ? 4 : 2) * t, e = c + (sizeof(T) == 1 ? 2 : 8);
      q[k][0] = low.q != nullptr && c < dim ? pack2<P>(low.q[c], low.q[c + 1]) : 0;
      q[k][1] = high.q != nullptr && c < dim ? pack2<P>(high.q[c], high.q[c + 1]) : 0;
      q[k][2] = low.q != nullptr && e < dim ? pack2<P>(low.q[e], low.q[e + 1]) : 0;
      q[k][3] = high.q != nullptr && e < dim ? pack2<P>(high.q[e], high.q[e + 1]) : 0;
    }
    position[0] = low.position;
    position[1] = high.position;
    highest[0] = highest[1] = -__builtin_inff();
    total[0] = total[1] = 0;
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[d][e] = 0;
  }

  // Products of the queries with the 16 keys of a page.
  __device__ __forceinline__ void score(const unsigned char* keys, int lane, float (&s)[4], float (&s8)[4]) const {
#pragma unroll
    for (int e = 0; e < 4; ++e) s[e] = s8[e] = 0;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      std::uint32_t b[4];
      if constexpr (sizeof(T) == 2) {
        load_matrix<false>(b, keys + (lane / 16 * 8 + lane % 8) * Page<T, kDim>::kStride + k * 32 + lane / 8 % 2 * 16);
      } else {
        const unsigned char* at = keys + lane / 4 * Page<T, kDim>::kStride + k * 16 + lane % 4 * 4;
        const std::uint32_t low = *reinterpret_cast<const std::uint32_t*>(at);
        const std::uint32_t high = *reinterpret_cast<const std::uint32_t*>(at + 8 * Page<T, kDim>::kStride);
        b[0] = widen_pair(low & 0xFFFFu), b[1] = widen_pair(low >> 16);
        b[2] = widen_pair(high & 0xFFFFu), b[3] = widen_pair(high >> 16);
      }
      const std::uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
      mma_16x8x16<P>(s, q[k], first);
      mma_16x8x16<P>(s8, q[k], second);
    }
  }

  __device__ __forceinline__ void weigh(const unsigned char* values, const std::uint32_t (&p)[4], int lane) {
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
      std::uint32_t b[4];
      if constexpr (sizeof(T) == 2) {
        load_matrix<true>(b, values + (lane % 8 + lane / 8 % 2 * 8) * Page<T, kDim>::kStride + c * 32 + lane / 16 * 16);
      } else {
        const unsigned char* at = values + lane % 4 * 2 * Page<T, kDim>::kStride + c * 16 + lane / 4 * 2;
        const auto row = [&](int r) {
          return static_cast<std::uint32_t>(*reinterpret_cast<const std::uint16_t*>(at + r * Page<T, kDim>::kStride));
        };
        const std::uint32_t r0 = row(0), r1 = row(1), r8 = row(8), r9 = row(9);
        b[0] = widen_pair((r0 & 0xFFu) | (r1 & 0xFFu) << 8), b[1] = widen_pair((r8 & 0xFFu) | (r9 & 0xFFu) << 8);
        b[2] = widen_pair(r0 >> 8 | (r1 & 0xFF00u)), b[3] = widen_pair(r8 >> 8 | (r9 & 0xFF00u));
      }
      const std::uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
      mma_16x8x16<P>(o[2 * c], p, first);
      mma_16x8x16<P>(o[2 * c + 1], p, second);
    }
  }
  // Which dimension o[tile][e] of this lane is.
  static __device__ __forceinline__ int dimension(int tile, int e, int t) {
    return tile / 2 * 16 + (sizeof(T) == 2 ? tile % 2 * 8 + 2 * t + e % 2 : 2 * (2 * t + e % 2) + tile % 2);
  }

  // kPages pages one after another in shared memory, the first key of the first at position `key`.
  template <int kPages>
  __device__ __forceinline__ void attend(const unsigned char* keys, const unsigned char* values, std::int32_t key,
                                         const ScoreRule& rule, int lane) {
    float s[kPages * 2][4];
    float top[2] = {highest[0], highest[1]};
#pragma unroll
    for (int p = 0; p < kPages; ++p) {
      score(keys + p * Page<T, kDim>::kSize, lane, s[2 * p], s[2 * p + 1]);
#pragma unroll
      for (int n = 2 * p; n < 2 * p + 2; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const std::int32_t at = key + n * 8 + lane % 4 * 2 + e % 2;
          const bool seen = TW_PLANT(101) ? sees(rule, position[e / 2] + 1, at) : sees(rule, position[e / 2], at);
          s[n][e] = seen ? score_of(rule, s[n][e]) : -__builtin_inff();
          top[e / 2] = fmaxf(top[e / 2], s[n][e]);
        }
    }
    float keep[2], base[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {                    // over the four lanes of a row
      if (!TW_PLANT(102)) top[i] = fmaxf(top[i], __shfl_xor_sync(kAllLanes, top[i], 1));
      top[i] = fmaxf(top[i], __shfl_xor_sync(kAllLanes, top[i], 2));
      base[i] = top[i] == -__builtin_inff() ? 0 : top[i];
      keep[i] = exp2f(highest[i] - base[i]);
      highest[i] = top[i];
      total[i] *= keep[i];
    }
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[d][e] *= keep[e / 2];
#pragma unroll
    for (int p = 0; p < kPages; ++p) {
#pragma unroll
      for (int n = 2 * p; n < 2 * p + 2; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          s[n][e] = exp2f(s[n][e] - base[e / 2]);
          total[e / 2] += s[n][e];
        }
      const std::uint32_t weights[4] = {pack2<P>(s[2 * p][0], s[2 * p][1]), pack2<P>(s[2 * p][2], s[2 * p][3]),
                                        pack2<P>(s[2 * p + 1][0], s[2 * p + 1][1]), pack2<P>(s[2 * p + 1][2], s[2 * p + 1][3])};
      weigh(values + p * Page<T, kDim>::kSize, weights, lane);
    }
  }

  __device__ __forceinline__ void end() {            // total becomes the row's
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      total[i] += __shfl_xor_sync(kAllLanes, total[i], 1);
      total[i] += __shfl_xor_sync(kAllLanes, total[i], 2);
    }
  }
};

}  // namespace tokenworks::kernels::cuda::TW_TARGET
