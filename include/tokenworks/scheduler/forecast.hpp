#pragma once
// Forecast: how busy the plant is, in numbers of constant size that the engine thread can publish after each step, and the
// predictions drawn from them on any thread: when a new sequence would get its first rows, and whether it can end before
// its deadline. From the live step-cost model and what sequences took so far; pure.
#include <array>
#include <cstdint>

#include "tokenworks/base/ticket.hpp"

namespace tokenworks::scheduler {

struct Forecast {
  double step_ns = 25e6;                             // what a step takes lately,
  double base_ns = 0;                                // of that, whatever it computes,
  double prompt_token_ns = 1e5, output_token_ns = 1e5;   // and what a token adds
  double hold_ns = 0;                                // how long a sequence holds its slot, lately
  double hold_back_ns = 0;                           // how long the fairness rule may let a flow wait for the others
  double answer_tokens = 0, long_answer_tokens = 0;  // output of a sequence lately: the mean, and what few exceed; 0: unknown
  std::int64_t slots = 1, running = 0, waiting = 0;
  std::int64_t prompt_tokens = 0;                    // still to compute: of what waits, and of what runs
  std::array<std::int64_t, 3> tier_weight{1, 1, 1};
  std::array<std::int64_t, 3> active_weight{};       // of the tenants with work in each tier
  double reserved_share = 0;                         // of the slots, sold
};

// What stands before a new sequence in its own queue: the sequences of its tenant and tier.
struct QueueAhead {
  std::int64_t waiting = 0, running = 0;
  std::int64_t prompt_tokens = 0;                    // of the waiting
};

struct NewSequence {
  Tier tier = Tier::standard;
  std::uint32_t weight = 1;
  std::int64_t reserved_tokens_per_second = 0;
  std::int64_t prompt_tokens = 1, max_tokens = 1;
};

// Until its first rows. Its tenant's share counts, not the length of other tenants' queues.
std::int64_t predicted_wait_ns(const Forecast& f, const QueueAhead& ahead, const NewSequence& sequence);
// What can be promised: the same if nobody else ever leaves a part of its share unused.
std::int64_t promised_wait_ns(const Forecast& f, const QueueAhead& ahead, const NewSequence& sequence);
// From there to the end, if its answer is as long as long answers are.
std::int64_t predicted_run_ns(const Forecast& f, const QueueAhead& ahead, const NewSequence& sequence);

}  // namespace tokenworks::scheduler
