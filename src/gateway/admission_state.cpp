#include "admission_state.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "admission_hold.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/billing/price_archive.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::int64_t kMilli = 1'000'000, kSecond = 1'000'000'000;
constexpr std::int64_t kOldestSettle = 2 * kSecond;  // DESIGN "Ledger and money"
constexpr std::int64_t kLookEvery = 10 * kMilli;     // how often the ledger is asked how it is

using Specs = std::vector<billing::Budgets::ScopedSpec>;

std::map<std::string, tenancy::LimitSpec> limits_of(const config::OrganizationSpec& organization) {
  std::map<std::string, tenancy::LimitSpec> limits;
  for (const config::ProjectSpec& p : organization.projects) limits[p.name] = p;
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

Result<> AdmissionState::apply(const config::Tenants& tenants, const std::shared_ptr<const billing::PriceBook>& prices,
                               const std::function<Result<>()>& last_step) {
  std::lock_guard reload(reload_);
  return apply_locked(tenants, prices, last_step);
}

Result<> AdmissionState::refresh() {
  std::lock_guard reload(reload_);
  const config::Tenants tenants = tenants_;
  return apply_locked(tenants, prices_, {});
}

Result<> AdmissionState::apply_locked(const config::Tenants& tenants, const std::shared_ptr<const billing::PriceBook>& prices,
                                      const std::function<Result<>()>& last_step) {
  struct Plan {
    const config::OrganizationSpec* spec;
    const config::PlanSpec* plan;
    Specs budgets;
  };
  std::vector<Plan> plans;
  std::string mistakes;
  const auto mistake = [&](const std::string& what) { mistakes += (mistakes.empty() ? "" : "\n") + what; };
  if (!currency_.empty()) {
    if (const auto same = billing::check_currency(*prices, currency_); !same) mistake(same.error().message);
  } else {                                           // a start: what was paid and spent before was in this currency too
    const auto balances = ledger_.balances();
    if (!balances) return balances.error();
    if (const auto same = billing::check_currency(*prices, *balances); !same) mistake(same.error().message);
  }
  const auto settings = ledger_.settings("budget");
  if (!settings) return settings.error();
  const auto keys = ledger_.keys();
  if (!keys) return keys.error();
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
    plans.push_back({&o, &*plan, budgets_of(*plan, o, *settings, prices->currency())});
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
    o.reserved_tokens_per_second = p.plan->reserved_tokens_per_second;
    o.reserve_output_tokens = std::max<std::int64_t>(1, p.plan->reserve_output_tokens);
    o.prices = prices;
    o.limits.configure(*p.plan, limits_of(*p.spec), p.plan->model_limits);
    for (const ledger::KeyRow& key : *keys) {
      if (key.organization.value != o.name || (key.limits.empty() && !o.limits.knows_key(key.id.value))) continue;
      if (const auto limits = tenancy::parse_limits(key.limits)) o.limits.narrow_key(key.id.value, *limits);
    }
    o.budgets.balance().set_credit_line(p.spec->credit_line);
    if (auto done = o.budgets.configure(p.budgets, unix_ns); !done) return done;   // checked above
    o.configured = true;
    return Result<>{};
  };
  for (const Plan& p : plans) {
    Organization& o = *all.at(p.spec->name);
    if (recovered && is_fresh.contains(&o)) recovered = configure(o, p);
  }
  if (recovered) recovered = learn(fresh);
  if (recovered) recovered = correct_uneven(fresh);
  if (recovered && last_step) recovered = last_step();
  if (!recovered) {
    while (organizations_.size() > known) organizations_.pop_back();
    return recovered.error();
  }

  currency_ = prices->currency();
  if (&tenants != &tenants_) tenants_ = tenants;
  prices_ = prices;
  std::set<const Organization*> named;
  std::vector<Organization*> older;
  for (const Plan& p : plans) {
    Organization& o = *all.at(p.spec->name);
    named.insert(&o);
    if (is_fresh.contains(&o)) continue;
    if (auto done = configure(o, p); !done) return done.error();
    older.push_back(&o);
  }
  // What cannot be read now is read again later (tick): until then these budgets and windows count from here on.
  if (auto learned = learn(older); !learned) {
    log::error("spending_not_read", {{"why", learned.error().message}});
    learn_again_ = true;
  }
  for (Organization& o : organizations_) {
    if (named.contains(&o)) continue;
    std::lock_guard lock(o.mutex);
    o.configured = false;
  }
  tell_again_ = true;
  if (fresh.empty() && table_.load() != nullptr) return {};
  auto table = std::make_unique<Table>();
  for (Organization& o : organizations_) table->emplace(o.name, &o);
  table_.store(table.get(), std::memory_order_release);
  tables_.push_back(std::move(table));
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

void AdmissionState::tick(std::int64_t hold_expiry_ns) {
  const std::int64_t now_ns = clock.steady_ns(), unix_ns = clock.unix_ns();
  send_waiting();
  if (learn_again_.exchange(false)) {
    std::lock_guard reload(reload_);
    std::vector<Organization*> all;
    for (Organization& o : organizations_) all.push_back(&o);
    learn_again_ = !learn(all);
    tell_again_ = true;
  }
  tell_again(unix_ns);
  std::vector<Hold::Inside::Ended> ended;
  each([&](Organization& o) {
    std::vector<billing::Balance::Lapse> lapses;
    {
      std::lock_guard lock(o.mutex);
      for (Hold::Inside *hold = o.first_open, *next = nullptr; hold != nullptr; hold = next) {
        next = hold->after;
        if (now_ns - hold->heard_ns >= hold_expiry_ns) ended.push_back(hold->vanish());
      }
      lapses = o.budgets.balance().expire(unix_ns);
    }
    book(o, lapses);
    for (Hold::Inside::Ended& e : ended) {
      log::error("hold_expired", {{"request", e.record.request.to_string()}, {"organization", o.name}, {"why", "nothing was heard of its request"}});
      e.record.events = tell(e.events, e.record.unix_ns);
      send(std::move(e.record), {});
      book(o, e.lapses);
    }
    ended.clear();
  });
}

EventSink::Events AdmissionState::tell(const std::vector<billing::BudgetEvent>& reached, std::int64_t unix_ns) const {
  EventSink::Events outgoing;
  EventSink* sink = events.load(std::memory_order_acquire);
  for (const billing::BudgetEvent& e : reached) {
    log::warn("budget_threshold", {{"organization", e.organization}, {"budget", e.budget}, {"percent", e.percent},
                                   {"amount", to_string(e.amount, e.currency)}, {"spent", to_string(e.spent, e.currency)}, {"period_start", std::max<std::int64_t>(0, e.period_start_s)}});
    if (sink == nullptr) continue;
    for (ledger::OutboxEvent& event : sink->budget_threshold(e, unix_ns)) outgoing.push_back(std::move(event));
  }
  return outgoing;
}

// A crash between a charge and its event, a budget that a reload made smaller: nobody knows which thresholds were told, so all
// that are reached go to the outbox, which drops those it has had.
void AdmissionState::tell_again(std::int64_t unix_ns) {
  EventSink* sink = events.load(std::memory_order_acquire);
  if (sink == nullptr || !tell_again_.exchange(false)) return;
  EventSink::Events outgoing;
  each([&](Organization& o) {
    std::vector<billing::BudgetEvent> reached;
    {
      std::lock_guard lock(o.mutex);
      if (o.configured) reached = o.budgets.thresholds_reached(unix_ns);
    }
    for (const billing::BudgetEvent& e : reached) {
      for (ledger::OutboxEvent& event : sink->budget_threshold(e, unix_ns)) outgoing.push_back(std::move(event));
    }
  });
  if (!ledger_.put_events(std::move(outgoing))) tell_again_ = true;
}

void AdmissionState::book(const Organization& organization, const std::vector<billing::Balance::Lapse>& lapses) {
  for (const billing::Balance::Lapse& lapse : lapses) {
    ledger::Record record;
    record.type = ledger::EntryType::adjust;
    record.unix_ns = clock.unix_ns();
    // Follows from the credit's own id and from the instant, so the same lapse is booked once however often it is sent.
    const Digest digest = sha256("tokenworks credit expiry\n" + lapse.credit.to_string() + "\n" + std::to_string(lapse.mark));
    std::array<std::uint8_t, 10> random{};
    std::copy_n(digest.begin(), random.size(), random.begin());
    record.request = RequestId::make(record.unix_ns / 1'000'000, random);
    record.organization = OrganizationId{organization.name};
    record.actor = "service:credit-expiry";
    record.amount = Money{-lapse.amount.nano};
    record.currency = organization.currency;
    record.finish_reason = "expired";
    record.build_id = labels.build_id;
    record.region = labels.region;
    record.jurisdiction = labels.jurisdiction;
    if (EventSink* sink = events.load(std::memory_order_acquire)) {
      record.events = sink->credit_expired(organization.name, organization.currency, lapse, record.request, record.unix_ns);
    }
    log::info("credit_expired", {{"organization", organization.name}, {"credit", lapse.credit.to_string()}, {"amount", to_string(lapse.amount, organization.currency)}});
    send(std::move(record), {});
  }
}

Place::~Place() {
  std::lock_guard lock(organization.mutex);
  leave();
}

void Place::leave() {
  if (left) return;
  left = true;
  organization.limits.leave(path);
}

RateState rate_state(const tenancy::Limits::State& s) {
  using tenancy::Counted;
  RateState rates;
  rates.policies.reserve(s.size);
  for (std::uint32_t i = 0; i < s.size; ++i) {
    const tenancy::Limits::Policy& p = s.policies[i];
    rates.policies.push_back({tenancy::name(p.what), p.interval_s, p.limit, p.remaining, p.reset_ms});
    const auto tightest = [&p](std::int64_t& limit, std::int64_t& remaining, std::int64_t& reset_ms) {
      if (limit >= 0 && remaining <= p.remaining) return;
      limit = p.limit;
      remaining = p.remaining;
      reset_ms = p.reset_ms;
    };
    if (p.what == Counted::requests) tightest(rates.limit_requests, rates.remaining_requests, rates.reset_requests_ms);
    if (p.what == Counted::tokens) tightest(rates.limit_tokens, rates.remaining_tokens, rates.reset_tokens_ms);
  }
  return rates;
}

Error refused(const tenancy::Limits::Refusal& r) {
  const auto count = [](tenancy::Units units) { return std::to_string(units); };
  if (r.what == tenancy::Counted::concurrency) {
    Error e = error(Errc::concurrency_limit_exceeded,
                    "Too many requests at once for " + r.scope + ": limit " + count(r.limit) + ", running " + count(r.used) +
                        (r.limit == 0 ? "." : ". Wait for one to finish."));
    e.retry_after_ms = r.limit == 0 ? -1 : 1000;     // a guess: nobody knows when one finishes
    return e;
  }
  std::string message = "Rate limit reached for " + r.scope + " on " + tenancy::name(r.what) + " per " + tenancy::interval_name(r.interval_s) +
                        ": limit " + count(r.limit) + ", used " + count(r.used) + ", requested " + count(r.wanted) + ". ";
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
