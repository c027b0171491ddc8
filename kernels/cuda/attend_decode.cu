// Attention of sequences with few rows over the paged cache, bound by reading it: 16 queries (the heads of a group, for each
// row) against a piece of the context. A block's four warps take every fourth page each, loading their own pages through
// three stages of cp.async (two on cards whose blocks have little shared memory), so no warp waits for another until the end. The grid does not depend on lengths: blocks walk the
// plan's items. Pieces of a sequence meet in attend_merge, in ascending order, so a result does not depend on timing.
#include "kernels/cuda/attend.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * 32;
constexpr std::size_t kLeastShared = 99 << 10;       // of a block on any card from sm_80 on: sm_86, sm_89

template <class T, int kDim, int kStages>
struct Shared {
  struct Stage {
    alignas(16) unsigned char keys[Page<T, kDim>::kSize];
    alignas(16) unsigned char values[Page<T, kDim>::kSize];
  };
  struct Loading {
    Stage stages[kWarps][kStages];
  };
  struct Merging {
    float o[kWarps][16][kDim];
    float highest[kWarps][16], total[kWarps][16];
  };
  union {                                            // loading is over when merging begins
    Loading loading;
    Merging merging;
  };
};

// The pages of an item that this warp takes: number j is page first + j * kWarps.
struct Pages {
  const std::int32_t* table;                         // of the sequence
  std::int32_t first, count, end;                    // end: positions from here on do not exist
  std::int32_t ids;                                  // lane l: block of page l of the 32 at hand
};

template <class T, int kDim, class Stage>
__device__ __forceinline__ void load_page(const AttendArgs& a, Stage& stage, Pages& pages,
                                          std::int32_t j, std::size_t head_bytes, int lane) {
  if (j < pages.count) {
    if (j % 32 == 0 && j + lane < pages.count) pages.ids = pages.table[pages.first + (j + lane) * kWarps];
    const std::int32_t block = __shfl_sync(kAllLanes, pages.ids, TW_PLANT(105) ? (j + 1) % 32 : j % 32);
    const std::int32_t key = (pages.first + j * kWarps) * kPage;
    const unsigned char* keys = page_of(a, block, head_bytes, false);
    const unsigned char* values = page_of(a, block, head_bytes, true);
    constexpr int kPieces = Page<T, kDim>::kPieces;
#pragma unroll
    for (int i = lane; i < kPage * kPieces; i += 32) {
      const int row = i / kPieces, part = i % kPieces * 16;
      const std::uint32_t bytes = key + row < pages.end ? 16 : 0;      // what no token wrote counts as zeros
      copy_async16(stage.keys + row * Page<T, kDim>::kStride + part, keys + i * 16, bytes);
      copy_async16(stage.values + row * Page<T, kDim>::kStride + part, values + i * 16, bytes);
    }
  }
  copy_async_commit();
}

// The four warps' results of an item, as one: to the output if it is all there is of the sequence, else to the partials.
template <class T, int kDim, class Merging>
__device__ __forceinline__ void merge_warps(const AttendTiledArgs& args, const Merging& m,
                                            const AttendItem& item, std::int32_t number, const SequenceRows& sequence,
                                            std::int32_t kv_head) {
  const AttendArgs& a = args.attend;
  const std::int32_t queries = sequence.rows * (a.shape.q_heads / a.shape.kv_heads) - item.query;
  const bool whole = args.plan.chunks[item.sequence] == 1;
  const std::size_t slot = (static_cast<std::size_t>(number) * static_cast<std::size_t>(a.shape.kv_heads) +
                            static_cast<std::size_t>(kv_head)) * 16;
  for (int i = static_cast<int>(threadIdx.x); i < 16 * kDim; i += kThreads) {
    const int query = i / kDim, d = i % kDim;
    if (query >= queries) break;
    float highest = -__builtin_inff(), total = 0, sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, m.highest[w][query]);
    const float base = highest == -__builtin_inff() ? 0 : highest;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float share = exp2f(m.highest[w][query] - base);
      total = fmaf(share, m.total[w][query], total);
      sum = fmaf(share, m.o[w][query][d], sum);
    }
    if (whole) {
      if (d >= a.shape.head_dim) continue;
      store_out(a, out_of(a, sequence, kv_head, item.query + query) + static_cast<std::size_t>(d), sum / total * a.kv.v_scale);
      continue;
    }
    float* partial = args.partials + (slot + static_cast<std::size_t>(query)) * (kDim + 2);
    partial[2 + d] = sum;
    if (d == 0) partial[0] = highest, partial[1] = total;
  }
}

