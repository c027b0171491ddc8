// Sums and gathered columns over the memory of all ranks: one read of every part across the links, bound by them. Each rank does
// it for itself, in the same order, so that all hold the same bits.
#include "kernels/cuda/peers.hpp"

#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda {
namespace TW_TARGET {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) sum_peers_kernel(SumPeersArgs a) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * kThreads;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x; i < a.values; i += step) {
    float sum = 0;
    for (std::int32_t r = TW_PLANT(120) ? 1 : 0; r < a.ranks; ++r) sum += a.parts[r][i];
    a.out[i] = sum;
  }
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

void sum_peers(Stream stream, const SumPeersArgs& a) {
  if (a.values == 0) return;
  const unsigned blocks = divide_up(static_cast<std::int64_t>(a.values), kThreads);
  launch(Launch(stream, {blocks < 1024 ? blocks : 1024}, kThreads), sum_peers_kernel, a);
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
  static const PeerOps ops{TW_TARGET::sum_peers, TW_TARGET::gather_peers};
  return &ops;
}

}  // namespace tokenworks::kernels::cuda
