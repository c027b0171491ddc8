#include "scheduler/cost_model.hpp"

#include <algorithm>
#include <cmath>

namespace tokenworks::scheduler {
namespace {

constexpr std::array<double, 5> kScale = {1, 64, 16, 8192, 65536};   // typical size of each feature in a step
constexpr double kForgetting = 0.995;
constexpr double kCovarianceMax = 1.0;               // no wind-up of what is not exercised

}  // namespace

CostModel::CostModel(const StepCost& start) {
  const Vector per_unit = {start.base, start.per_prefill, start.per_decode, start.per_decode_kv, start.per_prefill_pair};
  for (std::size_t i = 0; i < kTerms; ++i) {
    theta_[i] = per_unit[i] * kScale[i];
    floor_[i] = theta_[i] / 100;
    covariance_[i][i] = kCovarianceMax;
  }
}

CostModel::Vector CostModel::features(const StepLoad& load) {
  return {1, static_cast<double>(load.prefill) / kScale[1], static_cast<double>(load.decodes) / kScale[2],
          static_cast<double>(load.decode_kv) / kScale[3], static_cast<double>(load.prefill_pairs) / kScale[4]};
}

double CostModel::coefficient(std::size_t i) const { return std::max(theta_[i], floor_[i]) / kScale[i]; }

double CostModel::predict(const StepLoad& load) const {
  const Vector x = features(load);
  double ns = 0;
  for (std::size_t i = 0; i < kTerms; ++i) ns += std::max(theta_[i], floor_[i]) * x[i];
  return ns;
}

void CostModel::observe(const StepLoad& load, std::int64_t ns) {
  if (ns <= 0) return;
  ++observed_;
  const double predicted = predict(load);
  const double y = std::clamp(static_cast<double>(ns), predicted / 4, predicted * 4);
  const Vector x = features(load);
  Vector px{};                                       // covariance * x
  double spread = kForgetting, linear = 0;
  for (std::size_t i = 0; i < kTerms; ++i) {
    for (std::size_t j = 0; j < kTerms; ++j) px[i] += covariance_[i][j] * x[j];
    spread += x[i] * px[i];
    linear += theta_[i] * x[i];
  }
  const double error = y - linear;
  for (std::size_t i = 0; i < kTerms; ++i) theta_[i] += px[i] / spread * error;
  for (std::size_t i = 0; i < kTerms; ++i) {
    for (std::size_t j = 0; j < kTerms; ++j) covariance_[i][j] -= px[i] * px[j] / spread;
  }
  double largest = 0;
  for (std::size_t i = 0; i < kTerms; ++i) largest = std::max(largest, covariance_[i][i]);
  const double grow = std::min(1 / kForgetting, largest > 0 ? kCovarianceMax / largest : 1.0);
  if (grow > 1) {
    for (auto& row : covariance_) {
      for (double& c : row) c *= grow;
    }
  }
}

std::int64_t CostModel::rows_within(double ns, std::int64_t start) const {
  if (ns <= 0) return 0;
  // q/2 n^2 + (p + q start) n = ns
  const double q = per_prefill_pair(), linear = per_prefill() + q * static_cast<double>(start);
  const double n = 2 * ns / (linear + std::sqrt(linear * linear + 2 * q * ns));
  return static_cast<std::int64_t>(std::min(n, 1e9));
}

}  // namespace tokenworks::scheduler