template <class T, int kDim, int kStages>
__global__ void __launch_bounds__(kThreads, 2) attend_decode_kernel(AttendTiledArgs args) {
  const AttendArgs& a = args.attend;
  auto& s = shared<Shared<T, kDim, kStages>>();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32), g = lane / 4, t = lane % 4;
  const auto kv_head = static_cast<std::int32_t>(blockIdx.y);
  const std::size_t head_bytes = static_cast<std::size_t>(kv_head) * kPage * Page<T, kDim>::kBytes;
  const ScoreRule rule = rule_of(a);
  auto& stages = s.loading.stages[warp];
  const std::int32_t items = args.plan.counts[0];
  for (auto number = static_cast<std::int32_t>(blockIdx.x); number < items; number += static_cast<std::int32_t>(gridDim.x)) {
    const AttendItem item = args.plan.items[number];
    const SequenceRows sequence = a.sequences[item.sequence];
    Warp<T, kDim> w;
    w.begin(query_of(a, sequence, kv_head, item.query + g), query_of(a, sequence, kv_head, item.query + g + 8), t,
            a.shape.head_dim);

    const std::int32_t lowest = sequence.context - sequence.rows - rule.window + 1;    // the first row's
    const std::int32_t from = rule.window > 0 && lowest > item.first ? lowest / kPage : item.first / kPage;
    const std::int32_t to = (item.first + item.count + kPage - 1) / kPage;
    Pages pages{a.tables + sequence.table, from + warp, 0, sequence.context, 0};
    if (to > pages.first) pages.count = (to - pages.first + kWarps - 1) / kWarps;
#pragma unroll
    for (int j = 0; j < kStages - 1; ++j) load_page<T, kDim>(a, stages[j], pages, j, head_bytes, lane);
    for (std::int32_t j = 0; j < pages.count; ++j) {
      if (TW_PLANT(106)) copy_async_wait<kStages - 1>();
      else copy_async_wait<kStages - 2>();
      if (!TW_PLANT(107)) __syncwarp();              // all lanes' copies are there, and all are done with the stage loaded next
      load_page<T, kDim>(a, stages[(j + kStages - 1) % kStages], pages, j + kStages - 1, head_bytes, lane);
      const auto& stage = stages[j % kStages];
      w.template attend<1>(stage.keys, stage.values, (pages.first + j * kWarps) * kPage, rule, lane);
    }
    w.end();
    copy_async_wait<0>();
    __syncthreads();
    auto& m = s.merging;
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d)
#pragma unroll
      for (int e = 0; e < 4; ++e) m.o[warp][g + e / 2 * 8][Warp<T, kDim>::dimension(d, e, t)] = w.o[d][e];
    if (t == 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) m.highest[warp][g + i * 8] = w.highest[i], m.total[warp][g + i * 8] = w.total[i];
    }
    if (!TW_PLANT(108)) __syncthreads();
    merge_warps<T, kDim>(args, m, item, number, sequence, kv_head);
    __syncthreads();                                 // before the next item's pages come
  }
}

