// Attention of query rows over a paged cache, in spans of 256 positions that start at position 0: in a span scores, one
// maximum, exponentials and the weighted values; spans are merged in ascending order. Since spans do not depend on how
// a prompt was chunked, on blocks or on threads, neither does a result: a position that a query may not see weighs exactly 0.
//
// Queries (row, head of the group) are taken a few at a time, so that a key or value converted to fp32 serves them all.
#pragma once
#include "vec.hpp"

#include "kernels/ops.hpp"

namespace tokenworks::kernels::TW_PATH {

inline constexpr int kTile = kWidth == 16 ? 6 : kWidth == 8 ? 3 : 2;  // queries at a time: accumulators fit the registers
inline constexpr int kValueVectors = 4;                               // output vectors at a time
inline constexpr int kTokenVectors = kBlockTokens / kWidth;
inline constexpr float kNothing = -1e30f;                             // the maximum of no score, finite on purpose
inline constexpr int kQueryStride = 8;                                // of the transposed queries in scratch

// scores[i][16] of one or more whole blocks: the keys of block b at keys[b].
template <class T, int kQueries, int kBlocks>
TW_INLINE void score(const float* queries, const T* const* keys, int32_t dim, float* scores) {
  F acc[kQueries][kBlocks * kTokenVectors];
  for (int i = 0; i < kQueries; ++i)
    for (int j = 0; j < kBlocks * kTokenVectors; ++j) acc[i][j] = set1(0);
  for (int32_t d = 0; d < dim; ++d) {
    F k[kBlocks * kTokenVectors];
    for (int b = 0; b < kBlocks; ++b)
      for (int v = 0; v < kTokenVectors; ++v)
        k[b * kTokenVectors + v] = load_kv(keys[b] + d * kBlockTokens + v * kWidth);
    for (int i = 0; i < kQueries; ++i) {
      const F q = set1(queries[d * kQueryStride + i]);
      for (int j = 0; j < kBlocks * kTokenVectors; ++j) acc[i][j] = fma(q, k[j], acc[i][j]);
    }
  }
  for (int i = 0; i < kQueries; ++i)
    for (int j = 0; j < kBlocks * kTokenVectors; ++j) store(scores + i * kSpanTokens + j * kWidth, acc[i][j]);
}

// outputs[i] [kVectors * width] = sum over `tokens` positions, ascending, of weights[i][t] * value[t].
template <class T, int kQueries, int kVectors>
TW_INLINE void weigh(const float* weights, const T* const* values, int32_t dim, int32_t tokens, float* outputs,
                     size_t output_stride) {
  F acc[kQueries][kVectors];
  for (int i = 0; i < kQueries; ++i)
    for (int j = 0; j < kVectors; ++j) acc[i][j] = set1(0);
  for (int32_t t = 0; t < tokens; ++t) {
    const T* v = values[t / kBlockTokens] + static_cast<size_t>(t % kBlockTokens) * static_cast<size_t>(dim);
    F x[kVectors];
    for (int j = 0; j < kVectors; ++j) x[j] = load_kv(v + j * kWidth);
    for (int i = 0; i < kQueries; ++i) {
      const F w = set1(weights[i * kSpanTokens + t]);
      for (int j = 0; j < kVectors; ++j) acc[i][j] = fma(w, x[j], acc[i][j]);
    }
  }
  for (int i = 0; i < kQueries; ++i)
    for (int j = 0; j < kVectors; ++j) store(outputs + static_cast<size_t>(i) * output_stride + j * kWidth, acc[i][j]);
}

TW_INLINE void prefetch(const void* from, size_t bytes) {
  for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(static_cast<const char*>(from) + line);
}

// Positions a query at `position` sees of [first, first + n): the others become -infinity.
TW_INLINE void hide(float* scores, int32_t first, int32_t n, int32_t position, int32_t window) {
  const float hidden = -__builtin_inff();
  const int32_t lowest = window > 0 ? position - window + 1 : 0;
  for (int32_t t = 0; t < n && first + t < lowest; ++t) scores[t] = hidden;
  for (int32_t t = position + 1 > first ? position + 1 - first : 0; t < n; ++t) scores[t] = hidden;
}

TW_INLINE void cap(float* scores, int32_t n, float soft_cap) {        // soft_cap * tanh(s / soft_cap)
  const F two = set1(2.0f), one = set1(1.0f), limit = set1(soft_cap), inverse = set1(2.0f / soft_cap);
  for (int32_t t = 0; t < n; t += kWidth)
    store(scores + t, mul(limit, sub(one, div(two, add(exp(mul(load(scores + t), inverse)), one)))));
}

// Scores to weights in place; n is a multiple of 16.
TW_INLINE void soften(float* scores, int32_t n, float* maximum, float* sum) {
  F highest = set1(kNothing);
  for (int32_t t = 0; t < n; t += kWidth) highest = max(highest, load(scores + t));
  const float m = reduce_max(highest);
  F total[kTokenVectors];
  for (int j = 0; j < kTokenVectors; ++j) total[j] = set1(0);
  for (int32_t t = 0; t < n; t += kBlockTokens) {
    for (int j = 0; j < kTokenVectors; ++j) {
      const F w = exp(sub(load(scores + t + j * kWidth), set1(m)));
      store(scores + t + j * kWidth, w);
      total[j] = add(total[j], w);
    }
  }
  for (int j = 1; j < kTokenVectors; ++j) total[0] = add(total[0], total[j]);
  *maximum = m;
  *sum = reduce_add(total[0]);
}

TW_INLINE void merge_one(int32_t dim, const float* later, float* into) {
  const float m = into[0] > later[0] ? into[0] : later[0];
  alignas(64) float factor[kWidth] = {into[0] - m, later[0] - m};
  store(factor, exp(load(factor)));
  into[0] = m;
  into[1] = into[1] * factor[0] + later[1] * factor[1];
  const F a = set1(factor[0]), b = set1(factor[1]);
  for (int32_t d = 0; d < dim; d += kWidth)
    store(into + 16 + d, fma(load(later + 16 + d), b, mul(load(into + 16 + d), a)));
}

static void attend_merge(int32_t queries, int32_t dim, const float* later, float* partials) {
  for (int32_t i = 0; i < queries; ++i)
    merge_one(dim, later + i * partial_floats(dim), partials + i * partial_floats(dim));
}

static void attend_begin(int32_t queries, int32_t dim, float* partials) {
  memset(partials, 0, static_cast<size_t>(queries) * partial_floats(dim) * 4);
  for (int32_t i = 0; i < queries; ++i) partials[i * partial_floats(dim)] = kNothing;
}

static void attend_finish(const float* partial, int32_t dim, float* out) {
  const F sum = set1(partial[1]);
  for (int32_t d = 0; d < dim; d += kWidth) {
    const F y = div(load(partial + 16 + d), sum);
    if (dim - d >= kWidth)
      store(out + d, y);
    else
      store_n(out + d, y, dim - d);
  }
}

template <class T>
struct Tile {                                        // up to kTile queries of a call
  const AttendRows& rows;
  const HeadShape& shape;
  const KvView& cache;
  int32_t group;                                     // query heads of a key/value head
  int32_t first;                                     // query
  float *queries, *scores, *results;                 // scratch

