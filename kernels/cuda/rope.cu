// Per-head norms, rotary embedding of q (in place) and k, and the write of k and v into the paged cache: one warp a head of a
// row, heads of q, then k, then v. A lane holds pairs of the head, so a rotation never leaves its lane.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// Where element d of (row, head) goes in the cache.
template <class T>
__device__ __forceinline__ T* slot_of(const RopeArgs& a, std::int32_t slot, std::int32_t head, bool values) {
  std::byte* block = a.kv.data + static_cast<std::size_t>(slot / 16) * a.kv.block_bytes + (values ? a.kv.value_offset : 0);
  return reinterpret_cast<T*>(block) +
         (static_cast<std::size_t>(head) * 16 + static_cast<std::size_t>(TW_PLANT(14) ? slot % 16 + 1 : slot % 16)) *
             static_cast<std::size_t>(kv_stride(a.shape.head_dim));
}

template <class T>
__global__ void __launch_bounds__(kThreads) rope_kernel(RopeArgs a) {
  const std::int32_t dim = a.shape.head_dim, half = a.dims / 2;
  const std::int32_t lane = static_cast<std::int32_t>(threadIdx.x % 32);
  const std::int32_t head = static_cast<std::int32_t>(blockIdx.y * kWarps + threadIdx.x / 32);
  const std::int32_t q_heads = a.shape.q_heads, kv_heads = a.shape.kv_heads;
  if (head >= q_heads + 2 * kv_heads) return;
  const std::int32_t row = static_cast<std::int32_t>(blockIdx.x);
  const std::int32_t slot = a.slots[row], position = a.positions[row];
  float* x = a.qkv + static_cast<std::size_t>(row) * static_cast<std::size_t>(a.shape.row_stride()) +
             static_cast<std::size_t>(head) * static_cast<std::size_t>(dim);
  if (head >= q_heads + kv_heads) {                  // a value: stored as it is
    if (slot < 0) return;
    T* to = slot_of<T>(a, slot, head - q_heads - kv_heads, true);
    for (std::int32_t d = lane; d < dim; d += 32) to[d] = from_float<T>(x[d] / a.kv.v_scale);
    return;
  }
  const bool key = head >= q_heads;
  const float* weight = key ? a.k_norm : a.q_norm;
  float factor = 1;
  if (weight != nullptr) {
    float squares = 0;
    for (std::int32_t d = lane; d < dim; d += 32) squares = fmaf(x[d], x[d], squares);
    factor = rsqrtf(warp_sum(squares) / static_cast<float>(dim) + a.epsilon);
  }
  const float* cosines = a.table + static_cast<std::size_t>(position) * static_cast<std::size_t>(a.dims);
  T* to = key && slot >= 0 ? slot_of<T>(a, slot, head - q_heads, false) : nullptr;
  const auto put = [&](std::int32_t d, float value) {
    if (!key) x[d] = value;
    else if (to != nullptr) to[d] = from_float<T>(value / a.kv.k_scale);
  };
  const auto take = [&](std::int32_t d) { return weight != nullptr ? x[d] * factor * weight[d] : x[d]; };
  for (std::int32_t i = lane; i < half; i += 32) {
    const std::int32_t d = a.interleaved ? 2 * i : i, e = a.interleaved ? 2 * i + 1 : i + (TW_PLANT(7) ? half + 1 : half);
    const float u = take(d), v = take(e), c = cosines[i], s = cosines[half + i];
    put(d, u * c - v * s);
    put(e, v * c + u * s);
  }
  for (std::int32_t d = a.dims + lane; d < dim; d += 32) put(d, take(d));
}

}  // namespace

void rope_and_store(Stream stream, const RopeArgs& a) {
  if (a.rows == 0) return;
  const unsigned heads = divide_up(a.shape.q_heads + 2 * a.shape.kv_heads, kWarps);
  const Launch how(stream, {static_cast<unsigned>(a.rows), heads}, kThreads);
  switch (a.kv.element) {
    case Element::f16: return launch(how, rope_kernel<f16>, a);
    case Element::fp8: return launch(how, rope_kernel<fp8>, a);
    default: return launch(how, rope_kernel<bf16>, a);
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
