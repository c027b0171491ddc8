// What a card can read, for tests/gpu: every byte once, 16 at a time, xored so that no load is dropped.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) probe_read_kernel(ProbeArgs a) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * kThreads * 16;
  std::uint32_t seen = 0;
#pragma unroll 8
  for (std::size_t at = (static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x) * 16; at < a.bytes; at += step) {
    const uint4 v = load16(static_cast<const unsigned char*>(a.data) + at);
    seen ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) seen ^= __shfl_xor_sync(kAllLanes, seen, lanes);
  if (threadIdx.x % 32 == 0) a.sums[blockIdx.x * (kThreads / 32) + threadIdx.x / 32] = seen;
}

}  // namespace

void probe_read(Stream stream, const ProbeArgs& a) {
  launch(Launch(stream, {static_cast<unsigned>(a.blocks)}, kThreads), probe_read_kernel, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
