// GGUF blocks to rows of bf16 or f16, zero beyond k: what the tiled GEMM reads when a step has many rows. Four threads a group.
#include "kernels/cuda/quants.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

template <class T, Quant kQuant>
__global__ void __launch_bounds__(kThreads) unpack_kernel(UnpackArgs a) {
  const std::int32_t i = static_cast<std::int32_t>(blockIdx.y * kThreads + threadIdx.x), group = i / 4, t = i % 4;
  if (group * 32 >= a.to_stride) return;
  const auto n = static_cast<std::size_t>(blockIdx.x);
  float v[8] = {};
  if (group * 32 < a.from.k)
    group_values<kQuant>(static_cast<const unsigned char*>(a.from.data) + n * a.from.row_bytes, group, t, v);
  T* to = static_cast<T*>(a.to) + n * static_cast<std::size_t>(a.to_stride) + static_cast<std::size_t>(group * 32 + 4 * t);
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    to[e] = from_float<T>(v[e]);
    to[16 + e] = from_float<T>(v[4 + e]);
  }
}

template <class T>
void launch_unpack(Stream stream, const UnpackArgs& a) {
  // Rows along x: a head has more of them than the 65,535 a grid may have along y.
  const Launch how(stream, {static_cast<unsigned>(a.from.n), divide_up(a.to_stride / 8, kThreads)}, kThreads, 0, "unpack");
  switch (a.from.quant) {
    case Quant::q4_0: return launch(how, unpack_kernel<T, Quant::q4_0>, a);
    case Quant::q4_1: return launch(how, unpack_kernel<T, Quant::q4_1>, a);
    case Quant::q4_k: return launch(how, unpack_kernel<T, Quant::q4_k>, a);
    default: return launch(how, unpack_kernel<T, Quant::q8_0>, a);
  }
}

}  // namespace

void unpack(Stream stream, const UnpackArgs& a) {
  if (a.element == Element::f16) return launch_unpack<f16>(stream, a);
  launch_unpack<bf16>(stream, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
