#include "money_desk.hpp"

#include <algorithm>
#include <ctime>

#include "tokenworks/base/crypto.hpp"

namespace tokenworks::gateway {
namespace {

constexpr const char* kDeclared = "config-";         // ids of budgets that stand in the configuration begin so

Error refuse(std::string message, std::string param) { return error(Errc::invalid_request, std::move(message), std::move(param)); }

Result<const config::OrganizationSpec*> find(const config::Tenants& tenants, const std::string& name) {
  const auto at = std::ranges::find(tenants.organizations, name, &config::OrganizationSpec::name);
  if (at != tenants.organizations.end()) return &*at;
  std::vector<std::string> names;
  for (const auto& o : tenants.organizations) names.push_back(o.name);
  const auto near = config::nearest(name, names);
  return error(Errc::not_found, "there is no organization '" + name.substr(0, 64) + "'" + (near ? "; did you mean '" + *near + "'?" : ""), "organization");
}

// The ids of the budgets of the configuration, in the order in which admission has them (budgets_of).
std::vector<std::string> declared_ids(const config::Tenants& tenants, const config::OrganizationSpec& o) {
  std::vector<std::string> ids;
  const auto number = [&](const std::string& of, std::size_t count) {
    for (std::size_t i = 1; i <= count; ++i) ids.push_back(kDeclared + of + "-" + std::to_string(i));
  };
  const auto plan = std::ranges::find(tenants.plans, o.plan, &config::PlanSpec::name);
  if (plan != tenants.plans.end()) number("plan", plan->budgets.size());
  number("organization", o.budgets.size());
  for (const config::ProjectSpec& p : o.projects) number("project-" + p.name, p.budgets.size());
  return ids;
}

std::string instant(std::int64_t unix_ns) {
  const std::time_t seconds = unix_ns / 1'000'000'000;
  std::tm utc{};
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc))};
}

std::string hash_of(const std::string& json) { return json.empty() ? "" : hex(sha256(json)); }

Error declared(const std::string& id) {
  return error(Errc::declared_in_config, "the budget '" + id + "' is declared in the configuration; change it there and reload", "id");
}

}  // namespace

Result<std::vector<ledger::SettingRow>> MoneyDesk::settings(const char* kind, const std::string& organization) {
  auto rows = ledger_.settings(kind);
  if (rows) std::erase_if(*rows, [&](const ledger::SettingRow& row) { return row.organization.value != organization; });
  return rows;
}

// Whether the very same was booked; another one under its id is an error.
Result<std::optional<ledger::Entry>> MoneyDesk::booked_before(const ledger::Record& record, const CreditOrder& order) {
  const auto entries = ledger_.entries_of(record.request);
  if (!entries) return entries.error();
  if (entries->empty()) return std::nullopt;
  const ledger::Entry& entry = entries->front();
  const bool same_expiry = order.lasts_ns != 0 ? entry.expires_unix_ns - entry.unix_ns == order.lasts_ns : entry.expires_unix_ns == record.expires_unix_ns;
  if (entry.type == record.type && entry.amount == record.amount && same_expiry) return entry;
  return error(Errc::idempotency_mismatch, "the id '" + order.id + "' was already used for another credit of " + to_string(entry.amount, entry.currency) +
                                               "; a new credit needs a new id", "id");
}

