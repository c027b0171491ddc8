// What admission learns from the books: spending and balances of organizations it has not seen yet, and the past of budgets
// and windows that a reload brought.
#include <algorithm>
#include <map>

#include "admission_state.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/gateway/orders.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::int64_t kMilli = 1'000'000, kSecond = 1'000'000'000;
constexpr std::int64_t kHistory = std::int64_t{33} * 24 * 3600;   // seconds of spending recovered by the hour: a month and more

}  // namespace

std::vector<billing::Budgets::ScopedSpec> budgets_of(const config::PlanSpec& plan, const config::OrganizationSpec& organization,
                                                     const std::vector<ledger::SettingRow>& settings,
                                                     const std::string& currency) {
  std::vector<billing::Budgets::ScopedSpec> specs;
  for (const config::BudgetSpec& spec : plan.budgets) specs.push_back({"", spec});
  for (const config::BudgetSpec& spec : organization.budgets) specs.push_back({"", spec});
  for (const config::ProjectSpec& project : organization.projects) {
    for (const config::BudgetSpec& spec : project.budgets) specs.push_back({project.name, spec});
  }
  for (const ledger::SettingRow& row : settings) {
    if (row.organization.value != organization.name) continue;
    if (const auto order = budget_from_json(row.json, currency)) {
      specs.push_back({order->project, order->spec});
    } else {
      log::error("budget_ignored", {{"organization", organization.name}, {"id", row.id}, {"why", order.error().message}});
    }
  }
  return specs;
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
  return recover_balances(fresh);
}

Result<> AdmissionState::recover_balances(const std::vector<Organization*>& fresh) {
  const auto balances = ledger_.balances();
  if (!balances) return balances.error();
  for (const ledger::BalanceRow& row : *balances) {
    const auto at = std::ranges::find(fresh, row.organization.value, &Organization::name);
    if (at == fresh.end()) continue;
    std::vector<ledger::Credit> credits;
    if (row.prepaid || row.balance.nano > 0) {
      auto kept = ledger_.credits(row.organization);
      if (!kept) return kept.error();
      credits = std::move(*kept);
    }
    std::int64_t remaining = 0;
    for (const ledger::Credit& credit : credits) remaining += credit.remaining.nano;
    // A ledger that keeps no credits knows the balance alone: one credit that never expires.
    if (credits.empty() && row.balance.nano > 0) {
      credits.push_back({{}, row.balance, row.balance, 0, 0});
      remaining = row.balance.nano;
    }
    const Money debt{std::max<std::int64_t>(0, remaining - row.balance.nano)};
    (*at)->budgets.balance().recover(std::move(credits), debt, row.prepaid);
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
    hour.by_key = true;
    const auto rows = ledger_.usage(hour);
    if (!rows) return rows.error();
    for (const ledger::UsageRow& row : *rows) {
      const auto it = organizations.find(row.organization);
      if (it != organizations.end()) it->second->budgets.correct(start, short_project(row.project), row.model, row.key, row.cost);
    }
  }
  return {};
}

Result<> AdmissionState::learn(const std::vector<Organization*>& organizations) {
  if (auto done = learn_spending(organizations); !done) return done;
  return learn_windows(organizations);
}

