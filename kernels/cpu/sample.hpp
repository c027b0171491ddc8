#pragma once
// The sampler: the rule of tokenworks/backend/sampling.hpp on a row of logits in host memory, and the reference for every
// other backend. Precisely, for logits l (a masked token's is -infinity):
//   l += bias;  seen tokens: l = l > 0 ? l / r : l * r;  then  l -= in_output * frequency + (in_output > 0) * presence
//   temperature 0: the highest l.  Else w = exp((l - max l) / temperature), and of the tokens ordered by (l descending,
//   id ascending): top_k keeps the first k; top_p keeps a token while the weight before it is < top_p * (the weight that
//   top_k left), and always one; min_p keeps w >= min_p. The draw walks the kept tokens by ascending id: the first whose
//   running sum exceeds u * total, u uniform in [0, 1) with 53 bits from Philox. Sums are in double.
// One Sampler per thread: it owns scratch of the size of a row. Cuts are found by selection; nothing large is sorted.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.hpp"
#include "tokenworks/backend/sampling.hpp"

namespace tokenworks::kernels {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11).
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

// The draw of (seed, choice, position): counter {position low, position high, choice, 0}, key {seed low, seed high};
// 27 bits of the first word above 26 of the second.
double uniform(std::uint64_t seed, std::uint32_t choice, std::int64_t position);

class Sampler {
 public:
  explicit Sampler(const CpuOps& ops) : ops_(&ops) {}

  backend::Sampled sample(std::span<const float> logits, const backend::SampleRow& row);
  // The same with the uniform number given: for tests.
  backend::Sampled sample(std::span<const float> logits, const backend::SampleRow& row, double u);

  struct Kept {
    TokenId token;
    float weight, logit;
  };
  // What the filters left at the last draw that used any, by ascending id; for tests.
  const std::vector<Kept>& kept() const { return kept_; }

 private:
  std::span<const float> apply_rules(std::span<const float> logits, const backend::SampleRow& row);
  double weigh(std::span<const float> logits, float highest, float inverse_temperature);
  TokenId draw_from_all(double total, double u) const;
  TokenId draw_filtered(std::span<const float> logits, float highest, double total, double u,
                        const backend::SamplingParams& params);
  void collect(std::span<const float> logits, float highest, double total, const backend::SamplingParams& params);
  void add_logprobs(std::span<const float> raw, const backend::SamplingParams& params, backend::Sampled& out);

  const CpuOps* ops_;
  std::vector<float> changed_, weights_;
  std::vector<double> sums_;                         // of weights_, per 256 ids
  std::vector<Kept> kept_;
};

}  // namespace tokenworks::kernels
