#include <algorithm>

#include "parts.hpp"
#include "wall_time.hpp"

namespace tokenworks::config {
namespace {

constexpr std::int64_t kMostMoney = std::int64_t{1} << 60;   // what the books can count

bool good_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

void read_budget_fields(Fields& f, BudgetSpec& b, const std::string& currency, bool of_project) {
  b.where = f.where();
  f.decimal("amount", b.amount.nano, money_places(currency), true);
  std::string per = "month", mode = "hard";
  f.word("per", per, {"day", "week", "month", "total"});
  b.per = per == "day" ? BudgetSpec::Per::day : per == "week" ? BudgetSpec::Per::week
        : per == "month" ? BudgetSpec::Per::month : BudgetSpec::Per::total;
  f.word("mode", mode, {"hard", "soft"});
  b.hard = mode == "hard";
  f.integers("warn_at", b.warn_at, 1, 1000);
  read_zone(f, b.timezone);
  f.text("model", b.model);
  f.text("tag", b.tag);
  f.text("key", b.key);
  for (const auto& [name, value] : {std::pair{"model", &b.model}, std::pair{"tag", &b.tag}, std::pair{"key", &b.key}}) {
    if (f.has(name) && value->empty()) f.mistake(name, "is empty: leave it out to count everything");
  }
  const std::size_t equals = b.tag.find('=');
  if (!b.tag.empty() && (equals == 0 || equals == std::string::npos || equals + 1 == b.tag.size() || b.tag.size() > 600)) {
    f.mistake("tag", "is '" + b.tag + "'; a name and its value such as team=search are needed");
  } else if (!b.tag.empty() && (!b.model.empty() || !b.key.empty() || of_project)) {
    f.mistake("tag", "counts the whole organization's spend with it; leave out model and key, and not in a project");
  }
  if (b.amount.nano > kMostMoney) f.mistake("amount", "is more than a budget can be, " + to_string(Money{kMostMoney}, currency));
}

// `budgets: [...]` and its shorthand `budget: {...}`.
void read_budgets(Fields& f, std::vector<BudgetSpec>& into, const std::string& currency, bool of_project = false) {
  const auto read = [&](Fields& g) {
    BudgetSpec b;
    read_budget_fields(g, b, currency, of_project);
    into.push_back(std::move(b));
  };
  f.list("budgets", read);
  // Absent, it is not read at all: its amount would be reported as missing.
  if (f.has("budget") || f.document().asked != nullptr) f.mapping("budget", read);
}

void read_limits(Fields& f, LimitSpec& spec) {
  for (const LimitName& limit : kLimitNames) f.integer(limit.name, spec.*limit.field, 0, kLimitMax);
}

void read_plan(const std::string& name, Fields& f, Tenants& t, const std::string& currency) {
  PlanSpec p;
  p.name = name;
  p.where = f.where();
  f.texts("models", p.models);
  std::string tier = "standard";
  f.word("tier", tier, {"priority", "standard", "batch"});
  p.tier = tier == "priority" ? Tier::priority : tier == "batch" ? Tier::batch : Tier::standard;
  f.integer("weight", p.weight, 1, 1000);
  f.integer("reserved_tokens_per_second", p.reserved_tokens_per_second, 0, 1'000'000'000);
  read_limits(f, p);
  f.named("model_limits", [&](const std::string& model, Fields& g) { read_limits(g, p.model_limits[model]); });
  f.integer("reserve_output_tokens", p.reserve_output_tokens, 1, 1 << 24);
  read_budgets(f, p.budgets, currency);
  t.plans.push_back(std::move(p));
}

AccessRule read_access(Fields& f) {
  AccessRule rule;
  f.texts("models", rule.models);
  read_span(f, rule.days, rule.from_minute, rule.to_minute, rule.timezone, "the rule would never allow anything");
  return rule;
}

void read_organization(const std::string& name, Fields& f, Tenants& t, const std::string& currency) {
  OrganizationSpec o;
  o.name = name;
  o.where = f.where();
  if (!good_name(name)) {
    f.document().mistake(f.line(), "the organization name '" + name + "' may hold letters, digits and - _ . only, at most 64");
  }
  if (name == "other") {
    f.document().mistake(f.line(), "the organization name 'other' is the metrics' word for all that have no label of their own; choose another");
  }
  f.text("plan", o.plan, true);
  f.text("currency", o.currency);
  f.texts("residency", o.residency);
  for (const std::string& place : o.residency) {
    if (!good_country(place)) f.mistake("residency", "holds '" + place + kCountryWanted);
  }
  f.word("retention", o.retention, {"none", "standard"});
  Money most{-1};                                    // as nobody can write it: without a line, spending is not limited by one
  f.decimal("credit_line", most.nano, money_places(currency));
  if (most.nano >= 0) {
    if (most.nano > kMostMoney) f.mistake("credit_line", "is more than can be owed, " + to_string(Money{kMostMoney}, currency));
    o.credit_line = most;
  }
  f.list("access", [&](Fields& g) { o.access.push_back(read_access(g)); });
  read_budgets(f, o.budgets, currency);
  f.named("projects", [&](const std::string& project, Fields& g) {
    ProjectSpec p;
    p.name = project;
    if (!good_name(project)) {
      g.document().mistake(g.line(), "the project name '" + project + "' may hold letters, digits and - _ . only, at most 64");
    }
    g.texts("models", p.models);
    read_limits(g, p);
    read_budgets(g, p.budgets, currency, true);
    g.text("cost_centre", p.cost_centre);
    g.text("data_class", p.data_class);
    o.projects.push_back(std::move(p));
  });
  const auto is_default = [](const ProjectSpec& p) { return p.name == "default"; };
  if (std::none_of(o.projects.begin(), o.projects.end(), is_default)) {
    ProjectSpec p;
    p.name = "default";
    o.projects.push_back(std::move(p));
  }
  t.organizations.push_back(std::move(o));
}

bool on_this_machine(const std::string& url) {
  return url.starts_with("http://127.0.0.1") || url.starts_with("http://localhost") || url.starts_with("http://[::1]");
}

void read_issuer(Fields& f, Tenants& t) {
  IssuerSpec i;
  f.text("issuer", i.issuer, true);
  f.text("audience", i.audience, true);
  f.text("jwks", i.jwks, true);
  if (i.jwks.starts_with("http://") && !on_this_machine(i.jwks)) {
    f.mistake("jwks", "is '" + i.jwks + "'; keys come over https, or from a file");
  }
  f.duration("refresh", i.refresh_ns, 1'000'000'000);
  f.duration("leeway", i.leeway_ns, 0);
  f.text("claim", i.claim);
  f.pairs("projects", i.projects);
  f.text("project", i.project);
  if (i.projects.empty() && i.project.empty() && !i.issuer.empty()) {
    f.document().mistake(f.line(), "identity: issuer '" + i.issuer + "' needs 'project', or 'claim' and 'projects': whom do its tokens work for?");
  }
  if (i.projects.empty() != i.claim.empty()) f.document().mistake(f.line(), "identity: 'claim' and 'projects' go together");
  const auto same = [&](const IssuerSpec& other) { return other.issuer == i.issuer && other.audience == i.audience; };
  if (std::any_of(t.issuers.begin(), t.issuers.end(), same)) f.mistake("issuer", "stands twice with this audience");
  t.issuers.push_back(std::move(i));
}

}  // namespace

void read_tenants(Fields& f, Tenants& t, const std::string& currency) {
  f.named("plans", [&](const std::string& name, Fields& g) { read_plan(name, g, t, currency); });
  f.named("organizations", [&](const std::string& name, Fields& g) { read_organization(name, g, t, currency); });
  f.list("identity", [&](Fields& g) { read_issuer(g, t); });
}

}  // namespace tokenworks::config