  int32_t position(int32_t i) const { return rows.position + (first + i) / group; }
  const T* tile_of(int32_t block, size_t offset) const {
    return reinterpret_cast<const T*>(cache.data + static_cast<size_t>(rows.blocks[block]) * cache.block_bytes +
                                      offset) +
           static_cast<size_t>(rows.kv_head) * static_cast<size_t>(shape.head_dim) * kBlockTokens;
  }

  void load_queries(int n) const {
    for (int i = 0; i < n; ++i) {
      const int32_t query = first + i;
      const float* q = rows.q + (query / group) * rows.q_stride + static_cast<int64_t>(query % group) * shape.head_dim;
      for (int32_t d = 0; d < shape.head_dim; ++d) queries[d * kQueryStride + i] = q[d] * shape.scale;
    }
  }

  template <int kQueries>
  void span(int32_t index, float* partials) const {
    const int32_t highest = position(kQueries - 1), lowest = shape.window > 0 ? position(0) - shape.window + 1 : 0;
    const int32_t begin = index * kSpanTokens;
    const int32_t end = highest + 1 < begin + kSpanTokens ? highest + 1 : begin + kSpanTokens;
    const int32_t from = lowest > begin ? lowest / kBlockTokens * kBlockTokens : begin;
    if (end <= from) return;
    const int32_t tokens = end - from, blocks = (tokens + kBlockTokens - 1) / kBlockTokens;
    const T* keys[kSpanTokens / kBlockTokens];
    const T* values[kSpanTokens / kBlockTokens];
    for (int32_t b = 0; b < blocks; ++b) {
      keys[b] = tile_of(from / kBlockTokens + b, 0);
      values[b] = tile_of(from / kBlockTokens + b, cache.value_offset);
    }
    // A decoding sequence reads every block once, in small pieces far apart, which no hardware prefetcher follows.
    const bool ask_ahead = rows.rows <= 2;
    const size_t tile_bytes = static_cast<size_t>(shape.head_dim) * kBlockTokens * sizeof(T);
    if (ask_ahead)
      for (int32_t a = 0; a < 4 && a < blocks; ++a) prefetch(keys[a], tile_bytes);
    int32_t b = 0;
    for (; b + 2 <= blocks; b += 2) {
      for (int32_t a = b; ask_ahead && a < b + 2; ++a) {
        if (a + 4 < blocks) prefetch(keys[a + 4], tile_bytes);
        prefetch(values[a], tile_bytes);
      }
      score<T, kQueries, 2>(queries, keys + b, shape.head_dim, scores + b * kBlockTokens);
    }
    if (b < blocks) score<T, kQueries, 1>(queries, keys + b, shape.head_dim, scores + b * kBlockTokens);

    const size_t stride = partial_floats(shape.head_dim);
    for (int i = 0; i < kQueries; ++i) {
      float* s = scores + i * kSpanTokens;
      if (shape.soft_cap > 0) cap(s, blocks * kBlockTokens, shape.soft_cap);
      hide(s, from, blocks * kBlockTokens, position(i), shape.window);
      float* result = results + static_cast<size_t>(i) * stride;
      soften(s, blocks * kBlockTokens, result, result + 1);
    }
    int32_t d = 0;
    for (; d + kValueVectors * kWidth <= shape.head_dim; d += kValueVectors * kWidth) {
      const T* at[kSpanTokens / kBlockTokens];
      for (int32_t v = 0; v < blocks; ++v) at[v] = values[v] + d;
      weigh<T, kQueries, kValueVectors>(scores, at, shape.head_dim, tokens, results + 16 + d, stride);
    }
    for (; d < shape.head_dim; d += kWidth) {        // may read past a head: caches end with spare bytes
      const T* at[kSpanTokens / kBlockTokens];
      for (int32_t v = 0; v < blocks; ++v) at[v] = values[v] + d;
      weigh<T, kQueries, 1>(scores, at, shape.head_dim, tokens, results + 16 + d, stride);
    }
    for (int i = 0; i < kQueries; ++i) merge_one(shape.head_dim, results + i * stride, partials + (first + i) * stride);
  }

