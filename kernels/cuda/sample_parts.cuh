#pragma once
// The parts of sample.cu: order-preserving keys, the CPU tables' exponential, exact sums, reductions over a block of kThreads,
// and the candidates of a row near its top. All threads of the block call everything together unless said.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr std::int32_t kListMax = 4096;

// A weight and a sum of weights as integers: what two sums contain decides what they are, not their order.
struct Exact {
  unsigned long long high = 0, low = 0;              // units of 2^-44 and of 2^-88
  long long count = 0;
  __device__ __forceinline__ void add(float w) {     // w in [0, 1]: 24 bits of it, so both products are exact
    const double scaled = static_cast<double>(w) * 17592186044416.0;
    const auto whole = static_cast<unsigned long long>(scaled);
    high += whole;
    low += static_cast<unsigned long long>((scaled - static_cast<double>(whole)) * 17592186044416.0);
    ++count;
  }
  __device__ __forceinline__ double value() const {
    constexpr double kUnit = 1.0 / 17592186044416.0;
    return static_cast<double>(high) * kUnit + static_cast<double>(low) * kUnit * kUnit;
  }
};

struct Shared {
  unsigned long long high[kWarps], low[kWarps];
  long long count[kWarps];
  std::uint32_t keys[kWarps];
  float scratch[32];
  double before;
  std::int32_t found, listed;
  struct {
    std::int32_t ids[kListMax];
    std::uint32_t keys[kListMax];
    float weights[kListMax];
  } list;
};

// Bits in the order of the floats; -0 is 0.
__device__ __forceinline__ std::uint32_t key_of(float l) {
  const std::uint32_t bits = __float_as_uint(l + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// kernels/cpu/vec.hpp's exp<false>, operation by operation.
__device__ __forceinline__ float table_exp(float x) {
  const float low = -87.3f, clamped = fmaxf(low, fminf(88.3f, x));
  const int n = __float2int_rn(__fmul_rn(clamped, 1.44269504088896341f));
  const float nf = static_cast<float>(n);
  float r = __fadd_rn(__fmul_rn(nf, -0.693359375f), clamped);
  r = __fadd_rn(__fmul_rn(nf, 2.12194440e-4f), r);
  float p = 1.0f / 720;
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 120);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 24);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f / 6);
  p = __fadd_rn(__fmul_rn(p, r), 0.5f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  p = __fadd_rn(__fmul_rn(p, r), 1.0f);
  return x < low ? 0.0f : __uint_as_float(__float_as_uint(p) + (static_cast<std::uint32_t>(n) << 23));
}

struct Row {
  const float* l;
  std::int32_t vocab;
  float highest, inverse_temperature;
  std::int32_t listed;                               // candidates in the list; -1: the row itself is walked
  __device__ __forceinline__ float weight(std::int32_t t) const {
    return table_exp(__fmul_rn(__fsub_rn(l[t], highest), inverse_temperature));
  }
};

// What of a row is kept: above `key`, and at it the ids up to `id`.
struct Cut {
  std::uint32_t key = 0;
  std::int32_t id = 0x7FFFFFFF;
  __device__ __forceinline__ bool keeps(std::int32_t of_id, std::uint32_t of_key) const {
    return of_key > key || (of_key == key && of_id <= id);
  }
};

// f(id, key, weight) of every candidate with any weight, each by one thread.
template <class F>
__device__ __forceinline__ void visit(const Row& row, const Shared& s, F f) {
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  if (row.listed >= 0) {
    for (std::int32_t i = thread; i < row.listed; i += kThreads) f(s.list.ids[i], s.list.keys[i], s.list.weights[i]);
    return;
  }
  for (std::int32_t t = thread; t < row.vocab; t += kThreads) {
    const float w = row.weight(t);
    if (w > 0) f(t, key_of(row.l[t]), w);
  }
}

__device__ __forceinline__ unsigned long long shuffle64(unsigned long long v, int lanes) {
  const std::uint32_t low = __shfl_xor_sync(kAllLanes, static_cast<std::uint32_t>(v), lanes);
  const std::uint32_t high = __shfl_xor_sync(kAllLanes, static_cast<std::uint32_t>(v >> 32), lanes);
  return static_cast<unsigned long long>(high) << 32 | low;
}

__device__ __forceinline__ Exact block_sum(Exact v, Shared& s) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    v.high += shuffle64(v.high, lanes);
    v.low += shuffle64(v.low, lanes);
    v.count += __shfl_xor_sync(kAllLanes, static_cast<std::int32_t>(v.count), lanes);
  }
  __syncthreads();                                   // what the call before left has been read
  if (threadIdx.x % 32 == 0) {
    s.high[threadIdx.x / 32] = v.high;
    s.low[threadIdx.x / 32] = v.low;
    s.count[threadIdx.x / 32] = v.count;
  }
  __syncthreads();
  Exact all;
  for (int w = 0; w < kWarps; ++w) {
    all.high += s.high[w];
    all.low += s.low[w];
    all.count += s.count[w];
  }
  return all;
}

