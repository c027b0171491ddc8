#include "admission_state.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "tokenworks/base/log.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::int64_t kMilli = 1'000'000, kSecond = 1'000'000'000;
constexpr std::int64_t kOldestSettle = 2 * kSecond;  // DESIGN "Ledger and money"
constexpr std::int64_t kLookEvery = 10 * kMilli;     // how often the ledger is asked how it is
constexpr std::int64_t kHistory = std::int64_t{33} * 24 * 3600;   // seconds of spending recovered by the hour: a month and more

using Specs = std::vector<billing::Budgets::ScopedSpec>;

Specs budgets_of(const config::PlanSpec& plan, const config::OrganizationSpec& organization) {
  Specs specs;
  for (const config::BudgetSpec& spec : plan.budgets) specs.push_back({"", spec});
  for (const config::BudgetSpec& spec : organization.budgets) specs.push_back({"", spec});
  for (const config::ProjectSpec& project : organization.projects) {
    for (const config::BudgetSpec& spec : project.budgets) specs.push_back({project.name, spec});
  }
  return specs;
}

std::map<std::string, tenancy::LimitSpec> limits_of(const config::OrganizationSpec& organization) {
  std::map<std::string, tenancy::LimitSpec> limits;
  for (const config::ProjectSpec& p : organization.projects) {
    limits[p.name] = {p.requests_per_minute, p.tokens_per_minute, p.concurrent_requests};
  }
  return limits;
}

}  // namespace

AdmissionState::~AdmissionState() {
  send_waiting();
  // Crash recovery settles these from their last PROGRESS; nothing is lost but the difference to it.
  if (!waiting_.empty()) log::error("ledger_records_unsent", {{"records", static_cast<std::int64_t>(waiting_.size())}});
}

Organization* AdmissionState::find(std::string_view name) const {
  const Table* table = table_.load(std::memory_order_acquire);
  if (table == nullptr) return nullptr;
  const auto it = table->find(name);
  return it == table->end() ? nullptr : it->second;
}

