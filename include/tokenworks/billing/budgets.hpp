#pragma once
// Budgets: the money of one organization. What is spent and what is set aside in each of its budgets (the organization's
// and its projects', all models or one), and its prepaid balance. A hold fits all of them or none; checking and holding
// are one act of the caller, who owns the mutex.
//
// A charge counts in the period of its SETTLE entry, and what is set aside counts in the running period of every budget
// until then. So the SETTLE entries of a period never add up to more than a hard budget. A clock that is set back opens no
// second budget: an end is never before its own hold, and a hold must fit every later period that was seen already.
//
// Pure: time is an argument. Not thread-safe.
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenworks/base/money.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/billing/period.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::billing {

// A budget reached one of its warn_at thresholds: told once per period. For logs now, for webhooks later: organization,
// budget, start of the period and percent name it once and for all.
struct BudgetEvent {
  std::string organization, budget;                  // "project acme/search, 1 USD per day"
  std::int64_t percent = 0, period_start_s = 0;
  Money amount, spent;
};

struct BudgetState {                                 // a picture, for whoever asks
  std::string project;                               // "": the organization's
  config::BudgetSpec spec;
  Period period;
  Money spent, held;
};

class Budgets {
 public:
  using Purpose = std::uint32_t;                     // a project and a model, made by purpose(); stays valid

  // Why a hold does not fit, and what would.
  struct Shortage {
    Money available;                                 // what still fits, >= 0
    bool alone = false;                              // nothing else is set aside in what is short
    std::string message;
  };

  struct ScopedSpec {
    std::string project;                             // "": the organization's
    config::BudgetSpec spec;
  };

  Budgets(std::string organization, std::string currency);

  // Replaces the budgets; spending and holds stay. bad_config (nothing changed) for an unknown time zone, a negative amount,
  // or a kind of budget that cannot be kept exactly (tag).
  Result<> configure(const std::vector<ScopedSpec>& specs, std::int64_t unix_ns);
  static Result<> check(const std::vector<ScopedSpec>& specs);   // what configure would say

  // Recovery, before anything is held: settled spending by UTC hour; hour INT64_MIN: at some time before kept hours.
  void recover(std::string_view project, std::string_view model, std::int64_t hour_unix_s, Money amount);
  // Hours are too coarse for a period that starts within one (Asia/Kolkata): the whole hour was counted. These are such
  // starts; correct() takes what was spent in that hour before the start out again.
  std::vector<std::int64_t> uneven_starts() const;
  void correct(std::int64_t period_start_s, std::string_view project, std::string_view model, Money before_start);

  void set_balance(Money balance);                   // prepaid from now on
  void adjust_balance(Money delta) { balance_.nano += delta.nano; }
  bool prepaid() const { return prepaid_; }
  Money balance() const { return balance_; }

  Purpose purpose(std::string_view project, std::string_view model);

  // Sets `amount` aside, or says why not and changes nothing. `unix_ns`: now; for the extension of a hold also the instant
  // at which it was first taken.
  std::optional<Shortage> hold(Purpose purpose, Money amount, std::int64_t unix_ns) { return hold(purpose, amount, unix_ns, unix_ns); }
  std::optional<Shortage> hold(Purpose purpose, Money amount, std::int64_t unix_ns, std::int64_t taken_ns);
  // Ends what hold() set aside (`held` in all, once) with a charge <= held; 0 releases. The charge counts at `unix_ns`, which
  // is not before `taken_ns`.
  std::vector<BudgetEvent> settle(Purpose purpose, Money held, Money charge, std::int64_t unix_ns, std::int64_t taken_ns);
  // Gives back a part of what is set aside, which goes on.
  void reduce(Purpose purpose, Money amount, std::int64_t taken_ns);

  Money held() const { return held_; }               // of all holds of the organization
  std::vector<BudgetState> states(std::int64_t unix_ns);

 private:
  struct Spent {
    Period period;
    Money amount;
    Money taken;                                     // set aside by holds that were taken in it and are open
    std::int64_t warned = 0;                         // the highest threshold told, percent
  };
  struct Budget {
    std::string project;
    config::BudgetSpec spec;
    const TimeZone* zone = nullptr;
    Money held;
    std::vector<Spent> periods;                      // visited lately, oldest start first; a clock set back finds its own
    std::size_t running = 0;                         // index of the one of the last call
    std::int64_t newest_s = INT64_MIN;               // the latest start ever seen
  };
  struct Use {
    std::string project, model;
    Money held;
    Money before;                                    // spent earlier than `hours`
    std::vector<std::pair<std::int64_t, Money>> hours;   // spent by UTC hour, ascending
    std::vector<std::uint32_t> budgets;              // that count it
  };

  struct ByView {                                    // pairs of strings found by pairs of views
    using is_transparent = void;
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      const int projects = std::string_view(a.first).compare(b.first);
      return projects != 0 ? projects < 0 : std::string_view(a.second) < std::string_view(b.second);
    }
  };

  bool counts(const Budget& budget, const Use& use) const;
  Spent& running(Budget& budget, std::int64_t unix_s);
  static Spent* find(Budget& budget, std::int64_t unix_s);
  // What still fits, in the period of `unix_s` and in every later one that was seen.
  Money free(Budget& budget, std::int64_t unix_s);
  Money spent_in(const Budget& budget, const Period& period) const;
  std::string label(const Budget& budget) const;
  Shortage shortage(const Use& use, Money amount, std::int64_t unix_s);
  static void add_hour(Use& use, std::int64_t hour, Money amount);

  std::string organization_, currency_;
  std::vector<Budget> budgets_;
  std::deque<Use> uses_;
  std::map<std::pair<std::string, std::string>, Purpose, ByView> purposes_;
  bool prepaid_ = false;
  Money balance_, held_;
};

}  // namespace tokenworks::billing