__device__ __forceinline__ std::uint32_t block_max(std::uint32_t v, Shared& s) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const std::uint32_t other = __shfl_xor_sync(kAllLanes, v, lanes);
    v = other > v ? other : v;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) s.keys[threadIdx.x / 32] = v;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) v = s.keys[w] > v ? s.keys[w] : v;
  return v;
}

// The lowest id of the highest; -1 with a NaN anywhere.
__device__ __forceinline__ std::int32_t argmax(const float* l, std::int32_t vocab, Shared& s) {
  float best = -__builtin_inff();
  std::int32_t id = 0x7FFFFFFF;
  bool broken = false;
  for (std::int32_t t = static_cast<std::int32_t>(threadIdx.x); t < vocab; t += kThreads) {
    const float v = l[t];
    broken = broken || v != v;
    if (v > best || id == 0x7FFFFFFF) best = v, id = t;
  }
  if (__syncthreads_or(broken)) return -1;
  const float top = block_reduce<true>(best, s.scratch);
  const std::uint32_t lowest = block_max(best == top ? ~static_cast<std::uint32_t>(id) : 0u, s);
  return static_cast<std::int32_t>(~lowest);
}

// Sums of weights over 256 ids each, in sixteen lanes and by the tree of CpuOps::exponentials; their total, in order.
__device__ __forceinline__ double weigh(const Row& row, Shared& s, double* sums) {
  const std::int32_t blocks = (row.vocab + 255) / 256, lane = static_cast<std::int32_t>(threadIdx.x % 32);
  for (std::int32_t pair = static_cast<std::int32_t>(threadIdx.x / 32) * 2; pair < blocks; pair += kWarps * 2) {
    const std::int32_t block = pair + lane / 16;
    float sum = 0;
    for (std::int32_t i = 0; i < 16; ++i) {
      const std::int32_t t = block * 256 + i * 16 + lane % 16;
      sum = __fadd_rn(sum, t < row.vocab ? row.weight(t) : 0.0f);
    }
    for (int lanes = 8; lanes > 0; lanes /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, lanes));
    if (lane % 16 == 0 && block < blocks) sums[block] = static_cast<double>(sum);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0;
    for (std::int32_t b = 0; b < blocks; ++b) total += sums[b];
    s.before = total;
  }
  __syncthreads();
  const double total = s.before;
  __syncthreads();
  return total;
}

// Fills the list with what the filters can keep at most: logits within a reach of the top, further until they are enough.
// When they do not fit, the row is walked instead.
__device__ __forceinline__ void list_candidates(Row& row, Shared& s, const SampleSpec& spec, double total) {
  const bool only_min_p = spec.top_k <= 0 && spec.top_p >= 1.0f;
  row.listed = -1;
  for (float reach = 8.0f; reach <= 64.0f; reach *= 2) {
    const float least = row.highest - reach / row.inverse_temperature;
    if (threadIdx.x == 0) s.listed = 0;
    __syncthreads();
    Exact sum;
    for (std::int32_t t = static_cast<std::int32_t>(threadIdx.x); t < row.vocab; t += kThreads) {
      const float l = row.l[t];
      if (!(l >= least)) continue;
      const float w = row.weight(t);
      if (w <= 0) continue;
      sum.add(w);
      const std::int32_t at = atomicAdd(&s.listed, 1);
      if (at >= kListMax) continue;
      s.list.ids[at] = t;
      s.list.keys[at] = key_of(l);
      s.list.weights[at] = w;
    }
    const Exact all = block_sum(sum, s);
    if (all.count > kListMax) return;
    if (only_min_p ? spec.min_p > expf(1.0f - reach) : spec.top_k > 0 ? all.count >= spec.top_k
                                                                     : all.value() >= static_cast<double>(spec.top_p) * total) {
      row.listed = static_cast<std::int32_t>(all.count);
      return;
    }
    __syncthreads();
  }
}

// Philox4x32-10 (Salmon et al., SC'11) as kernels/cpu/sample.cpp counts it: 53 bits of (seed, choice, position).
__device__ __forceinline__ double uniform(const SampleSpec& spec) {
  std::uint32_t c[4] = {spec.position[0], spec.position[1], TW_PLANT(205) ? 0u : spec.choice, 0}, k[2] = {spec.seed[0], spec.seed[1]};
  for (int round = 0; round < 10; ++round) {
    const std::uint32_t a_high = __umulhi(0xD2511F53u, c[0]), a_low = 0xD2511F53u * c[0];
    const std::uint32_t b_high = __umulhi(0xCD9E8D57u, c[2]), b_low = 0xCD9E8D57u * c[2];
    const std::uint32_t next[4] = {b_high ^ c[1] ^ k[0], b_low, a_high ^ c[3] ^ k[1], a_low};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return (static_cast<double>(c[0] >> 5) * 67108864.0 + static_cast<double>(c[1] >> 6)) / 9007199254740992.0;
}

}  // namespace
}  // namespace tokenworks::kernels::cuda::TW_TARGET
