#include "tokenworks/billing/budgets.hpp"

#include <algorithm>
#include <cassert>

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;

constexpr std::size_t kHoursKept = 33 * 24;          // longer than any month in any zone
constexpr std::size_t kPeriodsKept = 32;           // as far as a clock may be set back without harm
constexpr std::int64_t kNanoPerSecond = 1'000'000'000;

Money saturated(Wide nano) {
  return Money{static_cast<std::int64_t>(std::clamp<Wide>(nano, INT64_MIN, INT64_MAX))};
}
Money plus(Money a, Money b) { return saturated(Wide{a.nano} + b.nano); }

std::int64_t hour_of(std::int64_t unix_s) { return unix_s - ((unix_s % 3600) + 3600) % 3600; }

const char* name(config::BudgetSpec::Per per) {
  switch (per) {
    case config::BudgetSpec::Per::day: return "per day";
    case config::BudgetSpec::Per::week: return "per week";
    case config::BudgetSpec::Per::month: return "per month";
    case config::BudgetSpec::Per::total: return "in total";
  }
  return "";
}

bool same(const config::BudgetSpec& a, const config::BudgetSpec& b) {
  return a.per == b.per && a.timezone == b.timezone && a.model == b.model && a.tag == b.tag;
}

// The highest threshold that `spent` has reached, 0 for none.
std::int64_t reached(const config::BudgetSpec& spec, Money spent) {
  std::int64_t highest = 0;
  for (const std::int64_t percent : spec.warn_at) {
    if (percent > highest && Wide{spent.nano} * 100 >= Wide{spec.amount.nano} * percent && spent.nano > 0) highest = percent;
  }
  return highest;
}

}  // namespace

Budgets::Budgets(std::string organization, std::string currency)
    : organization_(std::move(organization)), currency_(std::move(currency)) {}

Result<> Budgets::check(const std::vector<ScopedSpec>& specs) {
  std::string mistakes;
  for (const ScopedSpec& scoped : specs) {
    const config::BudgetSpec& spec = scoped.spec;
    const auto mistake = [&](const std::string& what) {
      mistakes += (mistakes.empty() ? "" : "\n") + spec.where.file + ":" + std::to_string(spec.where.line) + ": " + what;
    };
    if (spec.amount.nano < 0) mistake("the amount " + to_string(spec.amount) + " of a budget is negative");
    for (const std::int64_t percent : spec.warn_at) {
      if (percent <= 0 || percent > 1000) mistake("warn_at " + std::to_string(percent) + " is not a percentage from 1 to 1000");
    }
    if (!spec.tag.empty()) mistake("budgets by tag are not kept yet, since the books cannot recover them; leave out tag");
    if (auto zone = TimeZone::find(spec.timezone); !zone) mistake(zone.error().message);
  }
  if (!mistakes.empty()) return error(Errc::bad_config, mistakes);
  return {};
}

Result<> Budgets::configure(const std::vector<ScopedSpec>& specs, std::int64_t unix_ns) {
  if (auto checked = check(specs); !checked) return checked.error();
  std::vector<Budget> old;
  old.swap(budgets_);
  for (const ScopedSpec& scoped : specs) {
    Budget budget{scoped.project, scoped.spec, *TimeZone::find(scoped.spec.timezone), {}, {}, 0, INT64_MIN};
    const auto known = std::ranges::find_if(
        old, [&](const Budget& b) { return b.project == budget.project && same(b.spec, budget.spec) && !b.periods.empty(); });
    if (known != old.end()) {
      // A changed amount has thresholds of its own: what they already crossed is told again, once.
      if (known->spec.amount != budget.spec.amount) {
        for (Spent& spent : known->periods) spent.warned = 0;
      }
      budget.periods = std::move(known->periods);
      known->periods.clear();                        // two equal budgets: the second starts from the hours
      budget.running = known->running;
      budget.newest_s = known->newest_s;
    }
    budgets_.push_back(std::move(budget));
  }
  for (Use& use : uses_) {
    use.budgets.clear();
    for (std::uint32_t i = 0; i < budgets_.size(); ++i) {
      if (!counts(budgets_[i], use)) continue;
      use.budgets.push_back(i);
      budgets_[i].held = plus(budgets_[i].held, use.held);
    }
  }
  for (Budget& budget : budgets_) running(budget, unix_ns / kNanoPerSecond);
  return {};
}

bool Budgets::counts(const Budget& budget, const Use& use) const {
  return (budget.project.empty() || budget.project == use.project) &&
         (budget.spec.model.empty() || budget.spec.model == use.model);
}

Money Budgets::spent_in(const Budget& budget, const Period& period) const {
  Money sum;
  for (const Use& use : uses_) {
    if (!counts(budget, use)) continue;
    if (period.start_s == INT64_MIN) sum = plus(sum, use.before);
    for (const auto& [hour, amount] : use.hours) {
      // An hour in which the period starts counts whole: rather refused early than overspent (see correct()).
      if (period.start_s == INT64_MIN || (hour >= hour_of(period.start_s) && hour < period.end_s)) sum = plus(sum, amount);
    }
  }
  return sum;
}

