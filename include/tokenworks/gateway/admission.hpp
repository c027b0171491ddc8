#pragma once
// Admission: the one function every billable route goes through. It owns the limits and budgets in memory, one small mutex
// per organization, never held over I/O; checking and taking are one act. The ledger only receives records.
//
// Two steps, as in "One request": `enter` counts the request against requests per minute and concurrency before any work is
// spent; `admit` takes the token windows and the hold once the prompt count is exact. What is taken lives in move-only
// objects that give it back exactly once, also when the coroutine that owned them dies.
// Any thread.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/base/usage.hpp"
#include "tokenworks/billing/budgets.hpp"
#include "tokenworks/billing/price_book.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/events.hpp"
#include "tokenworks/gateway/types.hpp"
#include "tokenworks/ledger/ledger.hpp"
#include "tokenworks/tenancy/directory.hpp"

namespace tokenworks::gateway {

struct PlantLabels {                                 // what every entry of this plant carries
  std::string build_id, region, jurisdiction;
  std::string tag_secret;                            // tags are hashed under it
};

class AdmissionState;                                // private: the organizations' limits and budgets

// A request that was let in: holds a place in `concurrent_requests`, given back on destruction.
class Entrance {
 public:
  Entrance(Entrance&&) noexcept;
  Entrance& operator=(Entrance&&) noexcept;
  ~Entrance();
  const RateState& rates() const { return rates_; }  // for the headers, as of the last act

 private:
  friend class Admission;
  Entrance() = default;
  std::shared_ptr<AdmissionState> state_;
  std::shared_ptr<void> slot_;
  RateState rates_;
};

struct Ask {
  RequestId request{};
  ModelId model;                                     // the id, not the alias
  std::string model_digest, tokenizer_digest;        // hex
  std::int64_t prompt_tokens = 0;                    // of all prompts together, exact
  std::int64_t output_tokens = 0;                    // per choice, the most it may generate; 0 when `embedding`
  std::int64_t choices = 1;                          // sequences in all: prompts * n
  bool embedding = false;                            // texts are pooled, nothing is generated
  std::optional<Tier> tier;                          // absent: the plan's; a higher one than the plan's is refused (param service_tier)
  std::string data_class;
  std::int32_t retry_count = 0;
  std::map<std::string, std::string> tags;
};

// Money, quota and the right to run. Ends exactly once: by settle(), or by destruction, which settles what progress() last
// said, or releases everything when nothing was generated.
class Hold {
 public:
  Hold(Hold&&) noexcept;
  Hold& operator=(Hold&&) noexcept;
  ~Hold();

  Ticket take_ticket();                              // one per prompt of the request: Ask.choices / n times at most
  Tier tier() const;
  std::int64_t granted_output() const;               // per choice; below Ask.output_tokens only when `chunked()`
  // Whether less than Ask.output_tokens is granted so far: a small hold on a small balance, or token windows that are taken
  // in chunks of reserve_output_tokens. extend() before granted_output() is generated.
  bool chunked() const;
  // Asks for another chunk per choice. The new total granted; insufficient_quota: no money, end as "budget"; or
  // rate_limit_exceeded: a token window is full, ask again after retry_after_ms (exact if nobody else takes) or end as
  // "budget". Nothing is lost by a refusal: what was granted stays granted.
  Result<std::int64_t> extend();

  // Output counted so far; what a crash or a lost coroutine would be settled with. `durable`: see Ledger::progress. False:
  // the hold has been ended (Admission::tick), nothing more is paid for and nothing more may be sent.
  bool progress(const Usage& usage, ledger::OnDurable durable = {});
  // A hold of which nothing was heard for long (Admission::tick) has been ended: then this is an error and charges nothing.
  // Rates the usage, appends SETTLE, returns the unused part of hold and token windows at once. `durable` after the commit.
  // A usage of nothing at all appends RELEASE. A usage beyond what was granted (a defect) is cut to it and logged: a charge
  // is never above its hold.
  Result<billing::Charge> settle(const Usage& usage, const std::string& finish_reason, ledger::OnDurable durable);
  const std::string& currency() const;
  const RateState& rates() const;

  struct Inside;                                     // private to src/gateway

 private:
  friend class Admission;
  explicit Hold(std::unique_ptr<Inside> inside);
  std::unique_ptr<Inside> inside_;
};

class Admission {
 public:
  // Recovers spent budgets and balances from the ledger; rate windows start empty. `clock` and `ledger` outlive this object
  // and every Entrance and Hold.
  static Result<std::unique_ptr<Admission>> make(const Clock& clock, ledger::Ledger& ledger, const PlantLabels& labels,
                                                 const config::Tenants& tenants, std::shared_ptr<const billing::PriceBook> prices);
  ~Admission();

  // Swaps limits, budgets and prices whole, or nothing on an error; what is in flight keeps the prices it was admitted under,
  // and what it holds stands against the new limits and budgets. Reads the ledger for organizations it has not seen yet.
  // `last_step` runs when nothing else can refuse the change, before anything is changed; its error is the reload's.
  Result<> reload(const config::Tenants& tenants, std::shared_ptr<const billing::PriceBook> prices,
                  const std::function<Result<>()>& last_step = {});

  // Who is told of events from now on; it outlives this object and every Hold, or is taken away (nullptr) before.
  void set_events(EventSink* sink);

  // The same again, with the budgets and key limits that the ledger holds now.
  Result<> refresh();

  // rate_limit_exceeded (retry_after_ms exact), concurrency_limit_exceeded, insufficient_permissions (key of the plant).
  // `rates`: the limits as of now, also when it is refused.
  Result<Entrance> enter(const tenancy::Principal& who, std::string_view model = {}, RateState* rates = nullptr);
  // Token windows, then the hold: rate_limit_exceeded, insufficient_quota, ledger_unavailable. The HOLD record is queued
  // when this returns; `hold_durable` is called after its commit: no output may leave before. On an error it is never called.
  Result<Hold> admit(const tenancy::Principal& who, Entrance& entrance, const Ask& ask, ledger::OnDurable hold_durable);

  struct Totals {
    std::int64_t holds_open = 0;
    Money hold_amount;
  };
  Totals totals() const;

  // Time passes for those who ask nothing: credits expire, and holds of which nothing was heard for `hold_expiry_ns` end:
  // settled with what they last counted, or expired when that was nothing. Any thread, a few times a second.
  void tick(std::int64_t hold_expiry_ns = INT64_MAX);

  // A TOPUP or ADJUST that is durable: changes the balance. The organization is prepaid from its first TOPUP on. What takes
  // something away is asked for before it is booked: refused when that much is not free.
  Result<> adjust_balance(std::string_view organization, Money delta, bool topup, const RequestId& operation = {},
                          std::int64_t expires_unix_ns = 0);
  struct Standing {
    std::int64_t holds_open = 0, running = 0;
    Money held;
    std::optional<Money> balance;                    // prepaid or on a credit line: credits minus what is owed
    std::optional<Money> credit_line, free;
    std::vector<billing::BudgetState> budgets;       // those of plan and organization, its projects', those set by the API
  };
  std::optional<Standing> standing(std::string_view organization) const;

 private:
  friend class Hold;
  static Ticket ticket(const RequestId& request, std::uint32_t tenant, std::uint32_t weight, Tier tier, std::int64_t output_tokens,
                       std::int64_t reserved_tokens_per_second) {
    return Ticket(request, tenant, weight, tier, output_tokens, reserved_tokens_per_second);
  }

  explicit Admission(std::shared_ptr<AdmissionState> state);
  std::shared_ptr<AdmissionState> state_;
};

}  // namespace tokenworks::gateway
