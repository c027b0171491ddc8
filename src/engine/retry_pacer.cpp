#include "engine/retry_pacer.hpp"

#include <algorithm>
#include <cmath>

namespace tokenworks::engine {
namespace {

constexpr double kFew = 0.88, kMost = 0.97;          // of the attempts that got in: below, and above what is aimed at
constexpr double kStep = 1.5, kStretchMax = 8, kAheadMin = 2, kAheadMax = 16;
constexpr std::int64_t kAttempts = 8, kPaces = 4;    // to judge by
constexpr std::int64_t kLeastNs = 1'000'000'000;     // Retry-After knows whole seconds
constexpr std::int64_t kEarlyNs = 150'000'000;       // a client's timer, and the way here, are not exact
constexpr std::int64_t kLateNs = 1'500'000'000;      // ... and Retry-After is rounded up
constexpr double kComeSmooth = 16, kComeMin = 0.125;
constexpr std::size_t kLineMax = 1024;               // known by name; who is told beyond is a newcomer when he comes
constexpr double kGolden = 0.6180339887498949;       // multiples of it fill an interval evenly (Knuth, vol. 3, 6.4)

}  // namespace

std::deque<RetryPacer::Told>::const_iterator RetryPacer::find(std::uint64_t who) const {
  if (who == 0) return line_.end();
  return std::find_if(line_.begin(), line_.end(), [&](const Told& t) { return t.who == who; });
}

bool RetryPacer::expected(std::uint64_t who, std::int64_t now_ns) const {
  const auto found = find(who);
  return found != line_.end() && found->at <= now_ns + kEarlyNs && now_ns <= found->at + kLateNs;
}

void RetryPacer::keep(std::uint64_t who, std::int64_t at) {
  if (who == 0 || line_.size() >= kLineMax) return;
  const auto place = std::upper_bound(line_.begin(), line_.end(), at, [](std::int64_t t, const Told& told) { return t < told.at; });
  line_.insert(place, {at, who});
}

void RetryPacer::forget_absent(std::int64_t now_ns) {
  while (!line_.empty() && line_.front().at + kLateNs < now_ns) {
    line_.pop_front();
    come_ -= come_ / kComeSmooth;
  }
}

std::int64_t RetryPacer::kept(std::int64_t pace_ns, std::int64_t now_ns) {
  forget_absent(now_ns);
  const std::int64_t until = now_ns + static_cast<std::int64_t>(ahead_ * static_cast<double>(std::clamp<std::int64_t>(pace_ns, 0, kHorizonNs)));
  const auto due = std::count_if(line_.begin(), line_.end(), [&](const Told& t) { return t.at <= until; });
  return static_cast<std::int64_t>(std::ceil(come_ * static_cast<double>(due) - 0.25));
}

// Of those who came as told. Too few got in: newcomers took their places, so more are kept, for longer; if that was not it, places
// come slower than was thought.
void RetryPacer::note(bool got_in, std::int64_t pace_ns, std::int64_t now_ns) {
  (got_in ? in_ : out_) += 1;
  come_ += (1 - come_) / kComeSmooth;
  const std::int64_t attempts = in_ + out_;
  if (attempts < kAttempts || now_ns - adapted_ns_ < kPaces * pace_ns) return;
  const double in = static_cast<double>(in_) / static_cast<double>(attempts);
  if (in < kFew) (ahead_ < kAheadMax ? ahead_ : stretch_) *= kStep;
  if (in > kMost) (stretch_ > 1 ? stretch_ : ahead_) /= kStep;
  ahead_ = std::clamp(ahead_, kAheadMin, kAheadMax), stretch_ = std::clamp(stretch_, 1.0, kStretchMax);
  in_ = out_ = 0;
  adapted_ns_ = now_ns;
}

void RetryPacer::accept(std::uint64_t who, std::int64_t now_ns) {
  const auto found = find(who);
  if (found == line_.end()) return;
  if (expected(who, now_ns)) note(true, 0, now_ns);
  line_.erase(found);
}

std::int64_t RetryPacer::refuse(std::uint64_t who, std::int64_t first_ns, std::int64_t pace_ns, std::int64_t now_ns) {
  forget_absent(now_ns);
  if (const auto found = find(who); found != line_.end()) {
    if (!expected(who, now_ns)) return std::max(found->at - now_ns, kLeastNs);   // too early: the place stays his
    note(false, pace_ns, now_ns);
    line_.erase(found);
    keep(who, now_ns + kLeastNs);                    // not to the end of the line again
    return kLeastNs;
  }
  first_ns = std::clamp(first_ns, kLeastNs, kHorizonNs);
  const double apart = stretch_ * std::max(come_, kComeMin) * static_cast<double>(std::max<std::int64_t>(pace_ns, 0));
  const std::int64_t next = std::max(told_ns_ + static_cast<std::int64_t>(std::min(apart, 1e15)), now_ns + first_ns);
  if (next > now_ns + kHorizonNs) {                  // all are taken: somewhere among them, but not together with others
    const double place = std::fmod(kGolden * ++beyond_, 1.0);
    return first_ns + static_cast<std::int64_t>(place * static_cast<double>(kHorizonNs - first_ns));
  }
  told_ns_ = next;
  keep(who, next);
  return next - now_ns;
}

}  // namespace tokenworks::engine
