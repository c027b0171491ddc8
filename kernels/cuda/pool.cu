// Rows of texts that are embedded, added up on the device: what comes to the host is one row a text. A row's norm is found by a
// block of its own; then a thread adds a column of a text, in the order of rows.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256;

struct PoolShared {
  float scratch[32];
};

__global__ void __launch_bounds__(kThreads) row_factor_kernel(PoolArgs a) {
  PoolShared& s = shared<PoolShared>();
  const float* x = a.rows + static_cast<std::size_t>(blockIdx.x) * static_cast<std::size_t>(a.columns);
  float squares = 0;
  for (auto c = static_cast<std::int32_t>(threadIdx.x); c < a.columns; c += kThreads) squares = fmaf(x[c], x[c], squares);
  const float factor = rsqrtf(block_reduce<false>(squares, s.scratch) / static_cast<float>(a.columns) + a.epsilon);
  if (TW_PLANT(26) || threadIdx.x == 0) a.factors[blockIdx.x] = factor;
}

__global__ void __launch_bounds__(kThreads) pool_kernel(PoolArgs a) {
  const auto c = static_cast<std::int32_t>(blockIdx.x * kThreads + threadIdx.x), text = static_cast<std::int32_t>(blockIdx.y);
  const auto columns = static_cast<std::size_t>(a.columns);
  if (c >= a.columns) return;
  float* const to = a.sums + static_cast<std::size_t>(text) * columns + static_cast<std::size_t>(c);
  float sum = a.further && !TW_PLANT(27) ? *to : 0.0f;
  const float weight = a.norm != nullptr ? a.norm[c] : 1.0f;
  for (std::int32_t i = 0; i < a.count; ++i) {
    if (TW_PLANT(28) ? a.into[i] > text : a.into[i] != text) continue;
    const float x = a.rows[static_cast<std::size_t>(i) * columns + static_cast<std::size_t>(c)];
    sum += a.norm != nullptr ? x * a.factors[i] * weight : x;
  }
  *to = sum;
}

}  // namespace

void pool(Stream stream, const PoolArgs& a) {
  if (a.texts == 0 || a.columns == 0) return;
  if (a.norm != nullptr && a.count > 0)
    launch(Launch(stream, {static_cast<unsigned>(a.count)}, kThreads, sizeof(PoolShared)), row_factor_kernel, a);
  launch(Launch(stream, {divide_up(a.columns, kThreads), static_cast<unsigned>(a.texts)}, kThreads), pool_kernel, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
