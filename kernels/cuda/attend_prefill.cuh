#pragma once
// Attention of sequences with many rows over the paged cache, bound by arithmetic: FlashAttention-2's order (Dao, 2023) on
// mma.sync. A block takes 64 queries (rows x heads of a group, so that a key/value tile serves the whole group), a warp 16 of
// them; tiles of 64 positions come through two stages of cp.async, the next one loading while this one is multiplied.
// Chunked prefill is no special case: keys are the cache, positions come from the sequence.
// One element of the cache a .cu file: the compiler takes its time over these tiles, and so can share it among processors.
#include "kernels/cuda/attend.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32, kStages = 2;
constexpr int kPages = 4, kKeys = kPages * kPage;    // of a tile

template <class T, int kDim>
struct Shared {
  alignas(16) unsigned char keys[kStages][kPages * Page<T, kDim>::kSize];
  alignas(16) unsigned char values[kStages][kPages * Page<T, kDim>::kSize];
};

// Positions [first, first + 64) into a stage; from `end` on zeros.
template <class T, int kDim>
__device__ __forceinline__ void load_tile(const AttendArgs& a, Shared<T, kDim>& s, int stage, const std::int32_t* table,
                                          std::int32_t first, std::int32_t end, std::size_t head_bytes) {
  constexpr int kPieces = Page<T, kDim>::kPieces;
  for (int i = static_cast<int>(threadIdx.x); i < kKeys * kPieces; i += kThreads) {
    const int row = i / kPieces, part = i % kPieces * 16;
    const std::int32_t key = first + row;
    const bool there = key < end;
    const std::int32_t page = (there ? key : first) / kPage + (TW_PLANT(110) ? 1 : 0);
    const std::size_t at = static_cast<std::size_t>(row % kPage * Page<T, kDim>::kBytes + part);
    const int to = row * Page<T, kDim>::kStride + part;
    const std::int32_t block = table[page];
    copy_async16(s.keys[stage] + to, page_of(a, block, head_bytes, false) + at, there ? 16 : 0);
    copy_async16(s.values[stage] + to, page_of(a, block, head_bytes, true) + at, there ? 16 : 0);
  }
  copy_async_commit();
}

template <class T, int kDim>
__device__ __forceinline__ void store_rows(const AttendArgs& a, const Warp<T, kDim>& w, const SequenceRows& sequence,
                                           std::int32_t kv_head, std::int32_t query, int t) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (w.position[i] < 0) continue;
    const std::size_t at = out_of(a, sequence, kv_head, query + i * 8);
    const float factor = a.kv.v_scale / w.total[i];
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d)
#pragma unroll
      for (int e = 2 * i; e < 2 * i + 2; ++e) {
        const int c = Warp<T, kDim>::dimension(d, e, t);
        if (c < a.shape.head_dim) store_out(a, at + static_cast<std::size_t>(c), w.o[d][e] * factor);
      }
  }
}

template <class T, int kDim>
__global__ void __launch_bounds__(kThreads, 2) attend_prefill_kernel(AttendTiledArgs args) {
  const AttendArgs& a = args.attend;
  auto& s = shared<Shared<T, kDim>>();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32), g = lane / 4, t = lane % 4;
  const auto kv_head = static_cast<std::int32_t>(blockIdx.y);
  const std::size_t head_bytes = static_cast<std::size_t>(kv_head) * kPage * Page<T, kDim>::kBytes;
  const std::int32_t group = a.shape.q_heads / a.shape.kv_heads;
  const ScoreRule rule = rule_of(a);
  const std::int32_t tiles = args.plan.counts[1];
  for (auto number = static_cast<std::int32_t>(blockIdx.x); number < tiles; number += static_cast<std::int32_t>(gridDim.x)) {
    const AttendTile tile = args.plan.tiles[number];
    const SequenceRows sequence = a.sequences[tile.sequence];
    const std::int32_t query = tile.query + warp * 16 + g, before = sequence.context - sequence.rows;
    Warp<T, kDim> w;
    w.begin(query_of(a, sequence, kv_head, query), query_of(a, sequence, kv_head, query + 8), t, a.shape.head_dim);

    const std::int32_t last_row = (tile.query + 63) / group;
    const std::int32_t end = before + (last_row < sequence.rows ? last_row + 1 : sequence.rows);
    const std::int32_t lowest = before + tile.query / group - rule.window + 1;
    const std::int32_t from = rule.window > 0 && lowest > 0 ? lowest / kKeys * kKeys : 0;
    const std::int32_t* table = a.tables + sequence.table;
    // What this warp's rows can see at all; a tile outside costs it nothing but the barrier.
    const std::int32_t warp_end = before + (tile.query + warp * 16 + 15) / group + 1;
    load_tile<T, kDim>(a, s, 0, table, from, end, head_bytes);
    for (std::int32_t key = from, stage = 0; key < end; key += kKeys, stage ^= 1) {
      if (!TW_PLANT(111)) copy_async_wait<0>();
      if (!TW_PLANT(112)) __syncthreads();           // also: everybody is done with the stage that is loaded next
      if (key + kKeys < end) load_tile<T, kDim>(a, s, stage ^ 1, table, key + kKeys, end, head_bytes);
      if (key < warp_end) w.template attend<kPages>(s.keys[stage], s.values[stage], key, rule, lane);
    }
    w.end();
    store_rows<T, kDim>(a, w, sequence, kv_head, query, t);
    __syncthreads();                                 // before the next tile's keys come
  }
}

template <class T, int kDim>
void launch_prefill(Stream stream, const AttendTiledArgs& a) {
  const Blocks blocks{static_cast<unsigned>(a.blocks), static_cast<unsigned>(a.attend.shape.kv_heads)};
  launch(Launch(stream, blocks, kThreads, sizeof(Shared<T, kDim>), "attend_prefill"), attend_prefill_kernel<T, kDim>, a);
}
template <class T>
void attend_prefill_of(Stream stream, const AttendTiledArgs& a) {
  switch (kv_stride(a.attend.shape.head_dim)) {
    case 16: return launch_prefill<T, 16>(stream, a);
    case 32: return launch_prefill<T, 32>(stream, a);
    case 64: return launch_prefill<T, 64>(stream, a);
    case 80: return launch_prefill<T, 80>(stream, a);
    case 96: return launch_prefill<T, 96>(stream, a);
    default: return launch_prefill<T, 128>(stream, a);
  }
}

}  // namespace
}  // namespace tokenworks::kernels::cuda::TW_TARGET
