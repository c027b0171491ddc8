// A vector of floats in three widths, so that the float ops are written once. No include guard games: a path file
// (avx512.cpp, avx2.cpp, portable.cpp) defines TW_PATH to the namespace it wants and TW_WIDTH to 16, 8 or 4, then includes
// this and the ops. Everything is static and inline: nothing compiled for one instruction set can be linked into code
// for another, which is also why these files use nothing from the standard library's templates.
#pragma once
#if !defined(TW_PATH) || !defined(TW_WIDTH)
#error "a path file defines TW_PATH and TW_WIDTH first"
#endif
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if TW_WIDTH > 4
#include <immintrin.h>
#endif

#define TW_INLINE static inline __attribute__((always_inline))

namespace tokenworks::kernels::TW_PATH {

inline constexpr int kWidth = TW_WIDTH;

#if TW_WIDTH == 16

using F = __m512;
using I = __m512i;
TW_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }   // 0 <= n <= 16
TW_INLINE F set1(float x) { return _mm512_set1_ps(x); }
TW_INLINE F load(const float* p) { return _mm512_loadu_ps(p); }
TW_INLINE F load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
TW_INLINE void store(float* p, F x) { _mm512_storeu_ps(p, x); }
TW_INLINE void store_n(float* p, F x, int n) { _mm512_mask_storeu_ps(p, first(n), x); }
TW_INLINE F add(F a, F b) { return _mm512_add_ps(a, b); }
TW_INLINE F sub(F a, F b) { return _mm512_sub_ps(a, b); }
TW_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
TW_INLINE F div(F a, F b) { return _mm512_div_ps(a, b); }
TW_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
TW_INLINE F max(F a, F b) { return _mm512_max_ps(a, b); }              // b when either is NaN
TW_INLINE F min(F a, F b) { return _mm512_min_ps(a, b); }
TW_INLINE I iload(const void* p) { return _mm512_loadu_si512(p); }
TW_INLINE I iset1(int32_t x) { return _mm512_set1_epi32(x); }
TW_INLINE I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
TW_INLINE I iand(I a, I b) { return _mm512_and_si512(a, b); }
TW_INLINE I imax(I a, I b) { return _mm512_max_epi32(a, b); }
TW_INLINE I shift_left(I a, int n) { return _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
TW_INLINE I as_int(F x) { return _mm512_castps_si512(x); }
TW_INLINE F as_float(I x) { return _mm512_castsi512_ps(x); }
TW_INLINE I to_int(F x) { return _mm512_cvtps_epi32(x); }              // nearest even
TW_INLINE F to_float(I x) { return _mm512_cvtepi32_ps(x); }
TW_INLINE F select_less(F a, F b, F yes, F no) {                       // a < b ? yes : no, NaN: no
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
TW_INLINE F load_bf16(const uint16_t* p) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return as_float(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
TW_INLINE F load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
TW_INLINE void store_bytes(int8_t* p, I x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x)); }
TW_INLINE float reduce_add(F x) {                                      // a fixed tree
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
TW_INLINE float reduce_max(F x) { return _mm512_reduce_max_ps(x); }
TW_INLINE int32_t reduce_iadd(I x) { return _mm512_reduce_add_epi32(x); }
TW_INLINE int32_t reduce_imax(I x) { return _mm512_reduce_max_epi32(x); }
// Even and odd elements of the 32 floats at p.
TW_INLINE void load_pairs(const float* p, F& even, F& odd) {
  const F a = load(p), b = load(p + 16);
  const I e = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  even = _mm512_permutex2var_ps(a, e, b);
  odd = _mm512_permutex2var_ps(a, iadd(e, iset1(1)), b);
}

#elif TW_WIDTH == 8

using F = __m256;
using I = __m256i;
TW_INLINE I first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
TW_INLINE F set1(float x) { return _mm256_set1_ps(x); }
TW_INLINE F load(const float* p) { return _mm256_loadu_ps(p); }
TW_INLINE F load_n(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
TW_INLINE void store(float* p, F x) { _mm256_storeu_ps(p, x); }
TW_INLINE void store_n(float* p, F x, int n) { _mm256_maskstore_ps(p, first(n), x); }
TW_INLINE F add(F a, F b) { return _mm256_add_ps(a, b); }
TW_INLINE F sub(F a, F b) { return _mm256_sub_ps(a, b); }
TW_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
TW_INLINE F div(F a, F b) { return _mm256_div_ps(a, b); }
TW_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
TW_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
TW_INLINE F min(F a, F b) { return _mm256_min_ps(a, b); }
TW_INLINE I iload(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
TW_INLINE I iset1(int32_t x) { return _mm256_set1_epi32(x); }
TW_INLINE I iadd(I a, I b) { return _mm256_add_epi32(a, b); }
TW_INLINE I iand(I a, I b) { return _mm256_and_si256(a, b); }
TW_INLINE I imax(I a, I b) { return _mm256_max_epi32(a, b); }
TW_INLINE I shift_left(I a, int n) { return _mm256_slli_epi32(a, n); }
TW_INLINE I as_int(F x) { return _mm256_castps_si256(x); }
TW_INLINE F as_float(I x) { return _mm256_castsi256_ps(x); }
TW_INLINE I to_int(F x) { return _mm256_cvtps_epi32(x); }
TW_INLINE F to_float(I x) { return _mm256_cvtepi32_ps(x); }
TW_INLINE F select_less(F a, F b, F yes, F no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
TW_INLINE F load_bf16(const uint16_t* p) {
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return as_float(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
TW_INLINE F load_f16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
TW_INLINE void store_bytes(int8_t* p, I x) {
  const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(w, w));
}
TW_INLINE float reduce_add(F x) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}
TW_INLINE float reduce_max(F x) {
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}
TW_INLINE int32_t reduce_iadd(I x) {
  const __m128i b = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i c = _mm_add_epi32(b, _mm_unpackhi_epi64(b, b));
  return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 1)));
}
TW_INLINE int32_t reduce_imax(I x) {
  const __m128i b = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  const __m128i c = _mm_max_epi32(b, _mm_unpackhi_epi64(b, b));
  return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 1)));
}
TW_INLINE void load_pairs(const float* p, F& even, F& odd) {
  const F a = load(p), b = load(p + 8);
  const F e = _mm256_shuffle_ps(a, b, 0x88), o = _mm256_shuffle_ps(a, b, 0xDD);
  even = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(e), 0xD8));
  odd = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(o), 0xD8));
}