  template <int kQueries>
  void run(Range spans, float* partials) const {
    load_queries(kQueries);
    for (int32_t s = spans.first; s < spans.first + spans.count; ++s) span<kQueries>(s, partials);
  }
};

template <class T>
TW_INLINE void attend_as(const AttendRows& rows, const HeadShape& shape, const KvView& cache, Range spans,
                         float* partials, float* scratch) {
  const int32_t group = shape.q_heads / shape.kv_heads, queries = rows.rows * group;
  const int32_t tiles = (queries + kTile - 1) / kTile;
  float* scores = scratch + static_cast<size_t>(shape.head_dim) * kQueryStride;
  float* results = scores + 8 * kSpanTokens;
  int32_t first = 0;
  for (int32_t t = 0; t < tiles; ++t) {
    const int32_t n = (queries - first + tiles - t - 1) / (tiles - t);
    const Tile<T> tile{rows, shape, cache, group, first, scratch, scores, results};
    switch (n) {
      case 1: tile.template run<1>(spans, partials); break;
      case 2: tile.template run<2>(spans, partials); break;
#if TW_WIDTH > 4
      case 3: tile.template run<3>(spans, partials); break;
#endif
#if TW_WIDTH > 8
      case 4: tile.template run<4>(spans, partials); break;
      case 5: tile.template run<5>(spans, partials); break;
      case 6: tile.template run<6>(spans, partials); break;
#endif
      default: __builtin_unreachable();
    }
    first += n;
  }
}

static void attend(const AttendRows& rows, const HeadShape& shape, const KvView& cache, Range spans, float* partials,
                   float* scratch) {
  if (cache.fp32)
    attend_as<float>(rows, shape, cache, spans, partials, scratch);
  else
    attend_as<uint16_t>(rows, shape, cache, spans, partials, scratch);
}

}  // namespace tokenworks::kernels::TW_PATH
