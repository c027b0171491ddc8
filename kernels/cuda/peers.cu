// Sums and gathered columns over the memory of all ranks: one read of every part across the links, bound by them. Each rank does
// it for itself, in the same order, so that all hold the same bits.
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

__global__ void __launch_bounds__(kThreads) gather_peers_kernel(GatherPeersArgs a) {
  const std::int32_t columns = a.first[a.ranks];
  const auto row = static_cast<std::size_t>(blockIdx.y);
  for (auto c = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x); c < columns; c += static_cast<std::int32_t>(gridDim.x) * kThreads) {
    std::int32_t r = 0;
    while (TW_PLANT(121) ? c > a.first[r + 1] : c >= a.first[r + 1]) ++r;
    const auto width = static_cast<std::size_t>(a.first[r + 1] - a.first[r]);
    a.out[row * static_cast<std::size_t>(columns) + static_cast<std::size_t>(c)] = a.parts[r][row * width + static_cast<std::size_t>(c - a.first[r])];
  }
}

void sum_once(Stream stream, const SumOnceArgs& a) {
  if (a.count == 0) return;
  const unsigned blocks = divide_up(static_cast<std::int64_t>(a.count), kOnceValues);
  launch(Launch(stream, {blocks < kOnceBlocks ? blocks : kOnceBlocks}, kOnceThreads), sum_once_kernel, a);
}

void gather_peers(Stream stream, const GatherPeersArgs& a) {
  if (a.rows == 0) return;
  launch(Launch(stream, {divide_up(a.first[a.ranks], kThreads), static_cast<unsigned>(a.rows)}, kThreads), gather_peers_kernel, a);
}

}  // namespace
}  // namespace TW_TARGET

#if defined(TW_EMULATE)
const PeerOps* emulated_peer_ops() {
#else
const PeerOps* device_peer_ops() {
#endif
  static const PeerOps ops{TW_TARGET::sum_once, TW_TARGET::gather_peers};
  return &ops;
}

}  // namespace tokenworks::kernels::cuda
