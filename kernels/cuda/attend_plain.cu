// Attention over the paged cache for heads of more than 128, which no tensor-core tile fits, and the plain statement of what
// the fast kernels compute: one warp a (row, query head), 32 positions at a time, softmax kept as (maximum, sum, output).
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kDims = 8;                             // of a lane: heads of up to 256

template <class T, class Out>
__global__ void __launch_bounds__(kThreads) attend_plain_kernel(AttendArgs a) {
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x % 32), dim = a.shape.head_dim;
  const std::int32_t head = static_cast<std::int32_t>(blockIdx.y * kWarps + threadIdx.x / 32);
  const std::int32_t row = static_cast<std::int32_t>(blockIdx.x);
  if (head >= a.shape.q_heads) return;
  Out* out = static_cast<Out*>(a.out.data) + static_cast<std::size_t>(row) * static_cast<std::size_t>(a.out.stride) +
             static_cast<std::size_t>(head) * static_cast<std::size_t>(dim);
  const std::int32_t number = a.row_sequence[row];
  if (number < 0) {
    for (std::int32_t d = lane; d < dim; d += 32) out[d] = from_float<Out>(0);
    return;
  }
  const SequenceRows sequence = a.sequences[number];
  const std::int32_t position = sequence.context - sequence.rows + row - sequence.row;
  const std::int32_t seen_from = position - a.shape.window + (TW_PLANT(22) ? 0 : 1);
  const std::int32_t from = a.shape.window > 0 && seen_from > 0 ? seen_from : 0;
  const std::int32_t kv_head = head / (a.shape.q_heads / a.shape.kv_heads);
  const float* q = a.qkv + static_cast<std::size_t>(row) * static_cast<std::size_t>(a.shape.row_stride()) +
                   static_cast<std::size_t>(head) * static_cast<std::size_t>(dim);
  const auto at = [&](std::int32_t p, bool values) {
    const std::byte* block = a.kv.data + static_cast<std::size_t>(a.tables[sequence.table + p / 16]) * a.kv.block_bytes +
                             (values ? a.kv.value_offset : 0);
    return reinterpret_cast<const T*>(block) +
           (static_cast<std::size_t>(kv_head) * 16 + static_cast<std::size_t>(p % 16)) * static_cast<std::size_t>(kv_stride(dim));
  };
  float highest = -__builtin_inff(), total = 0, o[kDims] = {};
  for (std::int32_t first = from; first <= position; first += 32) {
    const std::int32_t p = first + lane;
    const bool seen = TW_PLANT(13) ? p <= position + 1 && p < sequence.context : p <= position;
    float score = -__builtin_inff();
    if (seen) {
      const T* k = at(p, false);
      float dot = 0;
      for (std::int32_t d = 0; d < dim; ++d) dot = fmaf(q[d], to_float(k[d]), dot);
      score = dot * a.shape.scale * a.kv.k_scale;
      if (a.shape.soft_cap > 0) score = a.shape.soft_cap * tanhf(score / a.shape.soft_cap);
    }
    const float before = highest;
    highest = fmaxf(highest, warp_max(score));
    const float keep = __expf(before - highest), weight = seen ? __expf(score - highest) : 0;
    total = total * keep + warp_sum(weight);
#pragma unroll
    for (int i = 0; i < kDims; ++i) o[i] *= keep;
    const std::int32_t n = position - first + 1 < 32 ? position - first + 1 : 32;
    for (std::int32_t j = 0; j < n; ++j) {
      const float w = __shfl_sync(kAllLanes, weight, TW_PLANT(18) ? j + 1 : j);
      const T* v = at(first + j, true);
#pragma unroll
      for (int i = 0; i < kDims; ++i)
        if (lane + i * 32 < dim) o[i] = fmaf(w, to_float(v[lane + i * 32]), o[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kDims; ++i)
    if (lane + i * 32 < dim) out[lane + i * 32] = from_float<Out>(o[i] / total * a.kv.v_scale);
}

template <class T>
void launch_out(const Launch& how, const AttendArgs& a) {
  if (a.out.element == Element::f16) return launch(how, attend_plain_kernel<T, f16>, a);
  launch(how, attend_plain_kernel<T, bf16>, a);
}

}  // namespace

void attend_plain(Stream stream, const AttendArgs& a) {
  if (a.rows == 0) return;
  const Launch how(stream, {static_cast<unsigned>(a.rows), divide_up(a.shape.q_heads, kWarps)}, kThreads);
  switch (a.kv.element) {
    case Element::f16: return launch_out<f16>(how, a);
    case Element::fp8: return launch_out<fp8>(how, a);
    default: return launch_out<bf16>(how, a);
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
