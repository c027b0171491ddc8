#pragma once
// QueueBook: who is in the engine, by tenant and tier, and what that means for a newcomer. Submitting threads enter requests,
// the engine thread says when they began and ended and publishes how busy the plant is; one mutex, held for a look-up.
#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_map>

#include "engine/retry_pacer.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/scheduler/forecast.hpp"

namespace tokenworks::engine {

struct QueuePromise {                                // what a request was let in on
  std::int64_t entered_ns = 0, takes_ns = 0;         // until its end, as predicted; 0: it was not asked
};

struct QueueEntry {                                  // a request as the book counts it
  std::uint32_t tenant = 0, weight = 1;
  Tier tier = Tier::standard;
  std::int64_t reserved_tokens_per_second = 0;
  std::int64_t choices = 1, prompt_tokens = 1, max_tokens = 1;
  std::int64_t deadline_ns = 0;                      // steady; 0: none
  std::uint64_t fingerprint = 0;                     // the same when a client sends the request again; 0: unknown
  QueuePromise promise;                              // as enter() gave it
};

// Of what a client would send again unchanged, never 0. Not a secret's hash: it is compared inside one tenant's queue only.
std::uint64_t fingerprint(std::span<const TokenId> prompt, std::int64_t max_tokens);

class QueueBook {
 public:
  // `requests_max` of one queue, `all_max` of all of them together, which the caller holds to.
  explicit QueueBook(std::int64_t requests_max, std::int64_t all_max = std::int64_t{1} << 40) : requests_max_(requests_max), all_max_(all_max) {}

  // Counts the request among the waiting. rate_limit_exceeded: its tenant has enough waiting in this tier, also measured by
  // what is free in all: the queues of many do not fill what there is, so that who has nothing waiting finds a place;
  // server_is_overloaded: it is not expected to end before its deadline. Both with retry_after_ms, after which it is let in
  // before others of its tenant.
  Result<QueuePromise> enter(const QueueEntry& entry, std::int64_t now_ns);
  void began(const QueueEntry& entry, std::int64_t now_ns);   // its first rows are computed
  // `complete`: it came to its own end, and says how long that takes; cut short by a deadline it says that it takes longer.
  enum class End : std::uint8_t { complete, late, other };
  void ended(const QueueEntry& entry, std::int64_t began_ns, std::int64_t now_ns, End end);   // began_ns 0: it never began
  void publish(const scheduler::Forecast& forecast);

 private:
  struct Queue {
    std::int64_t requests = 0;                       // waiting
    scheduler::QueueAhead sequences;
    // Measured while requests waited: from one beginning to the next, and from a beginning to its end.
    double gap_ns = 0, run_ns = 0, run_spread_ns = 0;
    std::int64_t gaps = 0, runs = 0, last_ns = 0;    // last_ns: the last beginning, or when somebody came to an empty queue
    RetryPacer pacer;
  };
  std::int64_t wait_ns(const Queue& q, const scheduler::Forecast& f, const scheduler::NewSequence& s) const;
  std::int64_t run_ns(const Queue& q, const scheduler::Forecast& f, const scheduler::NewSequence& s) const;
  std::int64_t pace_ns(const Queue& q, const scheduler::Forecast& f, const scheduler::NewSequence& s) const;
  double caution(std::int64_t now_ns) const;
  void learn(const QueueEntry& entry, std::int64_t now_ns, bool late);
  Queue& queue(const QueueEntry& e) { return queues_[std::uint64_t{e.tenant} * 4 + static_cast<std::uint64_t>(e.tier)]; }

  const std::int64_t requests_max_, all_max_;
  std::mutex mutex_;
  scheduler::Forecast forecast_;
  bool known_ = false;                               // a forecast came
  // The worst that promises came out of late, as a part of what was predicted; fades in seconds. Slow machines show here
  // before anybody is late, because most promises leave some time.
  double worst_ = 0;
  std::int64_t worst_ns_ = 0;                        // when worst_ was that much
  std::int64_t requests_ = 0;                        // waiting, of all queues
  std::int64_t waiting_ = 0, prompt_tokens_ = 0;     // sequences of all queues, and what they have to compute
  std::unordered_map<std::uint64_t, Queue> queues_;
};

}  // namespace tokenworks::engine