Result<CreditBooked> MoneyDesk::add_credit(const config::Tenants& tenants, const std::string& organization, const CreditOrder& order,
                                           const std::string& actor) {
  const auto o = find(tenants, organization);
  if (!o) return o.error();
  ledger::Record record;
  record.type = order.correction ? ledger::EntryType::adjust : ledger::EntryType::topup;
  record.unix_ns = clock_.unix_ns();
  record.request = operation_id(organization, order.id);
  record.organization = OrganizationId{organization};
  record.actor = actor.substr(0, actor.find(' '));
  record.amount = order.amount;
  record.currency = (*o)->currency;
  record.expires_unix_ns = order.lasts_ns != 0 ? record.unix_ns + order.lasts_ns : order.expires_unix_ns;
  const auto balance = [&] { return admission_.standing(organization)->balance.value_or(Money{}); };
  const auto before = booked_before(record, order);
  if (!before) return before.error();
  CreditOrder booked = order;
  if (*before) {
    booked.expires_unix_ns = (*before)->expires_unix_ns;   // counted from when it was booked, not from now
    settle_doubt(record.request);
    const auto names = settings("credit", organization);   // a kill may have come between the entry and its name
    if (names && std::ranges::find(*names, record.request.to_string(), &ledger::SettingRow::id) == names->end()) {
      keep_name(record, order.id, actor);
    }
    return CreditBooked{record.request, record.currency, booked, false, balance()};
  }
  const auto doubt = doubts_.find(record.request);
  const bool again = doubt != doubts_.end();
  if (again && (doubt->second.type != record.type || doubt->second.amount != record.amount)) {
    return error(Errc::idempotency_mismatch, "the id '" + order.id + "' was already used for another credit of " +
                                                 to_string(doubt->second.amount, record.currency) + ", which may still be booked; a new credit needs a new id", "id");
  }
  if (again) record = doubt->second;                 // the very same, or the ledger would take it for another one
  booked.expires_unix_ns = record.expires_unix_ns;
  if (!again && record.expires_unix_ns != 0 && record.expires_unix_ns <= record.unix_ns) {
    return refuse("'expires' is " + instant(record.expires_unix_ns) + ", which is in the past", "expires");
  }

  const ledger::AuditEvent audit{record.unix_ns, actor, order.correction ? "credit.correct" : "credit.add", organization + "/" + order.id, "",
                                 hash_of(order.id + "\n" + to_string(order.amount, record.currency) + "\n" + std::to_string(record.expires_unix_ns))};
  // What goes away is set aside before it is booked, so that nobody spends it meanwhile.
  const bool takes = order.amount.nano < 0;
  if (takes && !again) {
    if (auto taken = admission_.adjust_balance(organization, order.amount, false, record.request); !taken) return taken.error();
  }
  if (auto done = ledger_.book(record, audit); !done) {
    if (done.error().code == Errc::ledger_unavailable) {
      doubts_.insert_or_assign(record.request, record);
      return done.error();
    }
    doubts_.erase(record.request);
    if (takes) (void)admission_.adjust_balance(organization, Money{-order.amount.nano}, false, record.request);
    return done.error();
  }
  doubts_.erase(record.request);
  if (!takes) {
    auto added = admission_.adjust_balance(organization, order.amount, !order.correction, record.request, record.expires_unix_ns);
    if (!added) return added.error();
  }
  keep_name(record, order.id, actor);
  return CreditBooked{record.request, record.currency, booked, true, balance()};
}

// The payer's own word for it, beside the books.
void MoneyDesk::keep_name(const ledger::Record& record, const std::string& id, const std::string& actor) {
  (void)ledger_.put_setting({"credit", record.organization, record.request.to_string(), "\"" + id + "\""},
                            {record.unix_ns, actor, "credit.name", record.organization.value + "/" + id, "", ""});
}

// Its entry is in the books: admission learns of it now.
void MoneyDesk::settle_doubt(const RequestId& operation) {
  const auto doubt = doubts_.find(operation);
  if (doubt == doubts_.end()) return;
  const ledger::Record& r = doubt->second;
  if (r.amount.nano > 0) {
    const bool topup = r.type == ledger::EntryType::topup;
    (void)admission_.adjust_balance(r.organization.value, r.amount, topup, operation, r.expires_unix_ns);
  }
  doubts_.erase(doubt);
}

void MoneyDesk::look_at_doubts(const std::string& organization) {
  std::vector<RequestId> booked;
  for (const auto& [operation, record] : doubts_) {
    if (record.organization.value != organization) continue;
    const auto entries = ledger_.entries_of(operation);
    if (entries && !entries->empty()) booked.push_back(operation);
  }
  for (const RequestId& operation : booked) settle_doubt(operation);
}

Result<CreditsView> MoneyDesk::credits(const config::Tenants& tenants, const std::string& organization) {
  const auto o = find(tenants, organization);
  if (!o) return o.error();
  CreditsView view;
  view.organization = organization;
  view.currency = (*o)->currency;
  look_at_doubts(organization);
  const auto standing = admission_.standing(organization);
  if (standing) {
    view.balance = standing->balance;
    view.credit_line = standing->credit_line;
    view.free = standing->free;
    view.held = standing->held;
  }
  const auto rows = ledger_.credits(OrganizationId{organization});
  if (!rows) return rows.error();
  const auto names = settings("credit", organization);
  if (!names) return names.error();
  const std::int64_t now = clock_.unix_ns();
  for (const ledger::Credit& row : *rows) {
    CreditsView::Credit& credit = view.credits.emplace_back();
    static_cast<ledger::Credit&>(credit) = row;
    credit.expired = ledger::expired(row, now);
    const auto name = std::ranges::find(*names, row.operation.to_string(), &ledger::SettingRow::id);
    if (name != names->end() && name->json.size() > 2) credit.id = name->json.substr(1, name->json.size() - 2);
  }
  return view;
}

