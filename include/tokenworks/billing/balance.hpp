#pragma once
// Balance: what an organization has paid ahead and what it owes. Prepaid credits are spent in the order in which they
// expire; a credit line lets it owe up to an amount; with neither, spending is not limited here.
//
// A credit that expires while holds are open: what they stand on stays usable for them, the rest lapses at once, and what
// they leave over lapses when the last of them ends. What lapses is booked as ADJUST entries by whoever owns this object.
// So what is free never counts an expired unit, and the balance never falls below minus the credit line
// (docs/decisions/0008-credits.md).
//
// Pure: time is an argument. Not thread-safe: lives in Budgets, under an organization's mutex.
#include <cstdint>
#include <optional>
#include <vector>

#include "tokenworks/base/money.hpp"
#include "tokenworks/ledger/credits.hpp"

namespace tokenworks::billing {

class Balance {
 public:
  // To be booked: an ADJUST of minus `amount` under an id that follows from the credit's and from `mark`.
  struct Lapse {
    RequestId credit{};
    std::int64_t expires_unix_ns = 0, mark = 0;
    Money amount;
  };
  // Which expiries a hold has seen: those after it leave it its part. Taken with the hold, shown at its end.
  using Epoch = std::uint64_t;

  // From the books, before anything is held.
  void recover(std::vector<ledger::Credit> credits, Money debt, bool prepaid);
  void top_up(const ledger::Credit& credit);         // prepaid from now on
  void adjust(const RequestId& operation, Money delta);
  void set_credit_line(std::optional<Money> line) { line_ = line; }

  bool limited() const { return prepaid_ || line_.has_value(); }
  bool prepaid() const { return prepaid_; }
  std::optional<Money> credit_line() const { return line_; }
  const std::vector<ledger::Credit>& credits() const { return stack_.credits(); }
  Money balance() const;                             // credits minus debt; may be below zero on credit or when postpaid
  Money held() const { return held_; }
  Money free() const;                                // what a new hold may take, or an open one more; may be below zero

  Epoch epoch() const { return epoch_; }
  void hold(Money amount, Epoch epoch);
  // The end of (a part of) a hold: `amount` is no longer set aside, `charge` of it is spent.
  void end(Money amount, Money charge, Epoch epoch);

  // Lets credits expire that have: what lapses, to be booked. Also what earlier ones left over. Cheap when nothing is due.
  std::vector<Lapse> expire(std::int64_t unix_ns);
  bool due(std::int64_t unix_ns) const;

 private:
  // A credit that expired under open holds.
  struct Standing {
    ledger::Credit credit;
    Epoch epoch = 0;                                 // holds with a smaller one may use it
    Money usable;                                    // by them
    Money held;                                      // by them, on this or another credit
    Money lapsed;                                    // left over by those that ended; free for nobody, not yet booked
  };
  void settle_standing();

  ledger::CreditStack stack_;
  bool prepaid_ = false;
  std::optional<Money> line_;
  Money held_, lapsed_;                              // lapsed_: the sum over standing_
  Epoch epoch_ = 0;
  std::vector<Standing> standing_;                   // in the order of expiry
};

}  // namespace tokenworks::billing
