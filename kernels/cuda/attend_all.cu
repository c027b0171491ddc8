// Attention of an encoder: every row of a text sees all of it; keys and values are the step's own rows, in fp32, no cache and no
// mask. A block takes 32 rows of the step and one head; the keys and values of each text it touches pass through shared memory,
// 32 at a time; a warp owns four rows, their softmax kept as (maximum, sum, output). Order over keys is ascending, so that a
// text's result depends neither on the texts beside it nor on where its rows stand.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 256, kOwn = 4, kRows = kThreads / 32 * kOwn, kKeys = 32;

// kDims: of a lane, heads of up to 32 times as much.
template <int kDims, class Out>
__global__ void __launch_bounds__(kThreads, 2) attend_all_kernel(AttendAllArgs a) {
  const auto thread = static_cast<std::int32_t>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const std::int32_t dim = a.shape.head_dim, first = static_cast<std::int32_t>(blockIdx.x) * kRows, head = static_cast<std::int32_t>(blockIdx.y);
  const std::int32_t kv_head = head / (a.shape.q_heads / a.shape.kv_heads), left = a.rows - first, rows = left < kRows ? left : kRows;
  const auto stride = static_cast<std::size_t>(a.shape.row_stride());
  float* const queries = &shared<float>();           // [kRows, dim]
  float* const keys = queries + kRows * dim;         // [kKeys, dim + 1]: lanes read down a column
  float* const values = keys + kKeys * (dim + 1);    // [kKeys, dim]
  for (std::int32_t i = thread; i < kRows * dim; i += kThreads)
    queries[i] = i / dim < rows ? a.qkv[static_cast<std::size_t>(first + i / dim) * stride + static_cast<std::size_t>(head * dim + i % dim)] : 0.0f;

  std::int32_t mine[kOwn];                           // which text a row belongs to
  float highest[kOwn], total[kOwn], o[kOwn][kDims];
#pragma unroll
  for (int r = 0; r < kOwn; ++r) {
    mine[r] = warp * kOwn + r < rows ? a.row_sequence[first + warp * kOwn + r] : -1;
    highest[r] = -__builtin_inff();
    total[r] = 0;
#pragma unroll
    for (int i = 0; i < kDims; ++i) o[r][i] = 0;
  }
  const std::int32_t text = a.row_sequence[first];   // the first of this block's; padding stands behind all texts
  for (std::int32_t s = text < 0 ? a.num_sequences : text; s < a.num_sequences; ++s) {
    const SequenceRows q = a.sequences[s];
    if (q.row >= first + rows || q.context == 0) break;
    for (std::int32_t tile = 0; tile < q.rows; tile += kKeys) {
      const std::int32_t n = q.rows - tile < kKeys ? q.rows - tile : kKeys;
      if (!TW_PLANT(32)) __syncthreads();            // the tile before has been read
      for (std::int32_t i = thread; i < n * dim; i += kThreads) {
        const std::int32_t j = i / dim, d = i % dim;
        const float* k = a.qkv + static_cast<std::size_t>(q.row + tile + j) * stride + static_cast<std::size_t>((a.shape.q_heads + kv_head) * dim + d);
        keys[j * (dim + 1) + d] = *k;
        values[j * dim + d] = k[a.shape.kv_heads * dim];
      }
      __syncthreads();
      float dot[kOwn] = {};
      if (lane < n)
        for (std::int32_t d = 0; d < dim; ++d) {
          const float k = keys[lane * (dim + 1) + d];
#pragma unroll
          for (int r = 0; r < kOwn; ++r) dot[r] = fmaf(queries[(warp * kOwn + r) * dim + d], k, dot[r]);
        }
#pragma unroll
      for (int r = 0; r < kOwn; ++r) {
        if (!TW_PLANT(33) && mine[r] != s) continue; // the same for all lanes
        float score = -__builtin_inff();
        if (lane < n) {
          score = dot[r] * a.shape.scale;
          if (a.shape.soft_cap > 0) score = a.shape.soft_cap * tanhf(score / a.shape.soft_cap);
        }
        const float before = highest[r];
        highest[r] = fmaxf(before, warp_max(score));
        const float keep = __expf(before - highest[r]), weight = lane < n ? __expf(score - highest[r]) : 0;
        total[r] = (TW_PLANT(34) ? total[r] : total[r] * keep) + warp_sum(weight);
#pragma unroll
        for (int i = 0; i < kDims; ++i) o[r][i] *= keep;
        for (std::int32_t j = 0; j < n; ++j) {
          const float w = __shfl_sync(kAllLanes, weight, j);
#pragma unroll
          for (int i = 0; i < kDims; ++i)
            if (lane + i * 32 < dim) o[r][i] = fmaf(w, values[j * dim + lane + i * 32], o[r][i]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kOwn; ++r) {
    if (warp * kOwn + r >= rows) continue;
    Out* out = static_cast<Out*>(a.out.data) + static_cast<std::size_t>(first + warp * kOwn + r) * static_cast<std::size_t>(a.out.stride) +
               static_cast<std::size_t>(head * dim);
#pragma unroll
    for (int i = 0; i < kDims; ++i)
      if (lane + i * 32 < dim) out[lane + i * 32] = from_float<Out>(mine[r] < 0 ? 0.0f : o[r][i] / total[r]);
  }
}

template <int kDims>
void launch_out(const Launch& how, const AttendAllArgs& a) {
  if (a.out.element == Element::f16) return launch(how, attend_all_kernel<kDims, f16>, a);
  launch(how, attend_all_kernel<kDims, bf16>, a);
}

}  // namespace

void attend_all(Stream stream, const AttendAllArgs& a) {
  if (a.rows == 0) return;
  const auto dim = static_cast<std::size_t>(a.shape.head_dim);
  const Launch how(stream, {divide_up(a.rows, kRows), static_cast<unsigned>(a.shape.q_heads)}, kThreads,
                   (kRows * dim + kKeys * (2 * dim + 1)) * sizeof(float));
  if (dim <= 32) return launch_out<1>(how, a);
  if (dim <= 64) return launch_out<2>(how, a);
  if (dim <= 128) return launch_out<4>(how, a);
  launch_out<8>(how, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
