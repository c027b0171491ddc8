// bf16 or f16 rows to fp8 with a scale per row: for what no fused producer made, the output of attention.
#include "kernels/cuda/fp8_rows.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) quantize_kernel(QuantizeArgs a) {
  RowShared& s = shared<RowShared>();
  const auto row = static_cast<std::size_t>(blockIdx.x);
  const std::int32_t columns = a.out.columns, stride = a.out.stride, first = static_cast<std::int32_t>(threadIdx.x);
  const T* x = static_cast<const T*>(a.in.data) + row * static_cast<std::size_t>(a.in.stride);
  fp8* out = static_cast<fp8*>(a.out.data) + row * static_cast<std::size_t>(stride);
  float largest = 0;
  for (std::int32_t c = first; c < columns; c += kThreads) largest = fmaxf(largest, fabsf(to_float(x[c])));
  const float inverse = store_row_scale(largest, a.out.scales + row, s);
  for (std::int32_t c = first; c < stride; c += kThreads)
    out[c] = to_fp8(c < columns ? to_float(x[c]) * inverse : 0.0f);
}

}  // namespace

void quantize(Stream stream, const QuantizeArgs& a) {
  if (a.rows == 0) return;
  const Launch how(stream, {static_cast<unsigned>(a.rows)}, kThreads, sizeof(RowShared));
  if (a.in.element == Element::f16) return launch(how, quantize_kernel<f16>, a);
  launch(how, quantize_kernel<bf16>, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
