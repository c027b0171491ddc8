// Sampling on the device: the rule of kernels/cpu/sample.hpp and its choices, one block a row. Weights are the CPU tables' own
// exponential, step by step and unfused, and their sums over 256 ids have the CPU's tree, so that a draw from all tokens is the
// CPU's bit for bit. Cuts (top_k, top_p) and draws after a filter search a threshold by halving, over exact sums: a weight is a
// pair of integers, units of 2^-44 and 2^-88, whose sums have no order; the CPU's double sums differ from them by some 1e-16
// of the total. Logits near the top are listed in shared memory first; rows too flat for the list are walked whole.
#include "kernels/cuda/sample_parts.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {
namespace {

// Mask, bias and penalties into the row's scratch. Tokens of `seen` are distinct; a bias may name a token twice.
__device__ __forceinline__ void apply_rules(const SampleArgs& a, const SampleSpec& spec, const float* raw, float* changed) {
  const auto thread = static_cast<std::int32_t>(threadIdx.x);
  for (std::int32_t t = thread; t < a.vocab; t += kThreads) {
    const bool allowed = spec.mask < 0 || (a.lists[spec.mask + t / 32] >> (TW_PLANT(204) ? (t + 1) % 32 : t % 32) & 1u) != 0;
    changed[t] = allowed ? raw[t] : -__builtin_inff();
  }
  if (!TW_PLANT(201)) __syncthreads();
  const std::uint32_t* bias = a.lists + spec.bias;
  for (std::int32_t i = thread; i < spec.bias_count; i += kThreads) {
    const auto token = static_cast<std::int32_t>(bias[2 * i]);
    if (token < 0 || token >= a.vocab) continue;
    bool first = true;
    for (std::int32_t j = 0; j < i && first; ++j) first = static_cast<std::int32_t>(bias[2 * j]) != token;
    for (std::int32_t j = i; j < spec.bias_count && first; ++j)
      if (static_cast<std::int32_t>(bias[2 * j]) == token) changed[token] += __uint_as_float(bias[2 * j + 1]);
  }
  __syncthreads();
  const std::uint32_t* seen = a.lists + spec.seen;
  for (std::int32_t i = thread; i < spec.seen_count; i += kThreads) {
    const auto token = static_cast<std::int32_t>(seen[2 * i]), times = static_cast<std::int32_t>(seen[2 * i + 1]);
    if (token < 0 || token >= a.vocab) continue;
    float l = changed[token];
    l = l > 0 ? l / spec.repetition : l * spec.repetition;
    if (times > 0) l = __fsub_rn(l, __fadd_rn(__fmul_rn(static_cast<float>(times), spec.frequency), spec.presence));
    changed[token] = l;
  }
  __syncthreads();
}

// Walks all ids by their running sum, as Sampler::draw_from_all does.
__device__ __forceinline__ std::int32_t draw_from_all(const Row& row, Shared& s, const double* sums, double total, double u) {
  const std::int32_t blocks = (row.vocab + 255) / 256;
  const double target = u * total;
  if (threadIdx.x == 0) {
    std::int32_t block = 0;
    double sum = 0;
    while (block + 1 < blocks && sum + sums[block] <= target) sum += sums[block++];
    s.found = block;
    s.before = sum;
  }
  __syncthreads();
  const std::int32_t begin = s.found * 256, end = begin + 256 < row.vocab ? begin + 256 : row.vocab;
  const std::int32_t mine = begin + static_cast<std::int32_t>(threadIdx.x);
  if (mine < end) s.list.weights[mine - begin] = row.weight(mine);
  if (!TW_PLANT(202)) __syncthreads();
  if (threadIdx.x == 0) {
    double sum = s.before;
    std::int32_t t = begin;
    while (t < end && (sum += static_cast<double>(s.list.weights[t - begin])) <= target) ++t;
    // A block's sum was rounded up past its own tokens: the last token with any weight before the end of the block.
    if (t == end) {
      while (t > 0 && row.weight(t - 1) <= 0) --t;
      --t;
    }
    s.found = t;
  }
  __syncthreads();
  return s.found;
}

// The least key whose elements and all above reach `enough`; every element counts when none does.
template <class Enough>
__device__ __forceinline__ std::uint32_t search_key(const Row& row, Shared& s, const Cut& within, Enough enough) {
  std::uint32_t low = 0, high = key_of(row.highest);           // enough(low) holds or everything is kept; highest is kept always
  while (low < high) {
    const std::uint32_t middle = high - (high - low) / 2;      // > low
    Exact sum;
    visit(row, s, [&](std::int32_t id, std::uint32_t key, float w) {
      if (key >= middle && within.keeps(id, key)) sum.add(w);
    });
    if (enough(block_sum(sum, s))) low = middle;
    else high = middle - 1;
  }
  return low;
}

// The cut at `key` that keeps the first `ties` of the elements standing exactly there.
__device__ __forceinline__ Cut cut_at(const Row& row, Shared& s, const Cut& within, std::uint32_t key, std::int64_t ties) {
  std::int32_t low = 0, high = row.vocab - 1;        // the least id with `ties` elements up to it
  while (low < high) {
    const std::int32_t middle = low + (high - low) / 2;
    Exact sum;
    visit(row, s, [&](std::int32_t id, std::uint32_t k, float w) {
      if (k == key && id <= middle && within.keeps(id, k)) sum.add(w);
    });
    if (block_sum(sum, s).count >= ties) high = middle;
    else low = middle + 1;
  }
  return {key, TW_PLANT(203) ? low - 1 : low};
}

__device__ __forceinline__ Exact sum_above(const Row& row, Shared& s, const Cut& within, std::uint32_t key, bool also_at) {
  Exact sum;
  visit(row, s, [&](std::int32_t id, std::uint32_t k, float w) {
    if ((k > key || (also_at && k == key)) && within.keeps(id, k)) sum.add(w);
  });
  return block_sum(sum, s);
}

// A draw over what top_k, top_p and min_p leave, by ascending id.
__device__ __forceinline__ std::int32_t draw_filtered(Row& row, Shared& s, const SampleSpec& spec, double total, double u) {
  list_candidates(row, s, spec, total);
  Cut cut;
  if (spec.top_k > 0) {
    const auto k = static_cast<std::int64_t>(spec.top_k);
    const std::uint32_t key = search_key(row, s, cut, [&](const Exact& e) { return e.count >= k; });
    const std::int64_t above = sum_above(row, s, cut, key, false).count;
    if (sum_above(row, s, cut, key, true).count > k) cut = cut_at(row, s, cut, key, k - above);
    else cut = {key, row.vocab};
  }
  if (spec.top_p < 1.0f) {
    if (spec.top_k > 0) total = sum_above(row, s, cut, 0, true).value();
    const double target = static_cast<double>(spec.top_p) * total;
    const std::uint32_t key = search_key(row, s, cut, [&](const Exact& e) { return e.value() >= target; });
    const Exact above = sum_above(row, s, cut, key, false), with = sum_above(row, s, cut, key, true);
    const std::int64_t there = with.count - above.count;
    // Elements at the cut weigh the same; those that the target has not been reached before are kept.
    const double each = (with.value() - above.value()) / static_cast<double>(there > 0 ? there : 1);
    std::int64_t ties = 1;
    if (each > 0 && above.value() + each < target) {
      ties = static_cast<std::int64_t>((target - above.value()) / each);
      while (ties > 1 && above.value() + static_cast<double>(ties - 1) * each >= target) --ties;
      while (ties < there && above.value() + static_cast<double>(ties) * each < target) ++ties;
    }
    if (ties < there) cut = cut_at(row, s, cut, key, ties);
    else if (key > cut.key) cut = {key, row.vocab};
  }
  const float least = spec.min_p;
  const auto kept = [&](std::int32_t id, std::uint32_t key, float w) { return cut.keeps(id, key) && (least <= 0 || w >= least); };
  Exact all;
  visit(row, s, [&](std::int32_t id, std::uint32_t key, float w) {
    if (kept(id, key, w)) all.add(w);
  });
  const double target = u * block_sum(all, s).value();
  std::int32_t low = 0, high = row.vocab - 1;        // the least id whose running sum exceeds the target
  while (low < high) {
    const std::int32_t middle = low + (high - low) / 2;
    Exact sum;
    visit(row, s, [&](std::int32_t id, std::uint32_t key, float w) {
      if (id <= middle && kept(id, key, w)) sum.add(w);
    });
    if (block_sum(sum, s).value() > target) high = middle;
    else low = middle + 1;
  }
  return low;
}

// The chosen token's logprob and the likeliest, over the raw logits.
__device__ __forceinline__ void add_logprobs(const SampleArgs& a, const SampleSpec& spec, const float* raw, std::int32_t token,
                                             Shared& s, double* sums) {
  const auto number = static_cast<std::size_t>(blockIdx.x);
  TopLogprob* top = a.top + number * static_cast<std::size_t>(a.top_max);
  Row row{raw, a.vocab, 0, 1.0f, -1};
  const std::int32_t best = argmax(raw, a.vocab, s);
  if (best < 0) {                                    // a NaN under the mask: no normaliser
    if (threadIdx.x == 0) {
      a.logprobs[number] = 0;
      if (a.top_max > 0) top[0] = {-1, 0};
    }
    return;
  }
  row.highest = raw[best];
  const double normaliser = static_cast<double>(row.highest) + log(weigh(row, s, sums));
  if (threadIdx.x == 0) a.logprobs[number] = static_cast<float>(static_cast<double>(raw[token]) - normaliser);
  const std::int32_t wanted = spec.top_logprobs < a.vocab ? spec.top_logprobs : a.vocab;
  std::uint64_t last = ~std::uint64_t{0};            // (key, complement of the id): descending order of both
  for (std::int32_t i = 0; i < wanted; ++i) {
    std::uint32_t key = 0;
    for (std::int32_t t = static_cast<std::int32_t>(threadIdx.x); t < a.vocab; t += kThreads) {
      const std::uint32_t k = key_of(raw[t]);
      if (k > key && (std::uint64_t{k} << 32 | ~static_cast<std::uint32_t>(t)) < last) key = k;
    }
    key = block_max(key, s);
    std::uint32_t id = 0;                            // complement: the lowest id is the largest
    for (std::int32_t t = static_cast<std::int32_t>(threadIdx.x); t < a.vocab; t += kThreads) {
      const std::uint64_t both = std::uint64_t{key_of(raw[t])} << 32 | ~static_cast<std::uint32_t>(t);
      if (both >> 32 == key && both < last && static_cast<std::uint32_t>(both) > id) id = static_cast<std::uint32_t>(both);
    }
    id = block_max(id, s);
    last = std::uint64_t{key} << 32 | id;
    const auto chosen = static_cast<std::int32_t>(~id);
    if (threadIdx.x == 0) top[i] = {chosen, static_cast<float>(static_cast<double>(raw[chosen]) - normaliser)};
  }
  if (threadIdx.x == 0 && wanted >= 0 && wanted < a.top_max) top[wanted] = {-1, 0};
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleArgs a) {
  Shared& s = shared<Shared>();
  auto* const sums = reinterpret_cast<double*>(&s + 1);        // [ceil(vocab / 256)], what the launch gave beyond Shared
  const auto number = static_cast<std::size_t>(blockIdx.x);
  const SampleSpec spec = a.specs[number];
  const float* const raw = a.logits + number * static_cast<std::size_t>(a.vocab);
  const float* l = raw;
  if (spec.rules != 0) {
    float* const changed = a.changed + static_cast<std::size_t>(spec.changed_row) * static_cast<std::size_t>(a.vocab);
    apply_rules(a, spec, raw, changed);
    l = changed;
  }
  std::int32_t token = argmax(l, a.vocab, s);
  if (token >= 0 && !(fabsf(l[token]) < __builtin_inff())) token = -1;
  if (token >= 0 && spec.greedy == 0) {
    Row row{l, a.vocab, l[token], spec.inverse_temperature, -1};
    const double total = weigh(row, s, sums);
    const double u = uniform(spec);
    const bool all = spec.top_k <= 0 && spec.top_p >= 1.0f && spec.min_p <= 0;
    token = all ? draw_from_all(row, s, sums, total, u) : draw_filtered(row, s, spec, total, u);
  }
  if (threadIdx.x == 0) {
    a.tokens[number] = token;
    if (token < 0 || spec.top_logprobs < 0) a.logprobs[number] = 0;
    if (a.top_max > 0 && (token < 0 || spec.top_logprobs <= 0)) a.top[number * static_cast<std::size_t>(a.top_max)] = {-1, 0};
  }
  if (token >= 0 && spec.top_logprobs >= 0) add_logprobs(a, spec, raw, token, s, sums);
}

}  // namespace

void sample(Stream stream, const SampleArgs& a) {
  if (a.rows == 0) return;
  const std::size_t sums = static_cast<std::size_t>((a.vocab + 255) / 256) * sizeof(double);
  launch(Launch(stream, {static_cast<unsigned>(a.rows)}, kThreads, sizeof(Shared) + sums), sample_kernel, a);
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