// One warp a (row, query head): pieces of a sequence together; zeros for padding rows and padding columns.
__global__ void __launch_bounds__(kThreads) attend_merge_kernel(AttendTiledArgs args) {
  const AttendArgs& a = args.attend;
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x % 32), dim = a.shape.head_dim;
  const std::int32_t head = static_cast<std::int32_t>(blockIdx.y * kWarps + threadIdx.x / 32);
  const std::int32_t row = static_cast<std::int32_t>(blockIdx.x), number = a.row_sequence[row];
  if (head >= a.shape.q_heads) return;
  const std::size_t begin = static_cast<std::size_t>(row) * static_cast<std::size_t>(a.out.stride);
  if (head == 0)
    for (std::int32_t c = a.shape.q_heads * dim + lane; c < a.out.stride; c += 32) store_out(a, begin + static_cast<std::size_t>(c), 0);
  const std::size_t at = begin + static_cast<std::size_t>(head) * static_cast<std::size_t>(dim);
  if (number < 0) {
    for (std::int32_t d = lane; d < dim; d += 32) store_out(a, at + static_cast<std::size_t>(d), 0);
    return;
  }
  const std::int32_t chunks = args.plan.chunks[number];
  if (chunks <= 1) return;
  const std::int32_t group = a.shape.q_heads / a.shape.kv_heads, kv_head = head / group;
  const std::int32_t query = (row - a.sequences[number].row) * group + head % group;
  const auto partial = [&](std::int32_t c) {
    const std::size_t item = static_cast<std::size_t>(args.plan.first_item[number] + query / 16 * chunks + c);
    return args.partials + ((item * static_cast<std::size_t>(a.shape.kv_heads) + static_cast<std::size_t>(kv_head)) * 16 +
                            static_cast<std::size_t>(query % 16)) * static_cast<std::size_t>(kv_stride(dim) + 2);
  };
  float highest = -__builtin_inff();
  for (std::int32_t c = 0; c < (TW_PLANT(109) ? chunks - 1 : chunks); ++c) highest = fmaxf(highest, partial(c)[0]);
  for (std::int32_t d = lane; d < dim; d += 32) {
    float total = 0, sum = 0;
    for (std::int32_t c = 0; c < (TW_PLANT(109) ? chunks - 1 : chunks); ++c) {
      const float* p = partial(c);
      const float share = exp2f(p[0] - highest);
      total = fmaf(share, p[1], total);
      sum = fmaf(share, p[2 + d], sum);
    }
    store_out(a, at + static_cast<std::size_t>(d), sum / total * a.kv.v_scale);
  }
}

template <class T, int kDim, int kStages>
void launch_stages(Stream stream, const AttendTiledArgs& a) {
  static_assert(kStages == 3 || sizeof(Shared<T, kDim, kStages>) <= kLeastShared);
  const Blocks blocks{static_cast<unsigned>(a.blocks), static_cast<unsigned>(a.attend.shape.kv_heads)};
  launch(Launch(stream, blocks, kThreads, sizeof(Shared<T, kDim, kStages>), "attend_decode"), attend_decode_kernel<T, kDim, kStages>, a);
}
template <class T, int kDim>
void launch_decode(Stream stream, const AttendTiledArgs& a) {
  if constexpr (sizeof(Shared<T, kDim, 3>) > kLeastShared)
    if (sizeof(Shared<T, kDim, 3>) > a.shared_bytes) return launch_stages<T, kDim, 2>(stream, a);
  launch_stages<T, kDim, 3>(stream, a);
}
template <class T>
void launch_dim(Stream stream, const AttendTiledArgs& a) {
  switch (kv_stride(a.attend.shape.head_dim)) {
    case 16: return launch_decode<T, 16>(stream, a);
    case 32: return launch_decode<T, 32>(stream, a);
    case 64: return launch_decode<T, 64>(stream, a);
    case 80: return launch_decode<T, 80>(stream, a);
    case 96: return launch_decode<T, 96>(stream, a);
    default: return launch_decode<T, 128>(stream, a);
  }
}

}  // namespace

void attend_decode(Stream stream, const AttendTiledArgs& a) {
  if (a.attend.rows == 0) return;
  switch (a.attend.kv.element) {
    case Element::f16: launch_dim<f16>(stream, a); break;
    case Element::fp8: launch_dim<fp8>(stream, a); break;
    default: launch_dim<bf16>(stream, a);
  }
  const Blocks blocks{static_cast<unsigned>(a.attend.rows), divide_up(a.attend.shape.q_heads, kWarps)};
  launch(Launch(stream, blocks, kThreads, 0, "attend_merge"), attend_merge_kernel, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