Budgets::Spent* Budgets::find(Budget& budget, std::int64_t unix_s) {
  const auto at = std::ranges::find_if(budget.periods, [&](const Spent& s) { return unix_s >= s.period.start_s && unix_s < s.period.end_s; });
  return at == budget.periods.end() ? nullptr : &*at;
}

// The period that `unix_s` falls in. Every charge passes here, so a period later than all seen before has no spending; what
// the first one has, and those a clock set back far leads to, stands in the hours.
Budgets::Spent& Budgets::running(Budget& budget, std::int64_t unix_s) {
  std::vector<Spent>& periods = budget.periods;
  if (budget.running < periods.size()) {
    Spent& last = periods[budget.running];
    if (unix_s >= last.period.start_s && unix_s < last.period.end_s) return last;
  }
  Spent* known = find(budget, unix_s);
  if (known == nullptr) {
    const Period period = period_of(budget.spec.per, *budget.zone, unix_s);
    const bool later = !periods.empty() && period.start_s > budget.newest_s;
    Spent spent{period, later ? Money{} : spent_in(budget, period), {}, 0};
    spent.warned = reached(budget.spec, spent.amount);
    if (periods.size() == kPeriodsKept) periods.erase(periods.begin());
    known = &*periods.insert(std::ranges::find_if(periods, [&](const Spent& s) { return s.period.start_s > period.start_s; }), spent);
    budget.newest_s = std::max(budget.newest_s, period.start_s);
  }
  budget.running = static_cast<std::size_t>(known - periods.data());
  return *known;
}

Money Budgets::free(Budget& budget, std::int64_t unix_s) {
  running(budget, unix_s);
  Wide least = INT64_MAX, held = budget.held.nano;
  // From the latest on: a hold taken in a later period is settled there or after, never in an earlier one.
  for (std::size_t i = budget.periods.size(); i-- > budget.running;) {
    least = std::min(least, Wide{budget.spec.amount.nano} - budget.periods[i].amount.nano - held);
    held -= budget.periods[i].taken.nano;
  }
  return saturated(least);
}

void Budgets::add_hour(Use& use, std::int64_t hour, Money amount) {
  if (amount.nano == 0) return;
  if (hour == INT64_MIN) {
    use.before = plus(use.before, amount);
    return;
  }
  if (use.hours.empty() || use.hours.back().first < hour) {
    use.hours.emplace_back(hour, amount);
  } else {
    const auto at = std::ranges::lower_bound(use.hours, hour, {}, [](const auto& h) { return h.first; });
    if (at->first == hour) {
      at->second = plus(at->second, amount);
    } else {
      use.hours.insert(at, {hour, amount});
    }
  }
  if (use.hours.size() > kHoursKept) {
    use.before = plus(use.before, use.hours.front().second);
    use.hours.erase(use.hours.begin());
  }
}

void Budgets::recover(std::string_view project, std::string_view model, std::int64_t hour_unix_s, Money amount) {
  add_hour(uses_[purpose(project, model)], hour_unix_s == INT64_MIN ? INT64_MIN : hour_of(hour_unix_s), amount);
}

std::vector<std::int64_t> Budgets::uneven_starts() const {
  std::vector<std::int64_t> starts;
  for (const Budget& budget : budgets_) {
    if (budget.running >= budget.periods.size()) continue;
    const std::int64_t start = budget.periods[budget.running].period.start_s;
    if (start != INT64_MIN && start != hour_of(start)) starts.push_back(start);
  }
  std::ranges::sort(starts);
  const auto repeated = std::ranges::unique(starts);
  starts.erase(repeated.begin(), repeated.end());
  return starts;
}

void Budgets::correct(std::int64_t period_start_s, std::string_view project, std::string_view model, Money before_start) {
  const Use use{std::string(project), std::string(model), {}, {}, {}, {}};
  for (Budget& budget : budgets_) {
    if (!counts(budget, use)) continue;
    for (Spent& spent : budget.periods) {
      if (spent.period.start_s != period_start_s) continue;
      spent.amount = saturated(Wide{spent.amount.nano} - before_start.nano);
      spent.warned = reached(budget.spec, spent.amount);
    }
  }
}

void Budgets::set_balance(Money balance) {
  prepaid_ = true;
  balance_ = balance;
}

Budgets::Purpose Budgets::purpose(std::string_view project, std::string_view model) {
  if (const auto it = purposes_.find(std::pair{project, model}); it != purposes_.end()) return it->second;
  const auto id = static_cast<Purpose>(uses_.size());
  Use& use = uses_.emplace_back();
  use.project = project;
  use.model = model;
  for (std::uint32_t i = 0; i < budgets_.size(); ++i) {
    if (counts(budgets_[i], use)) use.budgets.push_back(i);
  }
  purposes_.emplace(std::pair{use.project, use.model}, id);
  return id;
}

