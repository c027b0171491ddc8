// out = in * W^T for few rows: every weight is read once, 16 bytes a lane straight into the registers of mma.sync, so the time
// is the weights' bytes. A block takes 16 columns, its warps share the depth; partial sums meet in shared memory. Which k
// stands where in a fragment is free as long as both operands agree: lane t of four takes 16 consecutive bytes of a row,
// and no shuffle or ldmatrix is needed.
#include "kernels/cuda/ptx.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kColumns = 16;                         // of a block

template <int kTiles>
struct Shared {
  float sum[kWarps][kTiles * 2][32][4];
};

// The pairs of a lane's 16 bytes as 16-bit pairs: bf16 and f16 as they are, fp8 widened to f16.
template <class T>
__device__ __forceinline__ void pairs_of(uint4 v, std::uint32_t (&pairs)[16 / sizeof(T) / 2]) {
  const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) pairs[i] = words[i];
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const std::uint32_t two = words[i / 2] >> (i % 2 * 16);
      pairs[i] = pack2<f16>(to_float(fp8{static_cast<std::uint8_t>(two)}), to_float(fp8{static_cast<std::uint8_t>(two >> 8)}));
    }
  }
}

template <class T, int kTiles>                       // kTiles * 16 rows
__global__ void __launch_bounds__(kThreads) linear_small_kernel(LinearArgs a) {
  auto& s = shared<Shared<kTiles>>();
  constexpr int kPairs = 16 / static_cast<int>(sizeof(T)) / 2;
  using Product = std::conditional_t<sizeof(T) == 1, f16, T>;
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int g = lane / 4, t = lane % 4;
  const auto first = static_cast<std::int32_t>(blockIdx.x * kColumns);
  const std::size_t in_bytes = static_cast<std::size_t>(a.in.stride) * sizeof(T);
  const std::size_t weight_bytes = static_cast<std::size_t>(a.weights.stride) * sizeof(T);
  const auto* in = static_cast<const unsigned char*>(a.in.data);
  const auto* weights = static_cast<const unsigned char*>(a.weights.data);
  const uint4 zero = make_uint4(0, 0, 0, 0);

  float sum[kTiles][2][4] = {};
  // 64 bytes of every row a step; the row stride is a multiple of 64 elements.
#pragma unroll 4
  for (std::size_t k = static_cast<std::size_t>(warp) * 64; k < in_bytes; k += kWarps * 64) {
    uint4 w[2];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const std::int32_t column = first + n * 8 + g;
      w[n] = column < a.weights.n ? load16(weights + static_cast<std::size_t>(column) * weight_bytes + k + t * 16) : zero;
    }
    std::uint32_t right[2][kPairs];
#pragma unroll
    for (int n = 0; n < 2; ++n) pairs_of<T>(w[n], right[n]);
#pragma unroll
    for (int m = 0; m < kTiles; ++m) {
      const std::int32_t low = m * 16 + g, high = low + 8;
      std::uint32_t top[kPairs], bottom[kPairs];
      pairs_of<T>(low < a.rows ? load16(in + static_cast<std::size_t>(low) * in_bytes + k + t * 16) : zero, top);
      pairs_of<T>(high < a.rows ? load16(in + static_cast<std::size_t>(high) * in_bytes + k + t * 16) : zero, bottom);
#pragma unroll
      for (int j = 0; j < kPairs; j += 2) {
        const std::uint32_t left[4] = {top[j], bottom[j], top[j + 1], bottom[j + 1]};
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const std::uint32_t b[2] = {right[n][j], right[n][j + 1]};
          mma_16x8x16<Product>(sum[m][n], left, b);
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kTiles; ++m)
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) s.sum[warp][m * 2 + n][lane][e] = sum[m][n][e];
  if (!TW_PLANT(11)) __syncthreads();

  for (int i = static_cast<int>(threadIdx.x); i < kTiles * 2 * 32 * 4; i += kThreads) {
    const int part = i / 128, l = i / 4 % 32, e = i % 4;
    const std::int32_t row = part / 2 * 16 + l / 4 + e / 2 * 8, column = first + part % 2 * 8 + 2 * (l % 4) + e % 2;
    if (row >= a.rows || column >= a.weights.n) continue;
    float y = 0;
    for (int w = 0; w < kWarps; ++w) y += s.sum[w][part][l][e];
    if constexpr (sizeof(T) == 1) y *= a.in.scales[row] * a.weights.scales[column];
    if (a.weights.bias != nullptr) y += a.weights.bias[TW_PLANT(12) ? column + 1 : column];
    float& to = a.out[static_cast<std::size_t>(row) * static_cast<std::size_t>(a.weights.n) + static_cast<std::size_t>(column)];
    to = a.accumulate ? to + y : y;
  }
}

template <class T>
void launch_tiles(Stream stream, const LinearArgs& a) {
  const Blocks blocks{divide_up(a.weights.n, kColumns)};
  if (a.rows <= 16) return launch(Launch(stream, blocks, kThreads, sizeof(Shared<1>), "linear_small"), linear_small_kernel<T, 1>, a);
  launch(Launch(stream, blocks, kThreads, sizeof(Shared<2>), "linear_small"), linear_small_kernel<T, 2>, a);
}

}  // namespace

void linear_small(Stream stream, const LinearArgs& a) {   // at most 32 rows
  if (a.rows == 0) return;
  switch (a.in.element) {
    case Element::f16: return launch_tiles<f16>(stream, a);
    case Element::fp8: return launch_tiles<fp8>(stream, a);
    default: return launch_tiles<bf16>(stream, a);
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