Result<CreditsView> MoneyDesk::expire(const config::Tenants& tenants, const std::string& organization, const std::string& actor) {
  if (const auto o = find(tenants, organization); !o) return o.error();
  admission_.tick();
  if (auto noted = ledger_.audit({clock_.unix_ns(), actor, "credit.expire", organization, "", ""}); !noted) return noted.error();
  return credits(tenants, organization);             // the audit row was committed after what expired
}

Result<std::vector<BudgetView>> MoneyDesk::budgets(const config::Tenants& tenants, const std::string& organization) {
  const auto o = find(tenants, organization);
  if (!o) return o.error();
  std::vector<std::string> ids = declared_ids(tenants, **o);
  const std::size_t in_files = ids.size();
  const auto rows = settings("budget", organization);
  if (!rows) return rows.error();
  for (const ledger::SettingRow& row : *rows) {
    if (budget_from_json(row.json, (*o)->currency)) ids.push_back(row.id);
  }
  std::vector<BudgetView> views;
  const auto standing = admission_.standing(organization);
  if (!standing) return views;
  for (std::size_t i = 0; i < std::min(ids.size(), standing->budgets.size()); ++i) {
    views.push_back({ids[i], i < in_files, (*o)->currency, standing->budgets[i]});
  }
  return views;
}

Result<> MoneyDesk::check_scope(const config::OrganizationSpec& o, const std::vector<std::string>& model_ids, const BudgetOrder& order) {
  if (!order.project.empty() && std::ranges::find(o.projects, order.project, &config::ProjectSpec::name) == o.projects.end()) {
    return refuse("organization " + o.name + " has no project '" + order.project.substr(0, 64) + "'", "project");
  }
  if (!order.spec.model.empty() && std::ranges::find(model_ids, order.spec.model) == model_ids.end()) {
    return refuse("there is no model '" + order.spec.model.substr(0, 64) + "'", "model");
  }
  if (order.spec.key.empty()) return {};
  const auto keys = ledger_.keys();
  if (!keys) return keys.error();
  const bool known = std::ranges::any_of(*keys, [&](const ledger::KeyRow& k) { return k.id.value == order.spec.key && k.organization.value == o.name; });
  if (!known) return refuse("organization " + o.name + " has no key with the id '" + order.spec.key.substr(0, 64) + "'", "key");
  return {};
}

Result<BudgetView> MoneyDesk::set_budget(const config::Tenants& tenants, const std::vector<std::string>& model_ids, const std::string& organization,
                                         const BudgetOrder& order, const std::string& actor) {
  const auto o = find(tenants, organization);
  if (!o) return o.error();
  if (std::ranges::count(declared_ids(tenants, **o), order.id) != 0) return declared(order.id);
  if (order.id.starts_with(kDeclared)) return refuse("ids that begin with config- belong to the configuration", "id");
  if (auto checked = check_scope(**o, model_ids, order); !checked) return checked.error();
  const auto rows = settings("budget", organization);
  if (!rows) return rows.error();
  const auto known = std::ranges::find(*rows, order.id, &ledger::SettingRow::id);
  const std::string json = budget_json(order, (*o)->currency);
  const ledger::AuditEvent audit{clock_.unix_ns(), actor, "budget.set", organization + "/" + order.id,
                                 known == rows->end() ? "" : hash_of(known->json), hash_of(json)};
  if (auto put = ledger_.put_setting({"budget", OrganizationId{organization}, order.id, json}, audit); !put) return put.error();
  if (auto applied = admission_.refresh(); !applied) return applied.error();
  const auto views = budgets(tenants, organization);
  if (!views) return views.error();
  const auto view = std::ranges::find(*views, order.id, &BudgetView::id);
  if (view == views->end()) return error(Errc::internal, "the budget was stored but is not in force");
  return *view;
}

Result<> MoneyDesk::remove_budget(const config::Tenants& tenants, const std::string& organization, const std::string& id, const std::string& actor) {
  const auto o = find(tenants, organization);
  if (!o) return o.error();
  if (std::ranges::count(declared_ids(tenants, **o), id) != 0) return declared(id);
  const auto rows = settings("budget", organization);
  if (!rows) return rows.error();
  const auto known = std::ranges::find(*rows, id, &ledger::SettingRow::id);
  if (known == rows->end()) return error(Errc::not_found, "organization " + organization + " has no budget '" + id.substr(0, 64) + "'", "id");
  const ledger::AuditEvent audit{clock_.unix_ns(), actor, "budget.remove", organization + "/" + id, hash_of(known->json), ""};
  if (auto removed = ledger_.remove_setting("budget", OrganizationId{organization}, id, audit); !removed) return removed.error();
  return admission_.refresh();
}

}  // namespace tokenworks::gateway
