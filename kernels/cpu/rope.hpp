// Per-head norms, rotary embedding of q and k, and the write of k and v into the paged cache, one row at a time. Keys are
// stored transposed ([head_dim][16 tokens]), so that a vector holds one dimension of 16 tokens when scores are computed.
#pragma once
#include "norm.hpp"

namespace tokenworks::kernels::TW_PATH {

TW_INLINE void rotate(float* head, const RopeView& rope, const float* cosines) {
  const int32_t half = rope.dims / 2;
  const float* sines = cosines + half;
  const int32_t step = rope.interleaved ? 2 : 1, partner = rope.interleaved ? 1 : half;
  if (!rope.interleaved && half % kWidth == 0) {
    for (int32_t i = 0; i < half; i += kWidth) {
      const F c = load(cosines + i), s = load(sines + i), a = load(head + i), b = load(head + half + i);
      store(head + i, sub(mul(a, c), mul(b, s)));
      store(head + half + i, add(mul(b, c), mul(a, s)));
    }
    return;
  }
  for (int32_t i = 0; i < half; ++i) {
    float &a = head[i * step], &b = head[i * step + partner];
    const float x = a, y = b;
    a = x * cosines[i] - y * sines[i];
    b = y * cosines[i] + x * sines[i];
  }
}

template <class T>
TW_INLINE void store_row(const float* k, const float* v, int32_t dim, int32_t kv_heads, int32_t slot, std::byte* keys,
                         size_t value_offset) {
  for (int32_t h = 0; h < kv_heads; ++h) {
    const size_t tile = static_cast<size_t>(h) * static_cast<size_t>(dim) * kBlockTokens;
    T* to_k = reinterpret_cast<T*>(keys) + tile + slot;
    T* to_v = reinterpret_cast<T*>(keys + value_offset) + tile + static_cast<size_t>(slot) * static_cast<size_t>(dim);
    for (int32_t d = 0; d < dim; ++d) store_kv(to_k + d * kBlockTokens, k[h * dim + d]);
    for (int32_t d = 0; d < dim; ++d) store_kv(to_v + d, v[h * dim + d]);
  }
}

static void rope_and_store(float* qkv, const HeadShape& shape, const RopeView& rope, const float* q_norm,
                           const float* k_norm, float epsilon, int32_t position, int32_t block, const KvView& cache) {
  const int32_t dim = shape.head_dim;
  float* k = qkv + static_cast<size_t>(shape.q_heads) * static_cast<size_t>(dim);
  const float* v = k + static_cast<size_t>(shape.kv_heads) * static_cast<size_t>(dim);
  const float* cosines = rope.table + static_cast<size_t>(position) * static_cast<size_t>(rope.dims);
  for (int32_t h = 0; h < shape.q_heads + shape.kv_heads; ++h) {
    float* head = qkv + static_cast<size_t>(h) * static_cast<size_t>(dim);
    const float* weight = h < shape.q_heads ? q_norm : k_norm;
    if (weight != nullptr) scale_by(head, rms_factor(head, dim, epsilon), weight, dim, head);
    rotate(head, rope, cosines);
  }
  std::byte* keys = cache.data + static_cast<size_t>(block) * cache.block_bytes;
  const int32_t slot = position % kBlockTokens;
  if (cache.fp32)
    store_row<float>(k, v, dim, shape.kv_heads, slot, keys, cache.value_offset);
  else
    store_row<uint16_t>(k, v, dim, shape.kv_heads, slot, keys, cache.value_offset);
}

}  // namespace tokenworks::kernels::TW_PATH
