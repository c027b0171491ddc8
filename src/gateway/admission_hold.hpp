#pragma once
// Hold::Inside: what an admitted request has set aside, and the record that will end it. Owned by the one coroutine of its
// request; the organization's mutex guards only what it shares with others.
#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "admission_state.hpp"
#include "tokenworks/ledger/progress_feed.hpp"

namespace tokenworks::gateway {

// What a hold's request has used by now, for the ledger to ask for. Prices it only then, on the ledger thread.
class ProgressOfHold final : public ledger::ProgressFeed {
 public:
  ProgressOfHold(const RequestId& request, const billing::Rates& rates) : request_(request), rates_(rates) {}
  void set(const Usage& usage) {
    std::lock_guard lock(mutex_);
    usage_ = usage;
    fresh_ = true;
  }
  const RequestId& request() const override { return request_; }
  std::optional<ledger::Progress> newest() override;

 private:
  const RequestId request_;
  const billing::Rates rates_;
  std::mutex mutex_;
  Usage usage_;
  bool fresh_ = false;
};

struct Hold::Inside {
  Inside(const std::shared_ptr<Place>& place, const tenancy::Principal& who, const Ask& ask);
  ~Inside();                                         // ends the hold if nobody did

  // Takes the token windows and the money, all or nothing, and returns the HOLD record to append.
  Result<ledger::Record> take(const tenancy::Principal& who, const Ask& ask, RateState& rates);
  void undo();                                       // the HOLD record was refused: as if it had never been taken

  Result<std::int64_t> extend();
  bool progress(const Usage& usage, ledger::OnDurable durable);
  Result<billing::Charge> end(const Usage& usage, const std::string& finish_reason, ledger::OnDurable durable);
  // The end itself: what to append and to tell, once the organization's mutex, which it needs, is free again.
  struct Ended {
    ledger::Record record;
    billing::Charge charge;
    std::vector<billing::BudgetEvent> events;
    std::vector<billing::Balance::Lapse> lapses;
  };
  Ended finish(const Usage& usage, const std::string& finish_reason, ledger::EntryType without_usage);
  // The owner was not heard of: the end of a hold that lost it. Under the mutex.
  Ended vanish();

  std::int64_t granted() const { return std::min(paid_output, window_output); }

  const std::shared_ptr<AdmissionState> state;
  Organization& organization;
  const tenancy::Limits::Path path;
  ledger::Record record;                             // what HOLD, EXTEND and the end have in common
  billing::Rates rates;                              // frozen at admission
  RateState rate_headers;
  std::uint32_t tenant = 0, weight = 1;
  std::int64_t reserved_tokens_per_second = 0;
  std::int64_t prompt = 0, output = 0, choices = 1;  // as asked; output per choice
  std::int64_t reserve = 1;                          // the chunk in which token windows are taken, per choice
  std::int64_t paid_output = 0, window_output = 0;   // per choice
  std::vector<tenancy::Limits::TokensTaken> windows;
  billing::Budgets::Purpose purpose = 0;
  billing::Balance::Epoch epoch = 0;                 // of credits: see billing::Balance
  std::vector<std::string> tags;                     // "team=search"
  std::weak_ptr<Place> place;
  std::int64_t taken_ns = 0;                         // wall clock, as in the HOLD record
  Money held;
  std::int64_t tickets = 0;

  // Under the organization's mutex: the tick that looks for lost owners reads them too.
  Usage last;                                        // of progress()
  std::shared_ptr<ProgressOfHold> feed;              // from the first progress() on, if the ledger follows it; the owner's alone
  ledger::ProgressFollower* follower = nullptr;
  bool telling = false;                              // the ledger follows none: it is told every time
  bool open = false;
  std::int64_t heard_ns = 0;                         // steady: of the last sign of life
  Inside* before = nullptr;                          // the list of open holds
  Inside* after = nullptr;

 private:
  void hash_tags(const Ask& ask);
  void enlist();
  void delist();
  // Both under the organization's mutex.
  Result<> take_windows(std::int64_t now_ms);
  Result<> take_money(std::int64_t unix_ns);
  Result<> extend_money(std::int64_t unix_ns);
  Result<> extend_windows(std::int64_t now_ms);
  void return_windows(const Usage& used);

  bool follow(const Usage& usage);
  Usage within(const Usage& usage) const;            // cut to what was granted
};

}  // namespace tokenworks::gateway
