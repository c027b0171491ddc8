#include "engine/retry_pacer.hpp"

#include <algorithm>
#include <cmath>

namespace tokenworks::engine {
namespace {

constexpr double kFew = 0.75, kMost = 0.9;           // of the attempts that got in: below, and above what is aimed at
constexpr double kStep = 1.5, kStretchMax = 8;
constexpr std::int64_t kAttempts = 8, kPaces = 4;    // to judge by
constexpr std::int64_t kLeastNs = 1'000'000'000;     // Retry-After knows whole seconds
constexpr double kGolden = 0.6180339887498949;       // multiples of it fill an interval evenly (Knuth, vol. 3, 6.4)

}  // namespace

void RetryPacer::adapt(std::int64_t pace_ns, std::int64_t now_ns) {
  const std::int64_t attempts = accepted_ + refused_;
  if (attempts < kAttempts || now_ns - adapted_ns_ < kPaces * pace_ns) return;
  const double in = static_cast<double>(accepted_) / static_cast<double>(attempts);
  if (in < kFew) stretch_ = std::min(stretch_ * kStep, kStretchMax);
  if (in > kMost) stretch_ = std::max(stretch_ / kStep, 1.0);
  accepted_ = refused_ = 0;
  adapted_ns_ = now_ns;
}

std::int64_t RetryPacer::refuse(std::int64_t first_ns, std::int64_t pace_ns, std::int64_t now_ns) {
  ++refused_;
  adapt(pace_ns, now_ns);
  first_ns = std::clamp(first_ns, kLeastNs, kHorizonNs);
  const auto pace = static_cast<std::int64_t>(std::min(stretch_ * static_cast<double>(std::max<std::int64_t>(pace_ns, 0)), 1e15));
  const std::int64_t next = std::max(told_ns_ + pace, now_ns + first_ns);
  if (next > now_ns + kHorizonNs) {                  // all are taken: somewhere among them, but not together with others
    const double place = std::fmod(kGolden * ++beyond_, 1.0);
    return first_ns + static_cast<std::int64_t>(place * static_cast<double>(kHorizonNs - first_ns));
  }
  told_ns_ = next;
  return next - now_ns;
}

}  // namespace tokenworks::engine
