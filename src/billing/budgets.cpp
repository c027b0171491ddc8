#include "tokenworks/billing/budgets.hpp"

#include <algorithm>
#include <cassert>

namespace tokenworks::billing {
namespace {

__extension__ typedef __int128 Wide;

constexpr std::size_t kHoursKept = 33 * 24 * 4;      // buckets: longer than any month in any zone, also in quarters of an hour
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
  return a.per == b.per && a.timezone == b.timezone && a.model == b.model && a.tag == b.tag && a.key == b.key;
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
    if (!spec.tag.empty() && (!spec.model.empty() || !spec.key.empty() || !scoped.project.empty())) {
      mistake("a budget of a tag counts the whole organization's spend with it; leave out model, key and project");
    }
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
    Budget budget;
    budget.project = scoped.project;
    budget.spec = scoped.spec;
    budget.zone = *TimeZone::find(scoped.spec.timezone);
    budget.known = !special(budget);
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
      budget.own = known->own;
      budget.known = known->known;
    }
    budgets_.push_back(std::move(budget));
  }
  for (Line& line : lines_) {
    line.budgets.clear();
    for (std::uint32_t i = 0; i < budgets_.size(); ++i) {
      if (!special(budgets_[i]) && counts(budgets_[i], line)) line.budgets.push_back(i);
    }
  }
  for (Use& use : uses_) {
    if (!use.live) continue;
    attach(use);
    each(use, [&](Budget& budget) { budget.held = plus(budget.held, use.held); });
  }
  for (Budget& budget : budgets_) running(budget, unix_ns / kNanoPerSecond);
  return {};
}

bool Budgets::counts(const Budget& budget, const Line& line) const {
  return (budget.project.empty() || budget.project == line.project) &&
         (budget.spec.model.empty() || budget.spec.model == line.model);
}

bool Budgets::counts(const Budget& budget, const Use& use) const {
  return counts(budget, lines_[use.line]) && (budget.spec.key.empty() || budget.spec.key == use.key) &&
         (budget.spec.tag.empty() || std::ranges::find(use.tags, budget.spec.tag) != use.tags.end());
}

void Budgets::attach(Use& use) {
  use.special.clear();
  for (std::uint32_t i = 0; i < budgets_.size(); ++i) {
    if (special(budgets_[i]) && counts(budgets_[i], use)) use.special.push_back(i);
  }
}