// Budgets of keys and tags. In this order nothing is missed: they count from now on; what was settled before is committed;
// the books are read and added. What is settled in between may count twice until the next start: never overspent.
Result<> AdmissionState::learn_spending(const std::vector<Organization*>& organizations) {
  struct Gap {
    Organization* organization;
    billing::Budgets::Unknown budget;
    ledger::TagHash tag{};
  };
  std::vector<Gap> gaps;
  bool keys = false, tags = false;
  std::int64_t earliest_s = INT64_MAX;
  for (Organization* o : organizations) {
    std::lock_guard lock(o->mutex);
    for (billing::Budgets::Unknown& budget : o->budgets.without_history()) {
      o->budgets.forget_history(budget.budget);
      Gap gap{o, std::move(budget), {}};
      if (const std::size_t equals = gap.budget.tag.find('='); equals != std::string::npos) {
        gap.tag = ledger::tag_hash(labels.tag_secret, OrganizationId{o->name}, gap.budget.tag.substr(0, equals), gap.budget.tag.substr(equals + 1));
        tags = true;
        earliest_s = std::min(earliest_s, gap.budget.from_s);
      } else {
        keys = true;
      }
      gaps.push_back(std::move(gap));
    }
  }
  if (gaps.empty()) return {};
  (void)ledger_.remove_setting("none", {}, "none", {});   // removes nothing; answers when all before it is committed

  std::map<std::size_t, std::vector<std::pair<std::int64_t, Money>>> found;   // by gap
  const auto matches = [](const Gap& gap, std::string_view organization, std::string_view project, std::string_view model, std::string_view key) {
    return gap.budget.tag.empty() && gap.organization->name == organization && gap.budget.key == key &&
           (gap.budget.project.empty() || gap.budget.project == short_project(project)) &&
           (gap.budget.model.empty() || gap.budget.model == model);
  };
  if (keys) {
    const std::int64_t horizon_s = std::max<std::int64_t>(0, (clock.unix_ns() / kSecond - kHistory) / 3600 * 3600);
    ledger::UsageQuery before;
    before.from_unix_ns = INT64_MIN;
    before.to_unix_ns = horizon_s * kSecond;
    before.by_tier = false;
    before.by_key = true;
    const auto old = ledger_.usage(before);
    if (!old) return old.error();
    const auto rows = ledger_.spend_since(horizon_s * kSecond);
    if (!rows) return rows.error();
    for (std::size_t i = 0; i < gaps.size(); ++i) {
      for (const auto& row : *old) {
        if (matches(gaps[i], row.organization, row.project, row.model, row.key)) found[i].emplace_back(INT64_MIN, row.cost);
      }
      for (const auto& row : *rows) {
        if (matches(gaps[i], row.organization.value, row.project.value, row.model.value, row.key.value)) found[i].emplace_back(row.hour_unix_s, row.amount);
      }
    }
  }
  if (tags) {
    const auto rows = ledger_.spend_by_tag(earliest_s < 0 ? 0 : earliest_s * kSecond);
    if (!rows) return rows.error();
    for (std::size_t i = 0; i < gaps.size(); ++i) {
      for (const auto& row : *rows) {
        if (gaps[i].budget.tag.empty() || row.tag != gaps[i].tag || row.organization.value != gaps[i].organization->name) continue;
        found[i].emplace_back(row.bucket_unix_s, row.amount);
      }
    }
  }
  for (std::size_t i = 0; i < gaps.size(); ++i) {
    Organization& o = *gaps[i].organization;
    std::lock_guard lock(o.mutex);
    for (const auto& [bucket, amount] : found[i]) o.budgets.add_history(gaps[i].budget.budget, bucket, amount);
    o.budgets.history_known(gaps[i].budget.budget);
  }
  return {};
}

// Windows of an hour in minutes, those of a day in hours of the books, each counted at its end: rather too long than too short.
Result<> AdmissionState::learn_windows(const std::vector<Organization*>& organizations) {
  std::map<std::string_view, Organization*> lacking[tenancy::Limits::kIntervals];
  for (Organization* o : organizations) {
    std::lock_guard lock(o->mutex);
    for (std::size_t i = 1; i < tenancy::Limits::kIntervals; ++i) {
      if (o->limits.lacks_history(i)) lacking[i][o->name] = o;
    }
  }
  for (std::size_t i = 1; i < tenancy::Limits::kIntervals; ++i) {
    if (lacking[i].empty()) continue;
    const std::int64_t unix_ms = clock.unix_ns() / kMilli, steady_ms = clock.steady_ms();
    const std::int64_t bucket_s = i == 1 ? 60 : 3600;
    ledger::UsageQuery query;
    query.from_unix_ns = std::max<std::int64_t>(0, unix_ms / 1000 - tenancy::kIntervalSeconds[i] - bucket_s) / bucket_s * bucket_s * kSecond;
    query.bucket_seconds = bucket_s;
    query.by_tier = false;
    query.by_key = true;
    const auto rows = ledger_.usage(query);
    if (!rows) return rows.error();
    for (const ledger::UsageRow& row : *rows) {
      const auto at = lacking[i].find(row.organization);
      if (at == lacking[i].end()) continue;
      Organization& o = *at->second;
      std::lock_guard lock(o.mutex);
      const auto path = o.limits.path(short_project(row.project), row.key, row.model);
      const std::int64_t ago_ms = std::max<std::int64_t>(0, unix_ms - (row.bucket_unix_s + bucket_s) * 1000);
      o.limits.recover(i, path, row.requests, {row.usage.input, row.usage.output}, steady_ms - ago_ms, steady_ms);
    }
  }
  for (std::size_t i = 1; i < tenancy::Limits::kIntervals; ++i) {
    for (const auto& [name, o] : lacking[i]) {
      std::lock_guard lock(o->mutex);
      o->limits.history_known();
    }
  }
  return {};
}

}  // namespace tokenworks::gateway
