// RMS norm of rows of the fp32 residual stream, leaving what the next linear reads: bf16, f16, or fp8 with a scale per row
// (largest magnitude / 448). One block a row; the row stays in registers between its two or three passes.
#include "kernels/cuda/fp8_rows.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) norm_kernel(NormArgs a) {
  RowShared& s = shared<RowShared>();
  const std::int32_t columns = a.out.columns, stride = a.out.stride;
  const auto row = static_cast<std::size_t>(blockIdx.x);
  const float* x = a.hidden + row * static_cast<std::size_t>(columns);
  T* out = static_cast<T*>(a.out.data) + row * static_cast<std::size_t>(stride);
  const auto first = static_cast<std::int32_t>(threadIdx.x);

  float squares = 0;
  for (std::int32_t c = first; c < columns; c += kThreads) squares = fmaf(x[c], x[c], squares);
  const float factor = rsqrtf(block_reduce<false>(squares, s.scratch) / static_cast<float>(columns) + a.epsilon);

  float inverse = 1;
  if constexpr (sizeof(T) == 1) {
    float largest = 0;
    for (std::int32_t c = first; c < columns; c += kThreads) largest = fmaxf(largest, fabsf(x[c] * factor * a.weight[c]));
    inverse = store_row_scale(largest, a.out.scales + row, s);
  }
  const std::int32_t end = TW_PLANT(2) ? stride + 1 : stride;
  for (std::int32_t c = first; c < end; c += kThreads)
    out[c] = from_float<T>(c < columns ? x[c] * factor * a.weight[c] * inverse : 0.0f);
}

}  // namespace

void norm(Stream stream, const NormArgs& a) {
  if (a.rows == 0) return;
  const Launch how(stream, {static_cast<unsigned>(a.rows)}, kThreads, sizeof(RowShared));
  switch (a.out.element) {
    case Element::f16: return launch(how, norm_kernel<f16>, a);
    case Element::fp8: return launch(how, norm_kernel<fp8>, a);
    default: return launch(how, norm_kernel<bf16>, a);
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