#else                                                // GCC's generic vectors: SSE2, NEON, or scalar code

typedef float F __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));
TW_INLINE F set1(float x) { return F{x, x, x, x}; }
TW_INLINE F load(const float* p) { F x; memcpy(&x, p, 16); return x; }
TW_INLINE F load_n(const float* p, int n) { F x = set1(0); memcpy(&x, p, static_cast<size_t>(n) * 4); return x; }
TW_INLINE void store(float* p, F x) { memcpy(p, &x, 16); }
TW_INLINE void store_n(float* p, F x, int n) { memcpy(p, &x, static_cast<size_t>(n) * 4); }
TW_INLINE F add(F a, F b) { return a + b; }
TW_INLINE F sub(F a, F b) { return a - b; }
TW_INLINE F mul(F a, F b) { return a * b; }
TW_INLINE F div(F a, F b) { return a / b; }
TW_INLINE F fma(F a, F b, F c) { return a * b + c; }                   // two roundings: only for the float-only ops
TW_INLINE F max(F a, F b) { return a > b ? a : b; }
TW_INLINE F min(F a, F b) { return a < b ? a : b; }
TW_INLINE I iload(const void* p) { I x; memcpy(&x, p, 16); return x; }
TW_INLINE I iset1(int32_t x) { return I{x, x, x, x}; }
TW_INLINE I iadd(I a, I b) { return a + b; }
TW_INLINE I iand(I a, I b) { return a & b; }
TW_INLINE I imax(I a, I b) { return a > b ? a : b; }
TW_INLINE I shift_left(I a, int n) { return a << n; }
TW_INLINE I as_int(F x) { I y; memcpy(&y, &x, 16); return y; }
TW_INLINE F as_float(I x) { F y; memcpy(&y, &x, 16); return y; }
TW_INLINE I to_int(F x) {                                              // |x| <= 2^22: the addition rounds to nearest even
  const F magic = set1(12582912.0f);
  return as_int(x + magic) - as_int(magic);
}
TW_INLINE F to_float(I x) { return __builtin_convertvector(x, F); }
TW_INLINE F select_less(F a, F b, F yes, F no) { return a < b ? yes : no; }
TW_INLINE F load_bf16(const uint16_t* p) {
  I x = {p[0], p[1], p[2], p[3]};
  return as_float(x << 16);
}
TW_INLINE float half_to_float(uint16_t h) {                            // IEEE binary16, exact; NaN and infinities kept
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, rest = h & 0x7FFFu;
  uint32_t bits;
  if (rest >= 0x7C00) {
    bits = sign | 0x7F800000u | (rest & 0x3FFu) << 13;
  } else {
    float f = static_cast<float>(rest & 0x3FFu) * 0x1p-24f;            // subnormal, or the fraction of a normal
    if (rest >= 0x400) {
      const uint32_t normal = (rest << 13) + (112u << 23);
      memcpy(&f, &normal, 4);
    }
    memcpy(&bits, &f, 4);
    bits |= sign;
  }
  float out;
  memcpy(&out, &bits, 4);
  return out;
}
TW_INLINE F load_f16(const uint16_t* p) {
  return F{half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])};
}
TW_INLINE void store_bytes(int8_t* p, I x) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(x[i]);
}
TW_INLINE float reduce_add(F x) { return (x[0] + x[2]) + (x[1] + x[3]); }
TW_INLINE float reduce_max(F x) {
  const float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}