std::optional<Budgets::Shortage> Budgets::hold(Purpose purpose, Money amount, std::int64_t unix_ns, std::int64_t taken_ns) {
  assert(amount.nano >= 0 && purpose < uses_.size());
  Use& use = uses_[purpose];
  const std::int64_t at_s = std::max(unix_ns, taken_ns) / kNanoPerSecond, taken_s = taken_ns / kNanoPerSecond;
  if (amount.nano > 0) {
    bool fits = !prepaid_ || Wide{amount.nano} + held_.nano <= balance_.nano;
    for (std::size_t i = 0; fits && i < use.budgets.size(); ++i) {
      Budget& budget = budgets_[use.budgets[i]];
      fits = !budget.spec.hard || amount <= free(budget, at_s);
    }
    if (!fits) return shortage(use, amount, at_s);
    // All holds together stay countable, so that no sum below can overflow.
    if (Wide{amount.nano} + held_.nano > INT64_MAX) return Shortage{Money{0}, false, "more is set aside than money can be counted"};
  }
  use.held.nano += amount.nano;
  held_.nano += amount.nano;
  for (const std::uint32_t i : use.budgets) {
    budgets_[i].held.nano += amount.nano;
    running(budgets_[i], at_s);
    if (Spent* taken = find(budgets_[i], taken_s)) taken->taken.nano += amount.nano;
  }
  return std::nullopt;
}

void Budgets::reduce(Purpose purpose, Money amount, std::int64_t taken_ns) {
  Use& use = uses_[purpose];
  assert(amount.nano >= 0 && amount <= use.held && amount <= held_);
  use.held.nano -= amount.nano;
  held_.nano -= amount.nano;
  for (const std::uint32_t i : use.budgets) {
    Budget& budget = budgets_[i];
    budget.held.nano -= amount.nano;
    // A budget that came later by a reload did not see the taking: then rather too little is known as taken in a period.
    if (Spent* taken = find(budget, taken_ns / kNanoPerSecond)) taken->taken.nano -= std::min(taken->taken.nano, amount.nano);
  }
}

std::vector<BudgetEvent> Budgets::settle(Purpose purpose, Money held, Money charge, std::int64_t unix_ns, std::int64_t taken_ns) {
  assert(charge.nano >= 0 && charge <= held && unix_ns >= taken_ns);
  reduce(purpose, held, taken_ns);
  std::vector<BudgetEvent> events;
  if (charge.nano == 0) return events;
  Use& use = uses_[purpose];
  const std::int64_t now_s = unix_ns / kNanoPerSecond;
  for (const std::uint32_t i : use.budgets) {
    Budget& budget = budgets_[i];
    Spent& spent = running(budget, now_s);
    spent.amount = plus(spent.amount, charge);
    const std::int64_t now_reached = reached(budget.spec, spent.amount);
    for (const std::int64_t percent : budget.spec.warn_at) {
      if (percent <= spent.warned || percent > now_reached) continue;
      events.push_back({organization_, label(budget), percent, spent.period.start_s, budget.spec.amount, spent.amount});
    }
    spent.warned = std::max(spent.warned, now_reached);
  }
  add_hour(use, hour_of(now_s), charge);
  balance_ = saturated(Wide{balance_.nano} - charge.nano);
  return events;
}

std::string Budgets::label(const Budget& budget) const {
  std::string text = budget.project.empty() ? "organization " + organization_ : "project " + organization_ + "/" + budget.project;
  text += ", " + to_string(budget.spec.amount) + " " + currency_ + " " + name(budget.spec.per);
  if (!budget.spec.model.empty()) text += " for model " + budget.spec.model;
  return text;
}

Budgets::Shortage Budgets::shortage(const Use& use, Money amount, std::int64_t unix_s) {
  Shortage s{Money{INT64_MAX}, true, {}};
  const auto consider = [&](Money free, Money held, const auto& say) {
    if (free >= amount) return;
    if (held.nano > 0) s.alone = false;
    if (free >= s.available) return;
    s.available = std::max(free, Money{0});
    s.message = say() + ", " + to_string(held) + " is set aside for running requests, and this one may cost up to " +
                to_string(amount) + " " + currency_;
  };
  for (const std::uint32_t i : use.budgets) {
    Budget& budget = budgets_[i];
    if (!budget.spec.hard) continue;
    consider(free(budget, unix_s), budget.held, [&] {
      const Spent& spent = running(budget, unix_s);
      std::string text = "the budget (" + label(budget) + ") does not cover this request: " + to_string(spent.amount) + " is spent";
      if (spent.period.end_s != INT64_MAX) text += " until it renews at " + budget.zone->format(spent.period.end_s);
      return text;
    });
  }
  if (prepaid_) {
    consider(saturated(Wide{balance_.nano} - held_.nano), held_, [&] {
      return "the prepaid balance of organization " + organization_ + " does not cover this request: " + to_string(balance_) +
             " is left";
    });
  }
  return s;
}

std::vector<BudgetState> Budgets::states(std::int64_t unix_ns) {
  std::vector<BudgetState> states;
  for (Budget& budget : budgets_) {
    const Spent& spent = running(budget, unix_ns / kNanoPerSecond);
    states.push_back({budget.project, budget.spec, spent.period, spent.amount, budget.held});
  }
  return states;
}

}  // namespace tokenworks::billing
