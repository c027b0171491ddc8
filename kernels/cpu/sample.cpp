#include "kernels/cpu/sample.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace tokenworks::kernels {
namespace {

using backend::Sampled;
using backend::SampleRow;
using backend::SamplingParams;
using Kept = Sampler::Kept;

constexpr float kMasked = -std::numeric_limits<float>::infinity();
constexpr std::size_t kSumIds = 256;                 // of one entry of sums_ (CpuOps::exponentials)

bool better(const Kept& a, const Kept& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }

// The length of the shortest best prefix whose weight reaches `target`, at least 1, leaving that prefix in front: a
// selection by halves, so that only a handful of tokens next to the cut is ever sorted.
std::size_t cut_by_weight(std::vector<Kept>& kept, double target) {
  std::size_t low = 0, high = kept.size();
  double before = 0;                                 // weight of [0, low), all better than what follows
  while (high - low > 32) {
    const std::size_t middle = low + (high - low) / 2;
    std::nth_element(kept.begin() + static_cast<std::ptrdiff_t>(low),
                     kept.begin() + static_cast<std::ptrdiff_t>(middle),
                     kept.begin() + static_cast<std::ptrdiff_t>(high), better);
    double half = 0;
    for (std::size_t i = low; i < middle; ++i) half += static_cast<double>(kept[i].weight);
    if (before + half >= target) {
      high = middle;
    } else {
      before += half;
      low = middle;
    }
  }
  std::sort(kept.begin() + static_cast<std::ptrdiff_t>(low), kept.begin() + static_cast<std::ptrdiff_t>(high), better);
  std::size_t n = low;
  while (n < high && (n == 0 || before < target)) before += static_cast<double>(kept[n++].weight);
  return n;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * c[0], b = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;                           // the golden ratio and sqrt(3) - 1
    key[1] += 0xBB67AE85u;
  }
  return c;
}