TW_INLINE int32_t reduce_iadd(I x) { return x[0] + x[1] + x[2] + x[3]; }
TW_INLINE int32_t reduce_imax(I x) {
  const int32_t a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
  return a > b ? a : b;
}
TW_INLINE void load_pairs(const float* p, F& even, F& odd) {
  even = F{p[0], p[2], p[4], p[6]};
  odd = F{p[1], p[3], p[5], p[7]};
}

#endif

TW_INLINE F load_kv(const uint16_t* p) { return load_bf16(p); }
TW_INLINE F load_kv(const float* p) { return load(p); }
// Round to nearest even; a NaN stays one.
TW_INLINE uint16_t to_bf16(float x) {
  uint32_t b;
  memcpy(&b, &x, 4);
  if ((b & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>(b >> 16 | 0x40u);
  return static_cast<uint16_t>((b + 0x7FFFu + (b >> 16 & 1u)) >> 16);
}
TW_INLINE void store_kv(uint16_t* p, float x) { *p = to_bf16(x); }
TW_INLINE void store_kv(float* p, float x) { *p = x; }

// e^x, relative error under 3e-7 over [-87.3, 88.3]; 0 below, clamped above, NaN stays NaN. Argument reduction by a
// two-part ln 2 (Cody and Waite), then the Taylor polynomial of degree 6 on [-ln2/2, ln2/2] (remainder under 1.4e-7).
// Not fused: the same bits in every table, which is what the sampler's draws stand on.
template <bool kFused>
TW_INLINE F fma_or_both(F a, F b, F c) { return kFused ? fma(a, b, c) : add(mul(a, b), c); }
template <bool kFused = true>
TW_INLINE F exp(F x) {
  const F low = set1(-87.3f);
  const F clamped = max(low, min(set1(88.3f), x));
  const I n = to_int(mul(clamped, set1(1.44269504088896341f)));
  const F nf = to_float(n);
  F r = fma_or_both<kFused>(nf, set1(-0.693359375f), clamped);
  r = fma_or_both<kFused>(nf, set1(2.12194440e-4f), r);
  F p = set1(1.0f / 720);
  p = fma_or_both<kFused>(p, r, set1(1.0f / 120));
  p = fma_or_both<kFused>(p, r, set1(1.0f / 24));
  p = fma_or_both<kFused>(p, r, set1(1.0f / 6));
  p = fma_or_both<kFused>(p, r, set1(0.5f));
  p = fma_or_both<kFused>(p, r, set1(1.0f));
  p = fma_or_both<kFused>(p, r, set1(1.0f));
  return select_less(x, low, set1(0), as_float(iadd(as_int(p), shift_left(n, 23))));
}

}  // namespace tokenworks::kernels::TW_PATH