Money Budgets::spent_in(const Budget& budget, const Period& period) const {
  Money sum;
  const auto add = [&](const Spending& spending, std::int64_t bucket) {
    if (period.start_s == INT64_MIN) sum = plus(sum, spending.before);
    for (const auto& [from, amount] : spending.hours) {
      // A bucket in which the period starts counts whole: rather refused early than overspent (see correct()).
      if (period.start_s == INT64_MIN || (from + bucket > period.start_s && from < period.end_s)) sum = plus(sum, amount);
    }
  };
  if (special(budget)) {
    add(budget.own, bucket_s(budget));
    return sum;
  }
  for (const Line& line : lines_) {
    if (counts(budget, line)) add(line.spent, 3600);
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

void Budgets::add_hour(Spending& use, std::int64_t hour, Money amount) {
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
  add_hour(lines_[line(project, model)].spent, hour_unix_s == INT64_MIN ? INT64_MIN : hour_of(hour_unix_s), amount);
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

void Budgets::correct(std::int64_t period_start_s, std::string_view project, std::string_view model, std::string_view key,
                      Money before_start) {
  const Line line{std::string(project), std::string(model), {}, {}, {}};
  for (Budget& budget : budgets_) {
    if (!budget.spec.tag.empty() || !counts(budget, line) || (!budget.spec.key.empty() && budget.spec.key != key)) continue;
    for (Spent& spent : budget.periods) {
      if (spent.period.start_s != period_start_s) continue;
      spent.amount = saturated(Wide{spent.amount.nano} - before_start.nano);
      spent.warned = reached(budget.spec, spent.amount);
    }
  }
}

std::vector<Budgets::Unknown> Budgets::without_history() const {
  std::vector<Unknown> unknown;
  for (std::size_t i = 0; i < budgets_.size(); ++i) {
    const Budget& b = budgets_[i];
    if (b.known) continue;
    const std::int64_t from = b.running < b.periods.size() ? b.periods[b.running].period.start_s : INT64_MIN;
    unknown.push_back({i, b.project, b.spec.model, b.spec.key, b.spec.tag, from});
  }
  return unknown;
}

void Budgets::forget_history(std::size_t budget) {
  Budget& b = budgets_.at(budget);
  b.own = {};
  for (Spent& spent : b.periods) spent.amount = {};
}

void Budgets::add_history(std::size_t budget, std::int64_t bucket_unix_s, Money amount) {
  Budget& b = budgets_.at(budget);
  add_hour(b.own, bucket_unix_s, amount);
  const std::int64_t bucket = bucket_s(b);
  for (Spent& spent : b.periods) {
    const Period& p = spent.period;
    const bool within = bucket_unix_s != INT64_MIN && bucket_unix_s + bucket > p.start_s && bucket_unix_s < p.end_s;
    if (p.start_s == INT64_MIN || within) spent.amount = plus(spent.amount, amount);
  }
}

void Budgets::history_known(std::size_t budget) {
  Budget& b = budgets_.at(budget);
  b.known = true;
  for (Spent& spent : b.periods) spent.warned = std::max(spent.warned, reached(b.spec, spent.amount));
}

std::uint32_t Budgets::line(std::string_view project, std::string_view model) {
  if (const auto it = line_of_.find(std::pair{project, model}); it != line_of_.end()) return it->second;
  const auto id = static_cast<std::uint32_t>(lines_.size());
  Line& line = lines_.emplace_back();
  line.project = project;
  line.model = model;
  for (std::uint32_t i = 0; i < budgets_.size(); ++i) {
    if (!special(budgets_[i]) && counts(budgets_[i], line)) line.budgets.push_back(i);
  }
  line_of_.emplace(std::pair{line.project, line.model}, id);
  return id;
}

Budgets::Purpose Budgets::purpose(std::string_view project, std::string_view model) {
  const std::uint32_t at = line(project, model);
  if (!lines_[at].purpose) lines_[at].purpose = claim(project, model, {}, {});
  return *lines_[at].purpose;
}

Budgets::Purpose Budgets::claim(std::string_view project, std::string_view model, std::string_view key, std::vector<std::string> tags) {
  const std::uint32_t at = line(project, model);
  Purpose id = 0;
  if (unused_.empty()) {
    id = static_cast<Purpose>(uses_.size());
    uses_.emplace_back();
  } else {
    id = unused_.back();
    unused_.pop_back();
  }
  Use& use = uses_[id];
  use.line = at;
  use.live = true;
  use.key = key;
  use.tags = std::move(tags);
  attach(use);
  return id;
}

void Budgets::drop(Purpose purpose) {
  Use& use = uses_[purpose];
  assert(use.live && use.held.nano == 0);
  use.live = false;
  unused_.push_back(purpose);
}

bool Budgets::names_tag(std::string_view tag) const {
  return std::ranges::any_of(budgets_, [tag](const Budget& b) { return !b.spec.tag.empty() && b.spec.tag == tag; });
}

std::optional<Budgets::Shortage> Budgets::hold(Purpose purpose, Money amount, std::int64_t unix_ns, std::int64_t taken_ns,
                                               Balance::Epoch epoch) {
  assert(amount.nano >= 0 && purpose < uses_.size() && uses_[purpose].live);
  Use& use = uses_[purpose];
  const std::int64_t at_s = std::max(unix_ns, taken_ns) / kNanoPerSecond, taken_s = taken_ns / kNanoPerSecond;
  if (amount.nano > 0) {
    bool fits = !balance_.limited() || amount <= balance_.free();
    each(use, [&](Budget& budget) { fits = fits && (!budget.spec.hard || amount <= free(budget, at_s)); });
    if (!fits) return shortage(use, amount, at_s);
    // All holds together stay countable, so that no sum below can overflow.
    if (Wide{amount.nano} + held().nano > INT64_MAX) return Shortage{Money{0}, false, "more is set aside than money can be counted"};
  }
  use.held.nano += amount.nano;
  balance_.hold(amount, epoch);
  each(use, [&](Budget& budget) {
    budget.held.nano += amount.nano;
    running(budget, at_s);
    if (Spent* taken = find(budget, taken_s)) taken->taken.nano += amount.nano;
  });
  return std::nullopt;
}

void Budgets::reduce(Purpose purpose, Money amount, std::int64_t taken_ns, Balance::Epoch epoch) {
  release(purpose, amount, taken_ns);
  balance_.end(amount, Money{0}, epoch);
}

void Budgets::release(Purpose purpose, Money amount, std::int64_t taken_ns) {
  Use& use = uses_[purpose];
  assert(amount.nano >= 0 && amount <= use.held && amount <= held());
  use.held.nano -= amount.nano;
  each(use, [&](Budget& budget) {
    budget.held.nano -= amount.nano;
    // A budget that came later by a reload did not see the taking: then rather too little is known as taken in a period.
    if (Spent* taken = find(budget, taken_ns / kNanoPerSecond)) taken->taken.nano -= std::min(taken->taken.nano, amount.nano);
  });
}

std::vector<BudgetEvent> Budgets::settle(Purpose purpose, Money held, Money charge, std::int64_t unix_ns, std::int64_t taken_ns,
                                         Balance::Epoch epoch) {
  assert(charge.nano >= 0 && charge <= held && unix_ns >= taken_ns);
  release(purpose, held, taken_ns);
  balance_.end(held, charge, epoch);
  std::vector<BudgetEvent> events;
  if (charge.nano == 0) return events;
  Use& use = uses_[purpose];
  const std::int64_t now_s = unix_ns / kNanoPerSecond;
  each(use, [&](Budget& budget) {
    Spent& spent = running(budget, now_s);
    spent.amount = plus(spent.amount, charge);
    const std::int64_t now_reached = reached(budget.spec, spent.amount);
    for (const std::int64_t percent : budget.spec.warn_at) {
      if (percent <= spent.warned || percent > now_reached) continue;
      events.push_back(event(budget, spent, percent));
    }
    spent.warned = std::max(spent.warned, now_reached);
    const std::int64_t bucket = bucket_s(budget);
    if (special(budget)) add_hour(budget.own, now_s - ((now_s % bucket) + bucket) % bucket, charge);
  });
  add_hour(lines_[use.line].spent, hour_of(now_s), charge);
  return events;
}

BudgetEvent Budgets::event(const Budget& budget, const Spent& spent, std::int64_t percent) const {
  return {organization_, label(budget),  percent,     spent.period.start_s, budget.spec.amount,
          spent.amount,  budget.project, currency_, budget.spec};
}

std::vector<BudgetEvent> Budgets::thresholds_reached(std::int64_t unix_ns) {
  std::vector<BudgetEvent> events;
  for (Budget& budget : budgets_) {
    if (budget.spec.warn_at.empty() || !budget.known) continue;
    const Spent& spent = running(budget, unix_ns / kNanoPerSecond);
    const std::int64_t now_reached = reached(budget.spec, spent.amount);
    for (const std::int64_t percent : budget.spec.warn_at) {
      if (percent <= now_reached) events.push_back(event(budget, spent, percent));
    }
  }
  return events;
}

std::string Budgets::label(const Budget& budget) const {
  std::string text = budget.project.empty() ? "organization " + organization_ : "project " + organization_ + "/" + budget.project;
  text += ", " + to_string(budget.spec.amount, currency_) + " " + currency_ + " " + name(budget.spec.per);
  if (!budget.spec.model.empty()) text += " for model " + budget.spec.model;
  if (!budget.spec.key.empty()) text += " for key " + budget.spec.key;
  if (!budget.spec.tag.empty()) text += " for tag " + budget.spec.tag;
  return text;
}

Budgets::Shortage Budgets::shortage(const Use& use, Money amount, std::int64_t unix_s) {
  Shortage s{Money{INT64_MAX}, true, {}};
  const auto consider = [&](Money free, Money held, const auto& say) {
    if (free >= amount) return;
    if (held.nano > 0) s.alone = false;
    if (free >= s.available) return;
    s.available = std::max(free, Money{0});
    s.message = say() + ", " + to_string(held, currency_) + " is set aside for running requests, and this one may cost up to " +
                to_string(amount, currency_) + " " + currency_;
  };
  each(use, [&](Budget& budget) {
    if (!budget.spec.hard) return;
    consider(free(budget, unix_s), budget.held, [&] {
      const Spent& spent = running(budget, unix_s);
      std::string text = "the budget (" + label(budget) + ") does not cover this request: " + to_string(spent.amount, currency_) + " is spent";
      if (spent.period.end_s != INT64_MAX) text += " until it renews at " + budget.zone->format(spent.period.end_s);
      return text;
    });
  });
  if (balance_.limited()) {
    consider(balance_.free(), held(), [&] {
      if (!balance_.credit_line()) {
        return "the prepaid balance of organization " + organization_ + " does not cover this request: " + to_string(balance_.balance(), currency_) +
               " is left";
      }
      return "the credit line of organization " + organization_ + ", " + to_string(*balance_.credit_line(), currency_) + " " + currency_ +
             ", does not cover this request: " + to_string(Money{std::max<std::int64_t>(0, -balance_.balance().nano)}, currency_) + " is unpaid";
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
