#pragma once
// CostModel: how long a step takes, learnt while it runs:
//   ns = base + p * prefill tokens + d * decodes + k * context read by decodes + q * (prefill rows x context they read)
// Recursive least squares with forgetting (Haykin, Adaptive Filter Theory, ch. 10) on scaled features; an observation far
// off is clipped, so one stalled step does not move it. It only sizes steps and predicts waits: results never depend on it.
#include <array>
#include <cstdint>

#include "tokenworks/scheduler/scheduler.hpp"

namespace tokenworks::scheduler {

struct StepLoad {
  std::int64_t prefill = 0, decodes = 0, decode_kv = 0, prefill_pairs = 0;
};

class CostModel {
 public:
  explicit CostModel(const StepCost& start);

  double predict(const StepLoad& load) const;        // ns, > 0
  void observe(const StepLoad& load, std::int64_t ns);
  // How many prompt rows of a sequence whose context is `start` so far fit into `ns`.
  std::int64_t rows_within(double ns, std::int64_t start) const;
  double base() const { return coefficient(0); }
  double per_prefill() const { return coefficient(1); }
  double per_decode() const { return coefficient(2); }
  double per_decode_kv() const { return coefficient(3); }
  double per_prefill_pair() const { return coefficient(4); }
  std::int64_t observed() const { return observed_; }

 private:
  static constexpr std::size_t kTerms = 5;
  using Vector = std::array<double, kTerms>;

  static Vector features(const StepLoad& load);
  double coefficient(std::size_t i) const;           // ns per unit, never below a hundredth of its start

  Vector theta_, floor_;                             // per scaled feature
  std::array<Vector, kTerms> covariance_{};
  std::int64_t observed_ = 0;
};

}  // namespace tokenworks::scheduler
