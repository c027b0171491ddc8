#pragma once
// Credits: what an organization has paid ahead, one credit per TOPUP or ADJUST above zero. Pure and exact: the ledger
// derives its `credits` table with it and admission keeps the same state in memory, so both always agree.
//
// Whatever lowers the balance (SETTLE, TOPUP or ADJUST below zero) is drawn from the credit that expires soonest; those
// that never expire come last; ties by operation id. What no credit covers is debt, and the next credit pays it first.
// Hence always: sum of `remaining` - debt = balance, and one of the two is zero. An expired credit still counts here
// until an ADJUST of minus its rest takes it out: being the soonest, it is what that ADJUST draws. One owner at a time.
#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/money.hpp"

namespace tokenworks::ledger {

struct Credit {
  RequestId operation{};
  Money amount, remaining;                           // 0 <= remaining <= amount
  std::int64_t expires_unix_ns = 0;                  // 0: never
  std::int64_t booked_unix_ns = 0;
  bool operator==(const Credit&) const = default;
};

inline bool expired(const Credit& credit, std::int64_t unix_ns) {
  return credit.expires_unix_ns != 0 && credit.expires_unix_ns <= unix_ns;
}

// True when `a` is spent before `b`.
inline bool spent_before(const Credit& a, const Credit& b) {
  return std::tuple(a.expires_unix_ns == 0, a.expires_unix_ns, a.operation) <
         std::tuple(b.expires_unix_ns == 0, b.expires_unix_ns, b.operation);
}

class CreditStack {
 public:
  // As read from a store: credits with something left, in any order.
  CreditStack() = default;
  CreditStack(std::vector<Credit> credits, Money debt) : credits_(std::move(credits)), debt_(debt) {
    std::sort(credits_.begin(), credits_.end(), spent_before);
  }

  // A new credit of `credit.amount` >= 0. changed(const Credit&) is called with what is left of it after the debt.
  template <class Changed>
  void add(Credit credit, Changed&& changed) {
    const std::int64_t paid = std::min(debt_.nano, credit.amount.nano);
    debt_.nano -= paid;
    credit.remaining.nano = credit.amount.nano - paid;
    changed(credit);
    if (credit.remaining.nano == 0) return;
    credits_.insert(std::upper_bound(credits_.begin(), credits_.end(), credit, spent_before), credit);
  }
  void add(Credit credit) {
    add(credit, [](const Credit&) {});
  }

  // Spends `amount` >= 0. changed(const Credit&) is called for every credit it drew from, spent ones included.
  template <class Changed>
  void draw(Money amount, Changed&& changed) {
    auto spent = credits_.begin();
    for (; spent != credits_.end() && amount.nano > 0; ++spent) {
      const std::int64_t part = std::min(spent->remaining.nano, amount.nano);
      spent->remaining.nano -= part;
      amount.nano -= part;
      changed(*spent);
      if (spent->remaining.nano > 0) break;
    }
    credits_.erase(credits_.begin(), spent);
    // A debt beyond all money stays at the most there is: nothing fits on top of it either way.
    if (__builtin_add_overflow(debt_.nano, amount.nano, &debt_.nano)) debt_.nano = INT64_MAX;
  }
  void draw(Money amount) {
    draw(amount, [](const Credit&) {});
  }

  const std::vector<Credit>& credits() const { return credits_; }   // with something left, soonest first
  Money debt() const { return debt_; }
  Money remaining() const {
    Money sum;
    for (const Credit& credit : credits_) sum.nano += credit.remaining.nano;
    return sum;
  }
  // What is left of credits whose time is over: not to be spent by a request that begins now.
  Money expired_remaining(std::int64_t unix_ns) const {
    Money sum;
    for (const Credit& credit : credits_) sum.nano += expired(credit, unix_ns) ? credit.remaining.nano : 0;
    return sum;
  }

 private:
  std::vector<Credit> credits_;
  Money debt_;
};

}  // namespace tokenworks::ledger
