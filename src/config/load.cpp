#include <algorithm>
#include <filesystem>
#include <optional>

#include "environment.hpp"
#include "parts.hpp"
#include "tokenworks/config/check.hpp"
#include "yaml_file.hpp"

namespace tokenworks::config {
namespace fs = std::filesystem;
namespace {

std::string beside(const std::string& file, const std::string& path) {
  if (path.empty() || fs::path(path).is_absolute()) return path;
  return (fs::absolute(file).parent_path() / path).lexically_normal().string();
}

// What all three files' readers share.
struct Reading {
  std::vector<std::string> mistakes;
  std::set<std::pair<std::string, std::string>>* asked = nullptr;
  std::set<std::string> variables;
  std::vector<std::string> unread;                   // prefixes of the variables of files that could not be read
};

template <class Into>
void read_file(const std::string& path, const char* kind, const char* prefix, Reading& reading, const std::function<void(Fields&, Into&)>& read, Into& into) {
  const auto root = parse_yaml(path, reading.mistakes);
  if (!root) return reading.unread.push_back(prefix);
  const Document document{path, kind, prefix, &reading.variables, &reading.mistakes, reading.asked};
  try {
    Fields fields(document, *root, "", "");
    read(fields, into);
    fields.done();
  } catch (const YAML::Exception& e) {
    reading.mistakes.push_back(path + ":" + std::to_string(std::max(0, e.mark.line) + 1) + ": " + e.msg);
  }
}

// The projects that tokens are mapped to.
void check_issuers(const Config& c, std::vector<std::string>& mistakes) {
  std::vector<std::string> projects;
  for (const OrganizationSpec& o : c.tenants.organizations) {
    for (const ProjectSpec& p : o.projects) projects.push_back(o.name + "/" + p.name);
  }
  const auto check = [&](const IssuerSpec& i, const std::string& project) {
    if (project.empty() || std::find(projects.begin(), projects.end(), project) != projects.end()) return;
    const auto near = nearest(project, projects);
    mistakes.push_back(c.plant.tenants_path + ":1: identity: issuer '" + i.issuer + "' names the project '" + project +
                       "', which does not exist" + (near ? "; did you mean '" + *near + "'?" : "; write organization/project"));
  };
  for (const IssuerSpec& i : c.tenants.issuers) {
    check(i, i.project);
    for (const auto& [value, project] : i.projects) check(i, project);
  }
}

// Every model has a price in every version, and prices are for models, plans and organizations that exist.
void check_prices(const Config& c, const std::vector<std::string>& models, std::vector<std::string>& mistakes) {
  const auto say = [&](const Where& where, const std::string& what) {
    mistakes.push_back(where.file + ":" + std::to_string(where.line) + ": " + what);
  };
  const auto known = [](const std::vector<std::string>& names, const std::string& n) { return std::find(names.begin(), names.end(), n) != names.end(); };
  const auto hint = [](const std::string& word, const std::vector<std::string>& names) {
    const auto near = nearest(word, names);
    return near ? "; did you mean '" + *near + "'?" : std::string();
  };
  std::vector<std::string> plans, organizations;
  for (const PlanSpec& p : c.tenants.plans) plans.push_back(p.name);
  for (const OrganizationSpec& o : c.tenants.organizations) organizations.push_back(o.name);
  const auto check = [&](const PricesByModel& prices) {
    for (const auto& [id, model] : prices) {
      if (!known(models, id)) say(model.where, "a price for '" + id + "', which is no configured model" + hint(id, models));
    }
  };
  std::vector<const PriceVersion*> versions{&c.prices};
  for (const PriceVersion& v : c.prices.later) versions.push_back(&v);
  for (const PriceVersion* v : versions) {
    const std::string of = v == &c.prices ? "" : ", version '" + v->version + "' (line " + std::to_string(v->where.line) + ")";
    for (const ModelSpec& m : c.plant.models) {
      if (m.id.empty() || v->models.contains(m.id)) continue;
      std::vector<std::string> priced;
      for (const auto& [id, prices] : v->models) priced.push_back(id);
      say(m.where, "model '" + m.id + "' has no price in " + c.plant.prices_path + of + hint(m.id, priced));
    }
    check(v->models);
    const auto overrides = [&](const char* what, const auto& by_name, const std::vector<std::string>& names) {
      for (const auto& [of_whom, prices] : by_name) {
        if (!known(names, of_whom) && !prices.empty()) {
          say(prices.begin()->second.where, std::string("prices for the ") + what + " '" + of_whom + "', which does not exist" + hint(of_whom, names));
        }
        check(prices);
      }
    };
    overrides("plan", v->plans, plans);
    overrides("organization", v->organizations, organizations);
  }
}

}  // namespace

void cross_check(const Config& c, std::vector<std::string>& mistakes) {
  const auto say = [&](const Where& where, const std::string& what) {
    mistakes.push_back(where.file + ":" + std::to_string(where.line) + ": " + what);
  };
  const auto hint = [](const std::string& word, const std::vector<std::string>& known) {
    const auto near = nearest(word, known);
    return near ? "; did you mean '" + *near + "'?" : std::string();
  };
  std::vector<std::string> models, names, plans;
  for (const ModelSpec& m : c.plant.models) {
    models.push_back(m.id);
    names.push_back(m.id);
    names.insert(names.end(), m.aliases.begin(), m.aliases.end());
  }
  for (const PlanSpec& p : c.tenants.plans) plans.push_back(p.name);
  const auto known_model = [&](const std::string& id) { return id == "*" || std::find(models.begin(), models.end(), id) != models.end(); };

  for (const ModelSpec& m : c.plant.models) {
    std::error_code failed;
    if (m.path.empty() || fs::exists(m.path, failed)) continue;
    say(m.where, "model '" + m.id + "': " + (failed ? m.path + " cannot be looked at: " + failed.message() : "there is no file or folder " + m.path));
  }
  check_prices(c, models, mistakes);
  const auto check_models = [&](const Where& where, const std::string& whose, const std::vector<std::string>& list) {
    for (const std::string& id : list) {
      if (!known_model(id)) say(where, whose + " names the model '" + id + "', which is not configured" + hint(id, models));
    }
  };
  const auto check_budgets = [&](const std::vector<BudgetSpec>& budgets) {
    for (const BudgetSpec& b : budgets) {
      if (!b.model.empty()) check_models(b.where, "a budget", {b.model});
    }
  };
  for (const PlanSpec& p : c.tenants.plans) {
    check_models(p.where, "plan '" + p.name + "'", p.models);
    check_budgets(p.budgets);
    for (const auto& [model, limits] : p.model_limits) check_models(p.where, "plan '" + p.name + "': model_limits", {model});
  }
  for (const OrganizationSpec& o : c.tenants.organizations) {
    if (!o.plan.empty() && std::find(plans.begin(), plans.end(), o.plan) == plans.end()) {
      say(o.where, "organization '" + o.name + "' has the plan '" + o.plan + "', which does not exist" + hint(o.plan, plans));
    }
    if (o.currency != c.prices.currency) {
      say(o.where, "organization '" + o.name + "' has the currency " + o.currency + ", but the price book is in " + c.prices.currency);
    }
    check_budgets(o.budgets);
    for (const AccessRule& rule : o.access) check_models(o.where, "an access rule of '" + o.name + "'", rule.models);
    for (const ProjectSpec& p : o.projects) {
      check_models(o.where, "project '" + o.name + "/" + p.name + "'", p.models);
      check_budgets(p.budgets);
    }
  }
  check_issuers(c, mistakes);
}

namespace {

Result<Config> load_with(const std::string& path, std::set<std::pair<std::string, std::string>>* asked, const Further& further) {
  Config c;
  c.path = fs::absolute(path).lexically_normal().string();
  Reading reading;
  reading.asked = asked;
  std::vector<std::string>& mistakes = reading.mistakes;
  read_file<Plant>(path, "tokenworks.yaml", "TOKENWORKS_", reading, read_plant, c.plant);
  Plant& p = c.plant;
  p.data_dir = beside(path, p.data_dir);
  p.prices_path = beside(path, p.prices_path);
  p.tenants_path = beside(path, p.tenants_path);
  p.ledger_dsn_file = beside(path, p.ledger_dsn_file);
  for (std::string* file : {&p.tls.certificate, &p.tls.private_key, &p.tls.client_ca}) *file = beside(path, *file);
  for (auto& [certificate, key] : p.tls.more) certificate = beside(path, certificate), key = beside(path, key);
  for (ModelSpec& m : p.models) m.path = beside(path, m.path);
  if (!p.prices_path.empty()) {
    read_file<Prices>(p.prices_path, "prices.yaml", "TOKENWORKS_PRICES_", reading, read_prices, c.prices);
  }
  if (!p.tenants_path.empty()) {
    read_file<Tenants>(p.tenants_path, "tenants.yaml", "TOKENWORKS_TENANTS_", reading,
                       [&](Fields& f, Tenants& t) { read_tenants(f, t, c.prices.currency); }, c.tenants);
  }
  for (IssuerSpec& i : c.tenants.issuers) {
    if (i.jwks.find("://") == std::string::npos) i.jwks = beside(path, i.jwks);
  }
  for (OrganizationSpec& o : c.tenants.organizations) {
    if (o.currency.empty()) o.currency = c.prices.currency;
  }
  if (!p.models.empty() && !c.prices.models.empty()) cross_check(c, mistakes);
  check_environment(reading.variables, reading.unread, mistakes);
  if (further) further(c, mistakes);
  if (!mistakes.empty()) {
    std::string all;
    for (const std::string& m : mistakes) all += (all.empty() ? "" : "\n") + m;
    return error(Errc::bad_config, all);
  }
  return c;
}

}  // namespace

Result<Config> load_asking(const std::string& path, std::set<std::pair<std::string, std::string>>* asked) {
  return load_with(path, asked, {});
}

Result<Config> load(const std::string& path) { return load_with(path, nullptr, {}); }
Result<Config> load(const std::string& path, const Further& further) { return load_with(path, nullptr, further); }

}  // namespace tokenworks::config
