// Sums, gathered columns and drawn ids over the memory of all ranks: every part crosses a link once, bound by them. Of a sum each
// rank reads all parts for itself, in the same order, so that all hold the same bits; columns and ids are written where they go.
#include "kernels/cuda/peers.hpp"

#include "kernels/cuda/flags.cuh"

namespace tokenworks::kernels::cuda {
namespace TW_TARGET {
namespace {

constexpr int kThreads = 256;

// A block's part of the mailboxes is its own whatever the grid, so blocks count their turns for themselves.
__global__ void __launch_bounds__(kOnceThreads) sum_once_kernel(SumOnceArgs a) {
  const auto block = static_cast<std::size_t>(blockIdx.x);
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * kOnceValues;
  std::uint32_t epoch = a.epochs[block];
  for (std::size_t first = block * kOnceValues; first < a.count; first += step) {
    ++epoch;
    const std::size_t at = ((TW_PLANT(124) ? 0 : epoch & 1u) * kOnceBlocks + block) * kOnceValues;
    const std::size_t left = a.count - first, n = left < kOnceValues ? left : kOnceValues;
    float* const mine = a.mailboxes[a.rank] + at;
    float* const values = a.values + first;
    for (auto i = static_cast<std::size_t>(thread); i < n; i += kOnceThreads) mine[i] = values[i];
    if (!TW_PLANT(123)) __syncthreads();             // the block's whole part lies there before anybody is told
    bool gone = false;
    if (thread < a.ranks) {
      store_flag(a.flags[thread] + block * kRanksMost + a.rank, epoch);
      const std::uint32_t* const told = a.flags[a.rank] + block * kRanksMost + thread;
      if (!TW_PLANT(122)) gone = !wait_flag(told, TW_PLANT(125) ? epoch - 1 : epoch, a.left);
    }
    if (__syncthreads_or(gone)) return;
    for (auto i = static_cast<std::size_t>(thread); i < n; i += kOnceThreads) {
      float sum = 0;
      for (std::int32_t r = TW_PLANT(120) ? 1 : 0; r < a.ranks; ++r) sum += a.mailboxes[r][at + i];
      values[i] = sum;
    }
  }
  __syncthreads();                                   // everybody has read it
  if (thread == 0) a.epochs[block] = epoch;
}

// Unit u: a stretch of columns of a row, as many for every rank as the widest needs, so that all ranks' grids are the same.
__global__ void __launch_bounds__(kThreads) gather_once_kernel(GatherOnceArgs a) {
  const auto block = static_cast<std::int32_t>(blockIdx.x), thread = static_cast<std::int32_t>(threadIdx.x);
  for (std::int32_t u = block; u < a.rows * a.stretches; u += static_cast<std::int32_t>(gridDim.x)) {
    const auto row = static_cast<std::size_t>(u / a.stretches);
    const std::int32_t begin = u % a.stretches * kGatherColumns, most = begin + kGatherColumns, end = most < a.width ? most : a.width;
    float* const out = a.out + row * static_cast<std::size_t>(a.total) + static_cast<std::size_t>(a.from);
    const float* const mine = a.mine + row * static_cast<std::size_t>(a.width);
    for (std::int32_t c = begin + thread; c < (TW_PLANT(121) ? end + 1 : end); c += kThreads) out[c] = mine[c];
  }
  const std::uint32_t epoch = a.epochs[block] + 1;
  if (!TW_PLANT(129)) __syncthreads();               // the block's part lies there before the first rank is told
  if (a.rank != 0 && thread == 0) store_flag(a.flags + block * kRanksMost + a.rank, epoch);
  if (a.rank == 0 && thread > 0 && thread < a.ranks && !TW_PLANT(126)) (void)wait_flag(a.flags + block * kRanksMost + thread, epoch, a.left);
  __syncthreads();
  if (thread == 0) a.epochs[block] = epoch;
}

__global__ void __launch_bounds__(kThreads) share_ids_kernel(ShareIdsArgs a) {
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  if (a.rank == 0) {
    for (std::int32_t r = 1; r < a.ranks; ++r)
      for (std::int32_t i = thread; i < a.count; i += kThreads) a.ids[r][i] = a.drawn[TW_PLANT(128) ? i / 2 : i];
    if (!TW_PLANT(130)) __syncthreads();
    if (thread > 0 && thread < a.ranks) store_flag(a.flags[thread], a.told);
  } else if (thread == 0 && !TW_PLANT(127)) {
    (void)wait_flag(a.flags[a.rank], a.told, a.left);
  }
}

void sum_once(Stream stream, const SumOnceArgs& a) {
  if (a.count == 0) return;
  const unsigned blocks = divide_up(static_cast<std::int64_t>(a.count), kOnceValues);
  launch(Launch(stream, {blocks < kOnceBlocks ? blocks : kOnceBlocks}, kOnceThreads), sum_once_kernel, a);
}

void gather_once(Stream stream, const GatherOnceArgs& a) {
  if (a.rows == 0) return;
  const std::int64_t units = std::int64_t{a.rows} * a.stretches;
  launch(Launch(stream, {units < kOnceBlocks ? static_cast<unsigned>(units) : kOnceBlocks}, kThreads), gather_once_kernel, a);
}

void share_ids(Stream stream, const ShareIdsArgs& a) {
  if (a.count == 0) return;
  launch(Launch(stream, {1}, kThreads), share_ids_kernel, a);
}

}  // namespace
}  // namespace TW_TARGET

#if defined(TW_EMULATE)
const PeerOps* emulated_peer_ops() {
#else
const PeerOps* device_peer_ops() {
#endif
  static const PeerOps ops{TW_TARGET::sum_once, TW_TARGET::gather_once, TW_TARGET::share_ids};
  return &ops;
}

}  // namespace tokenworks::kernels::cuda
