// Gated activation from interleaved columns, leaving what the next linear reads. silu(x) = x / (1 + e^-x); gelu_tanh(x) =
// x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3), as in kernels/cpu/gate.hpp. fp8 computes a row
// twice: for its scale, and to store it.
#include "kernels/cuda/fp8_rows.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

__device__ __forceinline__ float gated(float2 x, bool gelu) {
  const float u = gelu ? 1.5957691216f * x.x * fmaf(0.044715f * x.x, x.x, 1.0f) : x.x;
  return x.x / (1.0f + __expf(-u)) * x.y;
}

template <class T>
__global__ void __launch_bounds__(kThreads) gate_kernel(GateArgs a) {
  const auto row = static_cast<std::size_t>(blockIdx.y);
  const std::int32_t columns = a.out.columns, stride = a.out.stride;
  const auto* x = reinterpret_cast<const float2*>(a.gate_up) + row * static_cast<std::size_t>(columns);
  T* out = static_cast<T*>(a.out.data) + row * static_cast<std::size_t>(stride);
  const std::int32_t c = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x);
  if (c >= stride) return;
  const bool inside = TW_PLANT(3) ? c <= columns : c < columns;
  out[c] = from_float<T>(inside ? gated(x[c], a.gelu) : 0.0f);
}

__global__ void __launch_bounds__(kThreads) gate_fp8_kernel(GateArgs a) {
  RowShared& s = shared<RowShared>();
  const auto row = static_cast<std::size_t>(blockIdx.x);
  const std::int32_t columns = a.out.columns, stride = a.out.stride, first = static_cast<std::int32_t>(threadIdx.x);
  const auto* x = reinterpret_cast<const float2*>(a.gate_up) + row * static_cast<std::size_t>(columns);
  fp8* out = static_cast<fp8*>(a.out.data) + row * static_cast<std::size_t>(stride);
  float largest = 0;
  for (std::int32_t c = first; c < columns; c += kThreads) largest = fmaxf(largest, fabsf(gated(x[c], a.gelu)));
  const float inverse = store_row_scale(largest, a.out.scales + row, s);
  for (std::int32_t c = first; c < stride; c += kThreads)
    out[c] = to_fp8(c < columns ? gated(x[c], a.gelu) * inverse : 0.0f);
}

}  // namespace

void gate(Stream stream, const GateArgs& a) {
  if (a.rows == 0) return;
  const auto rows = static_cast<unsigned>(a.rows);
  if (a.out.element == Element::fp8)
    return launch(Launch(stream, {rows}, kThreads, sizeof(RowShared)), gate_fp8_kernel, a);
  const Launch how(stream, {divide_up(a.out.stride, kThreads), rows}, kThreads);
  if (a.out.element == Element::f16) return launch(how, gate_kernel<f16>, a);
  launch(how, gate_kernel<bf16>, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
