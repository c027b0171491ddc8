// What an encoder of BERT's kind has and a decoder has not: learned positions, LayerNorm of the residual in place, an activation
// without a gate. The last two leave what the next linear reads, as norm.cu and gate.cu do; one block a row.
#include "kernels/cuda/fp8_rows.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) add_positions_kernel(AddPositionsArgs a) {
  const auto c = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x);
  const auto row = static_cast<std::size_t>(blockIdx.y), columns = static_cast<std::size_t>(a.columns);
  if (TW_PLANT(29) ? c > a.columns : c >= a.columns) return;
  a.hidden[row * columns + static_cast<std::size_t>(c)] += a.table[static_cast<std::size_t>(a.positions[row]) * columns + static_cast<std::size_t>(c)];
}

// A thread reads and writes its own columns only, so the row may change in place between barriers of the sums.
template <class T>
__global__ void __launch_bounds__(kThreads) layer_norm_kernel(LayerNormArgs a) {
  RowShared& s = shared<RowShared>();
  const std::int32_t columns = a.out.columns, stride = a.out.stride;
  const auto row = static_cast<std::size_t>(blockIdx.x);
  float* x = a.hidden + row * static_cast<std::size_t>(columns);
  T* out = static_cast<T*>(a.out.data) + row * static_cast<std::size_t>(stride);
  const auto first = static_cast<std::int32_t>(threadIdx.x);

  float sum = 0;
  for (std::int32_t c = first; c < columns; c += kThreads) sum += x[c];
  const float mean = block_reduce<false>(sum, s.scratch) / static_cast<float>(columns);
  float squares = 0;
  for (std::int32_t c = first; c < columns; c += kThreads) {
    const float d = TW_PLANT(30) ? x[c] : x[c] - mean;
    squares = fmaf(d, d, squares);
  }
  const float factor = rsqrtf(block_reduce<false>(squares, s.scratch) / static_cast<float>(columns) + a.epsilon);
  float largest = 0;
  for (std::int32_t c = first; c < columns; c += kThreads) {
    x[c] = fmaf((x[c] - mean) * factor, a.weight[c], a.bias[c]);
    largest = fmaxf(largest, fabsf(x[c]));
  }
  float inverse = 1;
  if constexpr (sizeof(T) == 1) inverse = store_row_scale(largest, a.out.scales + row, s);
  for (std::int32_t c = first; c < stride; c += kThreads) out[c] = from_float<T>(c < columns ? x[c] * inverse : 0.0f);
}

__device__ __forceinline__ float activated(float x, std::int32_t kind) {
  if (kind == 0) return 0.5f * x * (1.0f + erff(x * 0.70710678f));
  if (kind == 2) return fmaxf(x, 0.0f);
  const float u = kind == 1 ? 1.5957691216f * x * fmaf(0.044715f * x, x, 1.0f) : x;   // as in gate.cu
  return x / (1.0f + __expf(-u));
}

template <class T>
__global__ void __launch_bounds__(kThreads) activate_kernel(ActivateArgs a) {
  RowShared& s = shared<RowShared>();
  const std::int32_t columns = a.out.columns, stride = a.out.stride;
  const auto row = static_cast<std::size_t>(blockIdx.x);
  const float* x = a.in + row * static_cast<std::size_t>(columns);
  T* out = static_cast<T*>(a.out.data) + row * static_cast<std::size_t>(stride);
  const auto first = static_cast<std::int32_t>(threadIdx.x);
  float inverse = 1;
  if constexpr (sizeof(T) == 1) {
    float largest = 0;
    for (std::int32_t c = first; c < columns; c += kThreads) largest = fmaxf(largest, fabsf(activated(x[c], a.kind)));
    inverse = store_row_scale(largest, a.out.scales + row, s);
  }
  for (std::int32_t c = first; c < stride; c += kThreads)
    out[c] = from_float<T>((TW_PLANT(31) ? c <= columns : c < columns) ? activated(x[c], a.kind) * inverse : 0.0f);
}

}  // namespace

void add_positions(Stream stream, const AddPositionsArgs& a) {
  if (a.rows == 0) return;
  launch(Launch(stream, {divide_up(a.columns, kThreads), static_cast<unsigned>(a.rows)}, kThreads), add_positions_kernel, a);
}

void layer_norm(Stream stream, const LayerNormArgs& a) {
  if (a.rows == 0) return;
  const Launch how(stream, {static_cast<unsigned>(a.rows)}, kThreads, sizeof(RowShared));
  switch (a.out.element) {
    case Element::f16: return launch(how, layer_norm_kernel<f16>, a);
    case Element::fp8: return launch(how, layer_norm_kernel<fp8>, a);
    default: return launch(how, layer_norm_kernel<bf16>, a);
  }
}

void activate(Stream stream, const ActivateArgs& a) {
  if (a.rows == 0) return;
  const Launch how(stream, {static_cast<unsigned>(a.rows)}, kThreads, sizeof(RowShared));
  switch (a.out.element) {
    case Element::f16: return launch(how, activate_kernel<f16>, a);
    case Element::fp8: return launch(how, activate_kernel<fp8>, a);
    default: return launch(how, activate_kernel<bf16>, a);
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
