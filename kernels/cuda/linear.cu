// out = in * W^T for any number of rows: tiles of 64 x 64 through three stages of cp.async, mma.sync, fp32 sums. On a card
// cuBLASLt takes the large products; this kernel is what the emulator runs and what stands in where the library is absent.
// Rows of a tile in shared memory are 80 bytes apart, so that ldmatrix reads eight of them without a bank conflict.
#include "kernels/cuda/ptx.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kTile = 64, kThreads = 128, kStages = 3;
constexpr int kTileBytes = 64;                       // of a row in one stage: 32 elements of 16 bits, 64 of fp8
constexpr int kRowBytes = 80;

struct Shared {
  unsigned char in[kStages][kTile][kRowBytes];
  unsigned char weights[kStages][kTile][kRowBytes];
};

// One stage: 64 rows of 64 bytes of each operand, rows beyond the matrix as zeros.
__device__ __forceinline__ void load_stage(const LinearArgs& a, Shared& s, int stage, std::int32_t first_row,
                                           std::int32_t first_column, std::size_t k_byte, std::size_t in_bytes,
                                           std::size_t weight_bytes) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * 4; i += kThreads) {
    const int r = i / 4, part = i % 4 * 16;
    const std::int32_t row = first_row + r, column = first_column + r;
    const auto* in = static_cast<const unsigned char*>(a.in.data);
    const bool row_there = TW_PLANT(8) ? row <= a.rows : row < a.rows;
    copy_async16(&s.in[stage][r][part], in + (row_there ? static_cast<std::size_t>(row) * in_bytes + k_byte : 0) + part,
                 row_there ? 16 : 0);
    const auto* weights = static_cast<const unsigned char*>(a.weights.data);
    const bool column_there = column < a.weights.n;
    copy_async16(&s.weights[stage][r][part],
                 weights + (column_there ? static_cast<std::size_t>(column) * weight_bytes + k_byte : 0) + part,
                 column_there ? 16 : 0);
  }
}

// Two fp8 of shared memory as two f16.
__device__ __forceinline__ std::uint32_t widen(const unsigned char* at) {
  return pack2<f16>(to_float(fp8{at[0]}), to_float(fp8{at[1]}));
}

// A warp's 32 x 32 of the tile, over one stage.
template <class T>
__device__ __forceinline__ void multiply(const Shared& s, int stage, int warp_row, int warp_column, int lane,
                                         float (&sum)[2][4][4]) {
  const int g = lane / 4, t = lane % 4;
  constexpr int kSteps = sizeof(T) == 2 ? 2 : 4;     // of 16 elements
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    std::uint32_t left[2][4], right[4][2];
    if constexpr (sizeof(T) == 2) {
#pragma unroll
      for (int m = 0; m < 2; ++m)
        load_matrix<false>(left[m], &s.in[stage][warp_row + m * 16 + lane % 16][step * 32 + lane / 16 * 16]);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        std::uint32_t both[4];
        load_matrix<false>(both, &s.weights[stage][warp_column + n * 16 + lane / 16 * 8 + lane % 8]
                                                  [step * 32 + lane / 8 % 2 * 16]);
        right[2 * n][0] = both[0], right[2 * n][1] = both[1];
        right[2 * n + 1][0] = both[2], right[2 * n + 1][1] = both[3];
      }
    } else {
#pragma unroll
      for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          left[m][i] = widen(&s.in[stage][warp_row + m * 16 + g + i % 2 * 8][step * 16 + 2 * t + i / 2 * 8]);
#pragma unroll
      for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          right[n][i] = widen(&s.weights[stage][warp_column + n * 8 + g][step * 16 + 2 * t + i * 8]);
    }
    using Product = std::conditional_t<sizeof(T) == 1, f16, T>;
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < 4; ++n) mma_16x8x16<Product>(sum[m][n], left[m], right[n]);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) linear_kernel(LinearArgs a) {
  Shared& s = shared<Shared>();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
  const auto first_column = static_cast<std::int32_t>(blockIdx.x * kTile), first_row = static_cast<std::int32_t>(blockIdx.y * kTile);
  const std::size_t in_bytes = static_cast<std::size_t>(a.in.stride) * sizeof(T);
  const std::size_t weight_bytes = static_cast<std::size_t>(a.weights.stride) * sizeof(T);
  const int stages = static_cast<int>(static_cast<std::size_t>(a.in.stride) * sizeof(T) / kTileBytes);

  float sum[2][4][4] = {};
  for (int k = 0; k < kStages - 1; ++k) {
    if (k < stages) load_stage(a, s, k, first_row, first_column, static_cast<std::size_t>(k) * kTileBytes, in_bytes, weight_bytes);
    copy_async_commit();
  }
  for (int k = 0; k < stages; ++k) {
    if (TW_PLANT(9)) copy_async_wait<kStages - 1>();
    else copy_async_wait<kStages - 2>();
    if (!TW_PLANT(10)) __syncthreads();              // also: everybody is done with the stage that is loaded next
    const int ahead = k + kStages - 1;
    if (ahead < stages)
      load_stage(a, s, TW_PLANT(19) ? k % kStages : ahead % kStages, first_row, first_column, static_cast<std::size_t>(ahead) * kTileBytes, in_bytes,
                 weight_bytes);
    copy_async_commit();
    multiply<T>(s, k % kStages, warp_row, warp_column, lane, sum);
  }

  const int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int m = 0; m < 2; ++m)
#pragma unroll
    for (int n = 0; n < 4; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const std::int32_t row = first_row + warp_row + m * 16 + g + e / 2 * 8;
        const std::int32_t column = first_column + warp_column + n * 8 + 2 * t + e % 2;
        if (row >= a.rows || column >= a.weights.n) continue;
        float y = sum[m][n][e];
        if constexpr (sizeof(T) == 1) y *= a.in.scales[row] * a.weights.scales[column];
        if (a.weights.bias != nullptr) y += a.weights.bias[column];
        float& to = a.out[static_cast<std::size_t>(row) * static_cast<std::size_t>(a.weights.n) + static_cast<std::size_t>(column)];
        to = a.accumulate && !TW_PLANT(20) ? to + y : y;
      }
}

}  // namespace

void linear(Stream stream, const LinearArgs& a) {
  if (a.rows == 0) return;
  const Launch how(stream, {divide_up(a.weights.n, kTile), divide_up(a.rows, kTile)}, kThreads, sizeof(Shared));
  switch (a.in.element) {
    case Element::f16: return launch(how, linear_kernel<f16>, a);
    case Element::fp8: return launch(how, linear_kernel<fp8>, a);
    default: return launch(how, linear_kernel<bf16>, a);
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
