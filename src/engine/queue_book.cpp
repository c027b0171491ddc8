#include "engine/queue_book.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace tokenworks::engine {
namespace {

constexpr std::int64_t kSamples = 4, kSmooth = 16;
constexpr double kCautionMin = 1.2, kCautionMax = 2.5, kMargin = 1.2;
constexpr double kForgetNs = 30e9;                   // by then a third is left of what was bad
constexpr double kTight = 0.25;                      // of the time allowed: what was promised less teaches nothing about promises
constexpr double kCutShort = 1.15;                   // what was cut off at its deadline would have taken longer
constexpr std::size_t kPrintTokens = 256;            // of either end of a prompt
constexpr std::int64_t kOfFree = 8;                  // a queue is at most so many times as long as what is free (dynamic thresholds,
                                                     // Choudhury and Hahne 1998): n that flood leave 1 / (8 n + 1) of all places

Error refusal(Errc code, std::string message, std::int64_t after_ns) {
  Error e = error(code, std::move(message));
  e.retry_after_ms = std::max<std::int64_t>(1000, (after_ns + 999'999) / 1'000'000);
  return e;
}

const char* name(Tier tier) { return tier == Tier::priority ? "priority" : tier == Tier::batch ? "batch" : "standard"; }

}  // namespace

std::uint64_t fingerprint(std::span<const TokenId> prompt, std::int64_t max_tokens) {
  std::uint64_t h = 0x9e3779b97f4a7c15ull ^ (prompt.size() << 32) ^ static_cast<std::uint64_t>(max_tokens);
  const auto mix = [&](std::span<const TokenId> tokens) {
    for (const TokenId t : tokens) {                 // Murmur3's finalizer, per token
      h = (h ^ static_cast<std::uint32_t>(t)) * 0xff51afd7ed558ccdull;
      h ^= h >> 33;
    }
  };
  mix(prompt.first(std::min(prompt.size(), kPrintTokens)));
  if (prompt.size() > kPrintTokens) mix(prompt.last(std::min(prompt.size() - kPrintTokens, kPrintTokens)));
  return h == 0 ? 1 : h;
}

double QueueBook::caution(std::int64_t now_ns) const {
  const double worst = worst_ * std::exp(-static_cast<double>(std::max<std::int64_t>(now_ns - worst_ns_, 0)) / kForgetNs);
  return std::clamp(kMargin * worst, kCautionMin, kCautionMax);
}

void QueueBook::learn(const QueueEntry& entry, std::int64_t now_ns, bool late) {
  const QueuePromise& p = entry.promise;
  const double allowed = static_cast<double>(entry.deadline_ns - p.entered_ns);
  if (entry.deadline_ns == 0 || p.takes_ns <= 0 || static_cast<double>(p.takes_ns) < kTight * allowed) return;
  const double took = static_cast<double>(now_ns - p.entered_ns) * (late ? kCutShort : 1);
  const double ratio = std::min(took / static_cast<double>(p.takes_ns), kCautionMax);
  if (ratio < worst_ * std::exp(-static_cast<double>(std::max<std::int64_t>(now_ns - worst_ns_, 0)) / kForgetNs)) return;
  worst_ = ratio, worst_ns_ = now_ns;
}

// The forecast's, or what the queue itself showed if that is more: shares say nothing about what others will still send.
std::int64_t QueueBook::wait_ns(const Queue& q, const scheduler::Forecast& f, const scheduler::NewSequence& s) const {
  const std::int64_t predicted = known_ ? predicted_wait_ns(f, q.sequences, s) : 0;
  if (q.gaps < kSamples) return predicted;
  return std::max(predicted, static_cast<std::int64_t>(q.gap_ns * static_cast<double>(q.requests)));
}

std::int64_t QueueBook::run_ns(const Queue& q, const scheduler::Forecast& f, const scheduler::NewSequence& s) const {
  const std::int64_t predicted = known_ ? predicted_run_ns(f, q.sequences, s) : 0;
  if (q.runs < kSamples) return predicted;
  return std::max(predicted, static_cast<std::int64_t>(q.run_ns + 3 * q.run_spread_ns));
}

// From one beginning to the next: measured, or what one more in the queue would add to the wait.
std::int64_t QueueBook::pace_ns(const Queue& q, const scheduler::Forecast& f, const scheduler::NewSequence& s) const {
  if (q.gaps >= kSamples) return static_cast<std::int64_t>(q.gap_ns);
  if (!known_) return 0;
  scheduler::QueueAhead more = q.sequences;
  more.waiting += 1, more.prompt_tokens += s.prompt_tokens;
  return std::max<std::int64_t>(predicted_wait_ns(f, more, s) - predicted_wait_ns(f, q.sequences, s), 0);
}

Result<QueuePromise> QueueBook::enter(const QueueEntry& entry, std::int64_t now_ns) {
  std::lock_guard lock(mutex_);
  Queue& q = queue(entry);
  scheduler::Forecast f = forecast_;
  f.waiting = std::max(f.waiting, waiting_);         // the forecast may be a step old
  f.prompt_tokens = std::max(f.prompt_tokens, prompt_tokens_);
  const scheduler::NewSequence sequence{entry.tier, entry.weight, entry.reserved_tokens_per_second, entry.prompt_tokens, entry.max_tokens};
  const bool busy = !q.pacer.empty(now_ns);                // somebody was told to come again
  const std::int64_t pace = busy ? pace_ns(q, f, sequence) : 0;
  // Of a newcomer's places, those promised to others; at most half, lest the plant waits for who does not come.
  const std::int64_t kept = !busy || q.pacer.expected(entry.fingerprint, now_ns) ? 0 : q.pacer.kept(pace, now_ns);
  const std::int64_t most =
      std::min(requests_max_, std::max<std::int64_t>(kOfFree * (all_max_ - requests_ - 1), 1));   // the last is for who has none
  if (q.requests + std::min(kept, requests_max_ / 2) >= most) {
    const std::int64_t wait = wait_ns(q, f, sequence), each = wait / std::max<std::int64_t>(q.requests, 1);
    return refusal(Errc::rate_limit_exceeded,
                   std::to_string(q.requests) + " requests of this organization wait in tier " + name(entry.tier) +
                       " for this model already; try again later",
                   q.pacer.refuse(entry.fingerprint, each, pace_ns(q, f, sequence), now_ns));   // one of them will have begun by then
  }
  QueuePromise promise{now_ns, 0};
  if (known_ && entry.deadline_ns != 0) {
    const std::int64_t wait = wait_ns(q, f, sequence);
    // Others may come and use what they leave unused now, so a promise is made on the tenant's own share alone.
    const std::int64_t promised = std::max(wait, promised_wait_ns(f, q.sequences, sequence));
    promise.takes_ns = promised + run_ns(q, f, sequence);
    const std::int64_t behind = std::min(kept * pace, wait / 2);
    const double takes = caution(now_ns) * static_cast<double>(promise.takes_ns) + static_cast<double>(behind);
    const std::int64_t late = now_ns + static_cast<std::int64_t>(takes) - entry.deadline_ns;
    // Without a wait it is what runs that makes it late, as long as enough does; else coming later would not help it.
    const bool crowded = wait > 0 || 2 * f.running >= f.slots;
    if (crowded && late > 0) {
      return refusal(Errc::server_is_overloaded,
                     "the request would wait about " + std::to_string(wait / 1'000'000) +
                         " ms and is not expected to end before its deadline; try again later or allow more time",
                     q.pacer.refuse(entry.fingerprint, wait > 0 ? std::min(late, wait) : late, pace_ns(q, f, sequence), now_ns));
    }
  }
  if (busy) q.pacer.accept(entry.fingerprint, now_ns);
  ++requests_;
  if (q.requests++ == 0) q.last_ns = now_ns;
  q.sequences.waiting += entry.choices;
  q.sequences.prompt_tokens += entry.prompt_tokens;  // choices share it
  waiting_ += entry.choices;
  prompt_tokens_ += entry.prompt_tokens;
  return promise;
}

void QueueBook::began(const QueueEntry& entry, std::int64_t now_ns) {
  std::lock_guard lock(mutex_);
  Queue& q = queue(entry);
  q.gap_ns += (static_cast<double>(now_ns - q.last_ns) - q.gap_ns) / static_cast<double>(std::min<std::int64_t>(++q.gaps, kSmooth));
  q.last_ns = now_ns;
  --q.requests, --requests_;
  q.sequences.waiting -= entry.choices;
  q.sequences.running += entry.choices;
  q.sequences.prompt_tokens -= entry.prompt_tokens;
  waiting_ -= entry.choices;
  prompt_tokens_ -= entry.prompt_tokens;
}

void QueueBook::ended(const QueueEntry& entry, std::int64_t began_ns, std::int64_t now_ns, End end) {
  std::lock_guard lock(mutex_);
  const auto found = queues_.find(std::uint64_t{entry.tenant} * 4 + static_cast<std::uint64_t>(entry.tier));
  Queue& q = found->second;
  if (began_ns == 0) {
    --q.requests, --requests_;
    q.sequences.waiting -= entry.choices;
    q.sequences.prompt_tokens -= entry.prompt_tokens;
    waiting_ -= entry.choices;
    prompt_tokens_ -= entry.prompt_tokens;
  } else {
    q.sequences.running -= entry.choices;
    double run = static_cast<double>(now_ns - began_ns);
    if (end == End::late) run = std::max(run, q.run_ns + 2 * q.run_spread_ns);
    if (end != End::other) {
      if (q.runs++ == 0) q.run_ns = run;
      const double smooth = static_cast<double>(std::min<std::int64_t>(q.runs, kSmooth));
      q.run_spread_ns += (std::abs(run - q.run_ns) - q.run_spread_ns) / smooth;
      q.run_ns += (run - q.run_ns) / smooth;
    }
  }
  if (end != End::other) learn(entry, now_ns, end == End::late);
  if (q.requests == 0 && q.sequences.running == 0 && q.pacer.empty(now_ns)) queues_.erase(found);
}

void QueueBook::publish(const scheduler::Forecast& forecast) {
  std::lock_guard lock(mutex_);
  forecast_ = forecast;
  known_ = true;
}

}  // namespace tokenworks::engine
