// The plan of a step's attention: which pieces of which sequences the blocks of attend_decode and attend_prefill take. One
// block; a thread a sequence, 256 at a time, places by prefix sums. Runs once a step, inside the captured graph.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct Shared {
  std::int32_t sums[kWarps];
};

// Exclusive prefix sum over the block; *all becomes the sum.
__device__ __forceinline__ std::int32_t scan(std::int32_t v, std::int32_t* all, Shared& s) {
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  std::int32_t sum = v;
  for (int by = 1; by < 32; by *= 2) {
    const std::int32_t below = __shfl_up_sync(kAllLanes, sum, static_cast<unsigned>(by));
    if (lane >= by) sum += below;
  }
  __syncthreads();                                   // the sums of the call before have been read
  if (lane == 31) s.sums[warp] = sum;
  if (!TW_PLANT(103)) __syncthreads();
  std::int32_t before = 0;
  *all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += s.sums[w];
    *all += s.sums[w];
  }
  return before + sum - v;
}

__device__ __forceinline__ std::int32_t parts(std::int32_t n, std::int32_t of) { return (n + of - 1) / of; }

__global__ void __launch_bounds__(kThreads) attend_plan_kernel(AttendPlanArgs a) {
  Shared& s = shared<Shared>();
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  std::int32_t all = 0, chunk = a.chunk;
  for (;; chunk *= 2) {                              // until the items fit
    std::int32_t items = 0, longest = 0;
    for (std::int32_t i = thread; i < a.num_sequences; i += kThreads) {
      const SequenceRows q = a.sequences[i];
      if (q.context <= 0 || q.rows <= 0 || q.rows > a.decode_rows) continue;
      items += parts(q.context, chunk) * parts(q.rows * a.group, 16);
      longest = q.context > longest ? q.context : longest;
    }
    (void)scan(items, &all, s);
    if (all <= a.plan.items_max || !__syncthreads_or(longest > chunk)) break;
  }
  std::int32_t items_before = 0, tiles_before = 0;
  for (std::int32_t round = 0; round < a.num_sequences; round += kThreads) {
    const std::int32_t i = round + thread;
    SequenceRows q{0, 0, 0, 0};
    if (i < a.num_sequences) q = a.sequences[i];
    const bool there = q.context > 0 && q.rows > 0, decode = there && q.rows <= a.decode_rows;
    const std::int32_t chunks = decode ? parts(q.context, chunk) : 0, groups = parts(q.rows * a.group, 16);
    const std::int32_t tiles = there && !decode ? parts(q.rows * a.group, 64) : 0;
    std::int32_t item = items_before + scan(chunks * groups, &all, s);
    items_before += all;
    std::int32_t tile = tiles_before + scan(tiles, &all, s);
    tiles_before += all;
    if (i >= a.num_sequences) continue;
    a.plan.first_item[i] = item;
    a.plan.chunks[i] = chunks;
    if (chunks > 0)
      for (std::int32_t g = 0; g < groups; ++g)
        for (std::int32_t c = 0; c < chunks; ++c, ++item)
          if (item < a.plan.items_max || TW_PLANT(104))
            a.plan.items[item] = {i, g * 16, c * chunk, q.context - c * chunk < chunk ? q.context - c * chunk : chunk};
    // The last rows first: they see most.
    for (std::int32_t t = tiles; t-- > 0; ++tile)
      if (tile < a.plan.tiles_max) a.plan.tiles[tile] = {i, t * 64};
  }
  if (thread != 0) return;
  a.plan.counts[0] = items_before < a.plan.items_max ? items_before : a.plan.items_max;
  a.plan.counts[1] = tiles_before < a.plan.tiles_max ? tiles_before : a.plan.tiles_max;
  a.plan.counts[2] = chunk;
}

}  // namespace

void attend_plan(Stream stream, const AttendPlanArgs& a) {
  launch(Launch(stream, {1}, kThreads, sizeof(Shared)), attend_plan_kernel, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
