#include "tokenworks/scheduler/forecast.hpp"

#include <algorithm>

namespace tokenworks::scheduler {
namespace {

// The tenant's part of the plant: its weight among those that have work, and what it has bought.
double share_of(const Forecast& f, const QueueAhead& ahead, const NewSequence& s) {
  const auto tier = static_cast<std::size_t>(s.tier);
  const bool counted = ahead.waiting + ahead.running > 0;      // its weight is among the active ones already
  const std::int64_t of_tier = f.active_weight[tier] + (counted ? 0 : s.weight);
  std::int64_t tiers = 0;
  for (std::size_t t = 0; t < 3; ++t) tiers += t == tier || f.active_weight[t] > 0 ? f.tier_weight[t] : 0;
  const double fair = static_cast<double>(f.tier_weight[tier]) / static_cast<double>(std::max<std::int64_t>(tiers, 1)) *
                      static_cast<double>(s.weight) / static_cast<double>(std::max<std::int64_t>(of_tier, 1));
  const double bought = static_cast<double>(s.reserved_tokens_per_second) * f.step_ns / 1e9 / static_cast<double>(f.slots);
  return std::clamp(fair * (1 - f.reserved_share) + bought, 1e-4, 1.0);
}

// Device time of a queue: the prompts and answers of what waits, and half an answer of everything that runs.
double work_ns(const Forecast& f, std::int64_t waiting, std::int64_t running, std::int64_t prompt_tokens) {
  const double answers = static_cast<double>(waiting) + 0.5 * static_cast<double>(running);
  return static_cast<double>(prompt_tokens) * f.prompt_token_ns + answers * f.answer_tokens * f.output_token_ns;
}

// Time until so much device time was spent on it: of each step its base is lost.
double takes_ns(const Forecast& f, double work, double share) {
  return work / share / std::clamp(1 - f.base_ns / std::max(f.step_ns, 1.0), 0.1, 1.0);
}

// Of its own queue alone, served with its tenant's share.
double own_wait_ns(const Forecast& f, const QueueAhead& ahead, double share) {
  return takes_ns(f, work_ns(f, ahead.waiting, ahead.waiting > 0 ? ahead.running : 0, ahead.prompt_tokens), share);
}

bool idle(const Forecast& f) { return f.waiting == 0 && f.prompt_tokens == 0 && f.running < f.slots; }

}  // namespace

std::int64_t predicted_wait_ns(const Forecast& f, const QueueAhead& ahead, const NewSequence& s) {
  if (idle(f)) return 0;
  const double share = share_of(f, ahead, s);
  // Others' unused shares are used, so a queue never takes longer than all queues together.
  double wait = std::min(own_wait_ns(f, ahead, share),
                         takes_ns(f, work_ns(f, f.waiting, f.waiting > 0 ? f.running : 0, f.prompt_tokens), 1));
  if (f.running + f.waiting >= f.slots) {
    const double own_slots = std::max(1.0, share * static_cast<double>(f.slots));
    const double own = static_cast<double>(ahead.running + ahead.waiting + 1) - own_slots;   // too many by this
    const double all = static_cast<double>(f.running + f.waiting + 1 - f.slots);
    const double for_slot = std::min(std::max(own, 0.0) / own_slots, all / static_cast<double>(f.slots)) * f.hold_ns;
    wait = std::max(wait, for_slot);
  }
  return static_cast<std::int64_t>(std::min(wait, 1e15));
}

std::int64_t promised_wait_ns(const Forecast& f, const QueueAhead& ahead, const NewSequence& s) {
  if (idle(f)) return 0;
  const double own = own_wait_ns(f, ahead, share_of(f, ahead, s)) + f.hold_back_ns;
  return std::max(predicted_wait_ns(f, ahead, s), static_cast<std::int64_t>(std::min(own, 1e15)));
}

std::int64_t predicted_run_ns(const Forecast& f, const QueueAhead& ahead, const NewSequence& s) {
  const double output = f.long_answer_tokens > 0 ? std::min(f.long_answer_tokens, static_cast<double>(s.max_tokens)) : 1;
  const double prompt = static_cast<double>(s.prompt_tokens) * f.prompt_token_ns;
  const double alone = prompt + output * f.step_ns;  // a token a step
  const bool busy = f.waiting > 0;
  const double shared = busy ? takes_ns(f, prompt + output * f.output_token_ns, share_of(f, ahead, s)) : 0;
  return static_cast<std::int64_t>(std::min(std::max(alone, shared), 1e15));
}

}  // namespace tokenworks::scheduler