double uniform(std::uint64_t seed, std::uint32_t choice, std::int64_t position) {
  const auto p = static_cast<std::uint64_t>(position);
  const auto words = philox({static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(p >> 32), choice, 0},
                            {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  return (static_cast<double>(words[0] >> 5) * 67108864.0 + static_cast<double>(words[1] >> 6)) * 0x1p-53;
}

// The row after mask, bias and penalties: `logits` itself when none is asked for.
std::span<const float> Sampler::apply_rules(std::span<const float> logits, const SampleRow& row) {
  const SamplingParams& p = *row.params;
  const bool penalties = !row.seen.empty() &&
                         (p.repetition_penalty != 1.0f || p.presence_penalty != 0.0f || p.frequency_penalty != 0.0f);
  if (row.mask == nullptr && row.bias.empty() && !penalties) return logits;
  changed_.assign(logits.begin(), logits.end());
  if (row.mask != nullptr) {
    for (std::size_t word = 0; word * 32 < changed_.size(); ++word) {
      if (row.mask[word] == 0xFFFFFFFFu) continue;
      const std::size_t end = std::min<std::size_t>(32, changed_.size() - word * 32);
      for (std::size_t bit = 0; bit < end; ++bit)
        if ((row.mask[word] >> bit & 1u) == 0) changed_[word * 32 + bit] = kMasked;
    }
  }
  const auto known = [&](TokenId t) { return t >= 0 && static_cast<std::size_t>(t) < changed_.size(); };
  for (const backend::TokenBias& b : row.bias)
    if (known(b.token)) changed_[static_cast<std::size_t>(b.token)] += b.bias;
  if (!penalties) return changed_;
  for (const backend::TokenCount& seen : row.seen) {
    if (!known(seen.token)) continue;
    float& l = changed_[static_cast<std::size_t>(seen.token)];
    l = l > 0 ? l / p.repetition_penalty : l * p.repetition_penalty;
    if (seen.in_output > 0) l -= static_cast<float>(seen.in_output) * p.frequency_penalty + p.presence_penalty;
  }
  return changed_;
}

double Sampler::weigh(std::span<const float> logits, float highest, float inverse_temperature) {
  weights_.resize(logits.size());
  sums_.resize((logits.size() + kSumIds - 1) / kSumIds);
  ops_->exponentials(logits.data(), static_cast<std::int32_t>(logits.size()), highest, inverse_temperature,
                     weights_.data(), sums_.data());
  double total = 0;
  for (const double s : sums_) total += s;
  return total;
}

TokenId Sampler::draw_from_all(double total, double u) const {
  const double target = u * total;
  std::size_t block = 0;
  double sum = 0;
  while (block + 1 < sums_.size() && sum + sums_[block] <= target) sum += sums_[block++];
  const std::size_t end = std::min(weights_.size(), (block + 1) * kSumIds);
  std::size_t t = block * kSumIds;
  while (t < end && (sum += static_cast<double>(weights_[t])) <= target) ++t;
  if (t < end) return static_cast<TokenId>(t);
  // A block's sum was rounded up past its own tokens: the last token with any weight before the end of the block.
  while (t > 0 && weights_[t - 1] <= 0) --t;
  return static_cast<TokenId>(t) - 1;
}

// Candidates into kept_: a prefix of the order that holds everything the filters can keep. Logits near the top first.
void Sampler::collect(std::span<const float> logits, float highest, double total, const SamplingParams& p) {
  const bool only_min_p = p.top_k <= 0 && p.top_p >= 1.0f;
  for (float reach = 8.0f;; reach *= 2) {
    const bool everything = reach > 64.0f;
    const float least = highest - reach * p.temperature;
    kept_.clear();
    double weight = 0;
    for (std::size_t t = 0; t < logits.size(); ++t) {
      if (logits[t] < least && !everything) continue;
      if (weights_[t] <= 0 || (only_min_p && weights_[t] < p.min_p)) continue;
      kept_.push_back({static_cast<TokenId>(t), weights_[t], logits[t]});
      weight += static_cast<double>(weights_[t]);
    }
    if (everything) return;
    if (only_min_p ? p.min_p > std::exp(-reach + 1.0f)
                   : p.top_k > 0 ? kept_.size() >= static_cast<std::size_t>(p.top_k)
                                 : weight >= static_cast<double>(p.top_p) * total)
      return;
  }
}

TokenId Sampler::draw_filtered(std::span<const float> logits, float highest, double total, double u,
                               const SamplingParams& p) {
  collect(logits, highest, total, p);
  if (p.top_k > 0 && kept_.size() > static_cast<std::size_t>(p.top_k)) {
    std::nth_element(kept_.begin(), kept_.begin() + p.top_k, kept_.end(), better);
    kept_.resize(static_cast<std::size_t>(p.top_k));
  }
  if (p.top_p < 1.0f) {
    if (p.top_k > 0) {
      total = 0;
      for (const Kept& k : kept_) total += static_cast<double>(k.weight);
    }
    kept_.resize(cut_by_weight(kept_, static_cast<double>(p.top_p) * total));
  }
  if (p.min_p > 0) std::erase_if(kept_, [&](const Kept& k) { return k.weight < p.min_p; });
  std::sort(kept_.begin(), kept_.end(), [](const Kept& a, const Kept& b) { return a.token < b.token; });
  double sum = 0;
  for (const Kept& k : kept_) sum += static_cast<double>(k.weight);
  const double target = u * sum;
  sum = 0;
  for (const Kept& k : kept_) {
    sum += static_cast<double>(k.weight);
    if (sum > target) return k.token;
  }
  return kept_.empty() ? -1 : kept_.back().token;
}

void Sampler::add_logprobs(std::span<const float> raw, const SamplingParams& params, Sampled& out) {
  const std::int32_t best = ops_->argmax(raw.data(), static_cast<std::int32_t>(raw.size()));
  if (best < 0) return;
  const float highest = raw[static_cast<std::size_t>(best)];
  const double normaliser = static_cast<double>(highest) + std::log(weigh(raw, highest, 1.0f));
  const auto logprob = [&](TokenId t) {
    return static_cast<float>(static_cast<double>(raw[static_cast<std::size_t>(t)]) - normaliser);
  };
  out.logprob = logprob(out.token);
  const std::size_t wanted = std::min(raw.size(), static_cast<std::size_t>(params.top_logprobs));
  if (wanted == 0) return;
  // The best so far, in order; most tokens fail the comparison with the last of them.
  std::vector<Kept> top;
  top.reserve(wanted + 1);
  for (std::size_t t = 0; t < raw.size(); ++t) {
    const Kept candidate{static_cast<TokenId>(t), 0, raw[t]};
    if (top.size() == wanted && !better(candidate, top.back())) continue;
    top.insert(std::upper_bound(top.begin(), top.end(), candidate, better), candidate);
    if (top.size() > wanted) top.pop_back();
  }
  for (const Kept& k : top) out.top.push_back({k.token, logprob(k.token)});
}

Sampled Sampler::sample(std::span<const float> logits, const SampleRow& row) {
  return sample(logits, row, uniform(row.params->seed, row.choice, row.position));
}

Sampled Sampler::sample(std::span<const float> logits, const SampleRow& row, double u) {
  const SamplingParams& p = *row.params;
  Sampled out;
  kept_.clear();
  const std::span<const float> l = apply_rules(logits, row);
  const std::int32_t best = ops_->argmax(l.data(), static_cast<std::int32_t>(l.size()));
  if (best < 0 || !std::isfinite(l[static_cast<std::size_t>(best)])) return out;
  const float inverse = 1.0f / p.temperature;
  if (!(p.temperature > 0) || !std::isfinite(inverse)) {
    out.token = best;
  } else {
    const float highest = l[static_cast<std::size_t>(best)];
    const double total = weigh(l, highest, inverse);
    const bool all = p.top_k <= 0 && p.top_p >= 1.0f && p.min_p <= 0;
    out.token = all ? draw_from_all(total, u) : draw_filtered(l, highest, total, u, p);
  }
  if (out.token >= 0 && p.top_logprobs >= 0) add_logprobs(logits, p, out);
  return out;
}

}  // namespace tokenworks::kernels