Result<> AdmissionState::apply(const config::Tenants& tenants, const std::shared_ptr<const billing::PriceBook>& prices) {
  std::lock_guard reload(reload_);
  struct Plan {
    const config::OrganizationSpec* spec;
    const config::PlanSpec* plan;
    Specs budgets;
  };
  std::vector<Plan> plans;
  std::string mistakes;
  const auto mistake = [&](const std::string& what) { mistakes += (mistakes.empty() ? "" : "\n") + what; };
  if (!currency_.empty() && currency_ != prices->currency()) {
    mistake("the price book's currency changed from " + currency_ + " to " + prices->currency() + "; the books are kept in " + currency_);
  }
  for (const config::OrganizationSpec& o : tenants.organizations) {
    const std::string where = o.where.file + ":" + std::to_string(o.where.line) + ": organization " + o.name + " ";
    const auto plan = std::ranges::find(tenants.plans, o.plan, &config::PlanSpec::name);
    if (plan == tenants.plans.end()) {
      mistake(where + "has no plan named '" + o.plan + "'");
      continue;
    }
    if (!o.currency.empty() && o.currency != prices->currency()) {
      mistake(where + "pays in " + o.currency + " but the price book is in " + prices->currency());
    }
    plans.push_back({&o, &*plan, budgets_of(*plan, o)});
    if (auto checked = billing::Budgets::check(plans.back().budgets); !checked) mistake(checked.error().message);
  }
  if (!mistakes.empty()) return error(Errc::bad_config, mistakes);

  // New organizations learn their past from the ledger before anybody can find them.
  const std::int64_t unix_ns = clock.unix_ns();
  const std::size_t known = organizations_.size();
  std::vector<Organization*> fresh;
  std::set<const Organization*> is_fresh;
  std::map<std::string_view, Organization*> all;
  for (Organization& o : organizations_) all[o.name] = &o;
  for (const Plan& p : plans) {
    if (all.contains(p.spec->name)) continue;
    fresh.push_back(&organizations_.emplace_back(p.spec->name, prices->currency()));
    is_fresh.insert(fresh.back());
    all[fresh.back()->name] = fresh.back();
  }
  Result<> recovered = recover(fresh);
  const auto configure = [&](Organization& o, const Plan& p) {
    std::lock_guard lock(o.mutex);
    o.plan = p.plan->name;
    o.tier = p.plan->tier;
    o.weight = static_cast<std::uint32_t>(std::clamp<std::int64_t>(p.plan->weight, 1, 1 << 20));
    o.reserve_output_tokens = std::max<std::int64_t>(1, p.plan->reserve_output_tokens);
    o.prices = prices;
    o.limits.configure({p.plan->requests_per_minute, p.plan->tokens_per_minute, p.plan->concurrent_requests}, limits_of(*p.spec));
    if (auto done = o.budgets.configure(p.budgets, unix_ns); !done) return done;   // checked above
    o.configured = true;
    return Result<>{};
  };
  for (const Plan& p : plans) {
    Organization& o = *all.at(p.spec->name);
    if (recovered && is_fresh.contains(&o)) recovered = configure(o, p);
  }
  if (recovered) recovered = correct_uneven(fresh);
  if (!recovered) {
    while (organizations_.size() > known) organizations_.pop_back();
    return recovered.error();
  }

  currency_ = prices->currency();
  std::set<const Organization*> named;
  for (const Plan& p : plans) {
    Organization& o = *all.at(p.spec->name);
    named.insert(&o);
    if (is_fresh.contains(&o)) continue;
    if (auto done = configure(o, p); !done) return done.error();
  }
  for (Organization& o : organizations_) {
    if (named.contains(&o)) continue;
    std::lock_guard lock(o.mutex);
    o.configured = false;
  }
  if (fresh.empty() && table_.load() != nullptr) return {};
  auto table = std::make_unique<Table>();
  for (Organization& o : organizations_) table->emplace(o.name, &o);
  table_.store(table.get(), std::memory_order_release);
  tables_.push_back(std::move(table));
  return {};
}

Result<> AdmissionState::recover(const std::vector<Organization*>& fresh) {
  if (fresh.empty()) return {};
  std::map<std::string_view, Organization*> wanted;
  for (Organization* o : fresh) wanted[o->name] = o;
  const auto of = [&](const std::string& name) {
    const auto it = wanted.find(name);
    return it == wanted.end() ? nullptr : it->second;
  };
  const std::int64_t now_s = clock.unix_ns() / kSecond;
  const std::int64_t horizon_s = (now_s - kHistory) / 3600 * 3600;
  ledger::UsageQuery before;
  before.from_unix_ns = INT64_MIN;
  before.to_unix_ns = horizon_s * kSecond;
  before.by_tier = false;
  if (horizon_s <= 0) before.to_unix_ns = 0;
  const auto old = ledger_.usage(before);
  if (!old) return old.error();
  for (const ledger::UsageRow& row : *old) {
    if (Organization* o = of(row.organization)) o->budgets.recover(short_project(row.project), row.model, INT64_MIN, row.cost);
  }
  const auto rows = ledger_.spend_since(before.to_unix_ns);
  if (!rows) return rows.error();
  for (const ledger::SpendRow& row : *rows) {
    Organization* o = of(row.organization.value);
    if (o != nullptr) o->budgets.recover(short_project(row.project.value), row.model.value, row.hour_unix_s, row.amount);
  }
  const auto balances = ledger_.balances();
  if (!balances) return balances.error();
  for (const ledger::BalanceRow& row : *balances) {
    Organization* o = of(row.organization.value);
    if (o != nullptr && row.prepaid) o->budgets.set_balance(row.balance);
    if (o != nullptr && !row.prepaid) o->budgets.adjust_balance(row.balance);
  }
  return {};
}

