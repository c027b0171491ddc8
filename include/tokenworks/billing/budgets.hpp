#pragma once
// Budgets: the money of one organization. What is spent and what is set aside in each of its budgets (the organization's
// and its projects', all of it or one model's, one key's or one tag's), and its balance. A hold fits all of them or none; checking and holding
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
#include "tokenworks/billing/balance.hpp"
#include "tokenworks/billing/period.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::billing {

// A budget reached one of its warn_at thresholds: told once per period, to the log and to webhooks. Organization, budget,
// start of the period and percent name it once and for all.
struct BudgetEvent {
  std::string organization, budget;                  // "project acme/search, 1 USD per day"
  std::int64_t percent = 0, period_start_s = 0;
  Money amount, spent;
  std::string project = {}, currency = {};           // project "": the organization's
  config::BudgetSpec spec = {};
};

struct BudgetState {                                 // a picture, for whoever asks
  std::string project;                               // "": the organization's
  config::BudgetSpec spec;
  Period period;
  Money spent, held;
};

class Budgets {
 public:
  using Purpose = std::uint32_t;                     // what a hold is for: made by claim(), or purpose() which stays valid

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
  // or a kind of budget that cannot be kept exactly (a tag's of one model, key or project: the books keep spend by tag alone).
  Result<> configure(const std::vector<ScopedSpec>& specs, std::int64_t unix_ns);
  static Result<> check(const std::vector<ScopedSpec>& specs);   // what configure would say

  // Recovery, before anything is held: settled spending by UTC hour; hour INT64_MIN: at some time before kept hours.
  void recover(std::string_view project, std::string_view model, std::int64_t hour_unix_s, Money amount);
  // Hours are too coarse for a period that starts within one (Asia/Kolkata): the whole hour was counted. These are such
  // starts; correct() takes what was spent in that hour before the start out again.
  std::vector<std::int64_t> uneven_starts() const;
  void correct(std::int64_t period_start_s, std::string_view project, std::string_view model, std::string_view key, Money before_start);

  // Spend by key and by tag is recovered for the budgets that name one, not for all there are. A budget that came by a
  // reload misses its history until it is given: forget_history() and then add_history() with what the books say. Charges
  // between the two are counted twice at worst, never missed.
  struct Unknown {
    std::size_t budget = 0;                          // index, until the next configure()
    std::string project, model, key, tag;
    std::int64_t from_s = INT64_MIN;                 // start of its running period
  };
  std::vector<Unknown> without_history() const;
  void forget_history(std::size_t budget);
  void add_history(std::size_t budget, std::int64_t bucket_unix_s, Money amount);   // INT64_MIN: at some time before
  void history_known(std::size_t budget);

  Balance& balance() { return balance_; }
  const Balance& balance() const { return balance_; }

  Purpose purpose(std::string_view project, std::string_view model);
  // For one request, with its key and its tags ("team=search"); valid until drop(), after its hold ended.
  Purpose claim(std::string_view project, std::string_view model, std::string_view key, std::vector<std::string> tags);
  void drop(Purpose purpose);
  // Whether a budget names this tag.
  bool names_tag(std::string_view tag) const;

  // Sets `amount` aside, or says why not and changes nothing. `unix_ns`: now; for the extension of a hold also the instant
  // at which it was first taken, and its epoch (see Balance).
  std::optional<Shortage> hold(Purpose purpose, Money amount, std::int64_t unix_ns) {
    return hold(purpose, amount, unix_ns, unix_ns, balance_.epoch());
  }
  std::optional<Shortage> hold(Purpose purpose, Money amount, std::int64_t unix_ns, std::int64_t taken_ns, Balance::Epoch epoch = 0);
  // Ends what hold() set aside (`held` in all, once) with a charge <= held; 0 releases. The charge counts at `unix_ns`, which
  // is not before `taken_ns`.
  std::vector<BudgetEvent> settle(Purpose purpose, Money held, Money charge, std::int64_t unix_ns, std::int64_t taken_ns,
                                  Balance::Epoch epoch = 0);
  // Gives back a part of what is set aside, which goes on.
  void reduce(Purpose purpose, Money amount, std::int64_t taken_ns, Balance::Epoch epoch = 0);

