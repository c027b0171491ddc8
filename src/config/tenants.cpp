#include <sys/stat.h>

#include <algorithm>

#include "parts.hpp"

namespace tokenworks::config {
namespace {

constexpr std::int64_t kMostMoney = std::int64_t{1} << 60;   // what the books can count

bool good_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

void read_zone(Fields& f, std::string& zone) {
  f.text("timezone", zone);
  struct stat status {};
  if (zone.find("..") != std::string::npos || zone.empty() || zone.front() == '/' ||
      (zone != "UTC" && (stat(("/usr/share/zoneinfo/" + zone).c_str(), &status) != 0 || !S_ISREG(status.st_mode)))) {
    f.mistake("timezone", "is '" + zone + "', which is no time zone of this machine (such as Europe/Berlin)");
  }
}

void read_budget_fields(Fields& f, BudgetSpec& b) {
  b.where = f.where();
  f.decimal("amount", b.amount.nano, 9, true);
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
  const std::size_t equals = b.tag.find('=');
  if (!b.tag.empty() && (equals == 0 || equals == std::string::npos || equals + 1 == b.tag.size() || b.tag.size() > 600)) {
    f.mistake("tag", "is '" + b.tag + "'; a name and its value such as team=search are needed");
  }
  if (b.amount.nano > kMostMoney) f.mistake("amount", "is more than a budget can be, " + to_string(Money{kMostMoney}));
}

// `budgets: [...]` and its shorthand `budget: {...}`.
void read_budgets(Fields& f, std::vector<BudgetSpec>& into) {
  const auto read = [&](Fields& g) {
    BudgetSpec b;
    read_budget_fields(g, b);
    into.push_back(std::move(b));
  };
  f.list("budgets", read);
  // Absent, it is not read at all: its amount would be reported as missing.
  if (f.has("budget") || f.document().asked != nullptr) f.mapping("budget", read);
}

void read_limits(Fields& f, LimitSpec& spec) {
  for (const LimitName& limit : kLimitNames) f.integer(limit.name, spec.*limit.field, 0, kLimitMax);
}

void read_plan(const std::string& name, Fields& f, Tenants& t) {
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
  read_budgets(f, p.budgets);
  t.plans.push_back(std::move(p));
}

std::int64_t minute_of_day(Fields& f, const std::string& key, std::int64_t otherwise) {
  std::string text;
  f.text(key, text);
  if (text.empty()) return otherwise;
  const bool shape = text.size() == 5 && text[2] == ':' && std::isdigit(static_cast<unsigned char>(text[0])) &&
                     std::isdigit(static_cast<unsigned char>(text[1])) && std::isdigit(static_cast<unsigned char>(text[3])) &&
                     std::isdigit(static_cast<unsigned char>(text[4]));
  const int minutes = shape ? ((text[0] - '0') * 10 + text[1] - '0') * 60 + (text[3] - '0') * 10 + text[4] - '0' : -1;
  if (minutes < 0 || minutes > 24 * 60 || text[3] > '5') {
    f.mistake(key, "is '" + text + "'; a time of day such as \"07:00\" is needed");
    return otherwise;
  }
  return minutes;
}

AccessRule read_access(Fields& f) {
  AccessRule rule;
  f.texts("models", rule.models);
  std::vector<std::string> days;
  f.texts("days", days);
  const std::vector<std::string> known{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
  for (const std::string& day : days) {
    const auto at = std::find(known.begin(), known.end(), day);
    if (at == known.end()) {
      f.mistake("days", "holds '" + day + "'; known are mon, tue, wed, thu, fri, sat, sun");
    } else {
      rule.days.push_back(static_cast<int>(at - known.begin()));
    }
  }
  rule.from_minute = minute_of_day(f, "from", 0);
  rule.to_minute = minute_of_day(f, "to", 24 * 60);
  if (rule.from_minute == rule.to_minute) f.mistake("to", "equals 'from': the rule would never allow anything");
  read_zone(f, rule.timezone);
  return rule;
}

void read_organization(const std::string& name, Fields& f, Tenants& t) {
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
  f.word("retention", o.retention, {"none", "standard"});
  std::string line;
  f.text("credit_line", line);
  if (!line.empty()) {
    Money most;
    f.decimal("credit_line", most.nano, 9);
    if (most.nano > kMostMoney) f.mistake("credit_line", "is more than can be owed, " + to_string(Money{kMostMoney}));
    o.credit_line = most;
  }
  f.list("access", [&](Fields& g) { o.access.push_back(read_access(g)); });
  read_budgets(f, o.budgets);
  f.named("projects", [&](const std::string& project, Fields& g) {
    ProjectSpec p;
    p.name = project;
    if (!good_name(project)) {
      g.document().mistake(g.line(), "the project name '" + project + "' may hold letters, digits and - _ . only, at most 64");
    }
    g.texts("models", p.models);
    read_limits(g, p);
    read_budgets(g, p.budgets);
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

void read_tenants(Fields& f, Tenants& t) {
  f.named("plans", [&](const std::string& name, Fields& g) { read_plan(name, g, t); });
  f.named("organizations", [&](const std::string& name, Fields& g) { read_organization(name, g, t); });
  f.list("identity", [&](Fields& g) { read_issuer(g, t); });
}

}  // namespace tokenworks::config