// Periods that start within an hour (Asia/Kolkata): takes out what that hour held before the start.
Result<> AdmissionState::correct_uneven(const std::vector<Organization*>& fresh) {
  std::map<std::int64_t, std::map<std::string_view, Organization*>> starts;
  for (Organization* o : fresh) {
    for (const std::int64_t start : o->budgets.uneven_starts()) starts[start][o->name] = o;
  }
  for (const auto& [start, organizations] : starts) {
    ledger::UsageQuery hour;
    hour.from_unix_ns = start / 3600 * 3600 * kSecond;
    hour.to_unix_ns = start * kSecond;
    hour.by_tier = false;
    const auto rows = ledger_.usage(hour);
    if (!rows) return rows.error();
    for (const ledger::UsageRow& row : *rows) {
      const auto it = organizations.find(row.organization);
      if (it != organizations.end()) it->second->budgets.correct(start, short_project(row.project), row.model, row.cost);
    }
  }
  return {};
}

Result<> AdmissionState::accepting() {
  const std::int64_t now = clock.steady_ns();
  if (now >= look_again_ns_.load(std::memory_order_relaxed)) {
    look_again_ns_.store(now + kLookEvery, std::memory_order_relaxed);
    send_waiting();
    behind_.store(ledger_.health().oldest_unacknowledged_settle_ns > kOldestSettle, std::memory_order_relaxed);
  }
  if (!behind_.load(std::memory_order_relaxed) && waiting_count_.load(std::memory_order_relaxed) == 0) return {};
  Error unavailable = error(Errc::ledger_unavailable, "The ledger cannot write at the moment; nothing is served that could not be booked");
  unavailable.retry_after_ms = 2000;
  return unavailable;
}

void AdmissionState::send(ledger::Record record, ledger::OnDurable durable) {
  if (ledger_.append(record, durable)) return;
  std::lock_guard lock(waiting_mutex_);
  waiting_.emplace_back(std::move(record), std::move(durable));
  waiting_count_.store(waiting_.size());
}

void AdmissionState::send_waiting() {
  if (waiting_count_.load(std::memory_order_relaxed) == 0) return;
  std::lock_guard lock(waiting_mutex_);
  while (!waiting_.empty() && ledger_.append(waiting_.front().first, waiting_.front().second)) waiting_.pop_front();
  waiting_count_.store(waiting_.size());
}

Place::~Place() {
  std::lock_guard lock(organization.mutex);
  organization.limits.leave(path);
}

RateState rate_state(const tenancy::Limits::State& s) {
  return {s.limit_requests, s.remaining_requests, s.reset_requests_ms, s.limit_tokens, s.remaining_tokens, s.reset_tokens_ms};
}

Error refused(const tenancy::Limits::Refusal& r, tenancy::Units wanted) {
  using What = tenancy::Limits::Refusal::What;
  const auto count = [](tenancy::Units units) { return std::to_string(units); };
  if (r.what == What::concurrency) {
    Error e = error(Errc::concurrency_limit_exceeded,
                    "Too many requests at once for " + r.scope + ": limit " + count(r.limit) + ", running " + count(r.used) +
                        ". Wait for one to finish.");
    e.retry_after_ms = 1000;                         // a guess: nobody knows when one finishes
    return e;
  }
  const char* unit = r.what == What::requests ? "requests" : "tokens";
  std::string message = std::string("Rate limit reached for ") + r.scope + " on " + unit + " per minute: limit " + count(r.limit) +
                        ", used " + count(r.used) + ", requested " + count(wanted) + ". ";
  if (r.retry_after_ms < 0) {
    message += "It can never fit; send a smaller request.";
  } else {
    message += "Please try again in " + format_decimal(r.retry_after_ms, 3) + "s.";
  }
  Error e = error(Errc::rate_limit_exceeded, std::move(message));
  e.retry_after_ms = r.retry_after_ms;
  return e;
}

std::string_view short_project(std::string_view project) {
  const std::size_t slash = project.find('/');
  return slash == std::string_view::npos ? project : project.substr(slash + 1);
}

}  // namespace tokenworks::gateway
