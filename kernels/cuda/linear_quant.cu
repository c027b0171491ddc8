// out = in * W^T for few rows and weights kept as GGUF blocks: a block takes 16 columns, its eight warps every eighth group of
// 32 values, dequantised into the fragments of mma.sync; partial sums meet in shared memory. The bytes read are the file's.
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/quants.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kWarps = 8, kThreads = kWarps * 32, kColumns = 16;

struct Shared {
  float sum[kWarps][2][32][4];
};

// Pairs of a row of activations as group_values orders them.
__device__ __forceinline__ void pairs_of(const std::uint16_t* row, std::int32_t group, int t, std::uint32_t (&pairs)[4]) {
  if (row == nullptr) {
    for (int i = 0; i < 4; ++i) pairs[i] = 0;
    return;
  }
  const auto* low = reinterpret_cast<const std::uint32_t*>(row + group * 32 + 4 * t);
  pairs[0] = low[0], pairs[1] = low[1];
  pairs[2] = low[8], pairs[3] = low[9];
}

template <class T, Quant kQuant>
__global__ void __launch_bounds__(kThreads) linear_quant_kernel(LinearArgs a) {
  Shared& s = shared<Shared>();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32), g = lane / 4, t = lane % 4;
  const auto first = static_cast<std::int32_t>(blockIdx.x * kColumns);
  const auto* in = static_cast<const std::uint16_t*>(a.in.data);
  const auto row = [&](std::int32_t r) { return r < a.rows ? in + static_cast<std::size_t>(r) * static_cast<std::size_t>(a.in.stride) : nullptr; };
  const std::uint16_t *top = row(g), *bottom = row(g + 8);
  const unsigned char* weights[2];
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    const std::int32_t column = first + n * 8 + g;
    weights[n] = static_cast<const unsigned char*>(a.weights.data) +
                 static_cast<std::size_t>(column < a.weights.n ? column : a.weights.n - 1) * a.weights.row_bytes;
  }
  float sum[2][4] = {};
  const std::int32_t groups = a.weights.k / 32;
#pragma unroll 2
  for (std::int32_t group = warp; group < groups; group += kWarps) {
    std::uint32_t high[4], low[4];
    pairs_of(top, group, t, high);
    pairs_of(bottom, group, t, low);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      float v[8];
      group_values<kQuant>(weights[n], group, t, v);
#pragma unroll
      for (int j = 0; j < 4; j += 2) {
        const std::uint32_t left[4] = {high[j], low[j], high[j + 1], low[j + 1]};
        const std::uint32_t right[2] = {pack2<T>(v[2 * j], v[2 * j + 1]), pack2<T>(v[2 * j + 2], v[2 * j + 3])};
        mma_16x8x16<T>(sum[n], left, right);
      }
    }
  }
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) s.sum[warp][n][lane][e] = sum[n][e];
  if (!TW_PLANT(207)) __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * 32 * 4; i += kThreads) {
    const int n = i / 128, l = i / 4 % 32, e = i % 4;
    const std::int32_t r = l / 4 + e / 2 * 8, column = first + n * 8 + 2 * (l % 4) + e % 2;
    if (r >= a.rows || column >= a.weights.n) continue;
    float y = 0;
    for (int w = 0; w < kWarps; ++w) y += s.sum[w][n][l][e];
    if (a.weights.bias != nullptr) y += a.weights.bias[column];
    float& to = a.out[static_cast<std::size_t>(r) * static_cast<std::size_t>(a.weights.n) + static_cast<std::size_t>(column)];
    to = a.accumulate ? to + y : y;
  }
}

template <class T>
void launch_quant(Stream stream, const LinearArgs& a) {
  const Launch how(stream, {divide_up(a.weights.n, kColumns)}, kThreads, sizeof(Shared), "linear_quant");
  switch (a.weights.quant) {
    case Quant::q4_0: return launch(how, linear_quant_kernel<T, Quant::q4_0>, a);
    case Quant::q4_1: return launch(how, linear_quant_kernel<T, Quant::q4_1>, a);
    case Quant::q4_k: return launch(how, linear_quant_kernel<T, Quant::q4_k>, a);
    default: return launch(how, linear_quant_kernel<T, Quant::q8_0>, a);
  }
}

}  // namespace

void linear_quant(Stream stream, const LinearArgs& a) {   // at most 16 rows, bf16 or f16
  if (a.rows == 0) return;
  if (a.in.element == Element::f16) return launch_quant<f16>(stream, a);
  launch_quant<bf16>(stream, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