  Money held() const { return balance_.held(); }     // of all holds of the organization
  std::vector<BudgetState> states(std::int64_t unix_ns);
  // Every threshold that is reached in a running period, told or not: after a restart or a change nobody knows which were.
  std::vector<BudgetEvent> thresholds_reached(std::int64_t unix_ns);

 private:
  struct Spent {
    Period period;
    Money amount;
    Money taken;                                     // set aside by holds that were taken in it and are open
    std::int64_t warned = 0;                         // the highest threshold told, percent
  };
  using Hours = std::vector<std::pair<std::int64_t, Money>>;   // spent by UTC hour (by tag: a quarter of one), ascending
  struct Spending {
    Money before;                                    // earlier than `hours`
    Hours hours;
  };
  struct Budget {
    std::string project;
    config::BudgetSpec spec;
    const TimeZone* zone = nullptr;
    Money held;
    std::vector<Spent> periods;                      // visited lately, oldest start first; a clock set back finds its own
    std::size_t running = 0;                         // index of the one of the last call
    std::int64_t newest_s = INT64_MIN;               // the latest start ever seen
    Spending own;                                    // of a key's or a tag's budget
    bool known = true;                               // own holds all there was
  };
  struct Line {                                      // a project and a model
    std::string project, model;
    Spending spent;
    std::vector<std::uint32_t> budgets;              // that count it, whatever key and tags
    std::optional<Purpose> purpose;                  // the one that stays
  };
  struct Use {                                       // a purpose
    std::uint32_t line = 0;
    bool live = false;
    std::string key;
    std::vector<std::string> tags;
    Money held;
    std::vector<std::uint32_t> special;              // budgets of its key and tags
  };

  struct ByView {                                    // pairs of strings found by pairs of views
    using is_transparent = void;
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      const int projects = std::string_view(a.first).compare(b.first);
      return projects != 0 ? projects < 0 : std::string_view(a.second) < std::string_view(b.second);
    }
  };

  static bool special(const Budget& budget) { return !budget.spec.key.empty() || !budget.spec.tag.empty(); }
  static std::int64_t bucket_s(const Budget& budget) { return budget.spec.tag.empty() ? 3600 : 900; }
  bool counts(const Budget& budget, const Line& line) const;
  bool counts(const Budget& budget, const Use& use) const;
  void attach(Use& use);
  void release(Purpose purpose, Money amount, std::int64_t taken_ns);
  std::uint32_t line(std::string_view project, std::string_view model);
  template <class F>
  void each(const Use& use, const F& visit) {        // the budgets that count it
    for (const std::uint32_t i : lines_[use.line].budgets) visit(budgets_[i]);
    for (const std::uint32_t i : use.special) visit(budgets_[i]);
  }
  Spent& running(Budget& budget, std::int64_t unix_s);
  static Spent* find(Budget& budget, std::int64_t unix_s);
  // What still fits, in the period of `unix_s` and in every later one that was seen.
  Money free(Budget& budget, std::int64_t unix_s);
  Money spent_in(const Budget& budget, const Period& period) const;
  std::string label(const Budget& budget) const;
  BudgetEvent event(const Budget& budget, const Spent& spent, std::int64_t percent) const;
  Shortage shortage(const Use& use, Money amount, std::int64_t unix_s);
  static void add_hour(Spending& spending, std::int64_t hour, Money amount);

  std::string organization_, currency_;
  std::vector<Budget> budgets_;
  std::deque<Line> lines_;
  std::map<std::pair<std::string, std::string>, std::uint32_t, ByView> line_of_;
  std::deque<Use> uses_;
  std::vector<Purpose> unused_;                      // of uses_
  Balance balance_;
};

}  // namespace tokenworks::billing
