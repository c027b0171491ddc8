#include <algorithm>

#include "key_text.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/tenancy/directory.hpp"
#include "tokenworks/tenancy/limits.hpp"

namespace tokenworks::tenancy {
namespace {

Error refuse(std::string message, std::string param) { return error(Errc::invalid_request, std::move(message), std::move(param)); }

// " Did you mean 'acme'?" or "".
std::string hint(const std::string& word, const std::vector<std::string>& known) {
  const auto near = config::nearest(word, known);
  return near ? "; did you mean '" + *near + "'?" : "";
}

// "user:", "service:" or "agent:" and a name of letters, digits and . _ - @ +
bool good_principal(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.size() > 128) return false;
  const std::string_view kind = text.substr(0, colon), name = text.substr(colon + 1);
  return (kind == "user" || kind == "service" || kind == "agent") && !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == '@' || c == '+';
  });
}

void seal(NewKey& key) {
  KeyText made = make_key_text();
  key.row.id = KeyId{std::move(made.id)};
  key.row.secret_hash = sha256(made.text);
  key.text = std::move(made.text);
}

Result<> check_place(const KeyOrder& order, const config::Tenants& tenants, const std::vector<std::string>& model_ids) {
  const auto lists = [](const std::vector<std::string>& models, const std::string& model) {
    return std::ranges::any_of(models, [&](const std::string& m) { return m == "*" || m == model; });
  };
  const auto o = std::ranges::find(tenants.organizations, order.organization, &config::OrganizationSpec::name);
  if (o == tenants.organizations.end()) {
    std::vector<std::string> names;
    for (const auto& known : tenants.organizations) names.push_back(known.name);
    return refuse("there is no organization '" + order.organization + "'" + hint(order.organization, names), "organization");
  }
  const auto p = std::ranges::find(o->projects, order.project, &config::ProjectSpec::name);
  if (p == o->projects.end()) {
    std::vector<std::string> names;
    for (const auto& known : o->projects) names.push_back(known.name);
    return refuse("organization " + o->name + " has no project '" + order.project + "'" + hint(order.project, names), "project");
  }
  const auto plan = std::ranges::find(tenants.plans, o->plan, &config::PlanSpec::name);
  for (const std::string& model : order.models) {
    if (std::ranges::find(model_ids, model) == model_ids.end()) {
      return refuse("there is no model '" + model + "'" + hint(model, model_ids), "models");
    }
    if ((plan != tenants.plans.end() && !lists(plan->models, model)) || (!p->models.empty() && !lists(p->models, model))) {
      return refuse("a key can only narrow: the model " + model + " is not allowed to " + o->name + "/" + p->name, "models");
    }
  }
  return {};
}

}  // namespace

Result<NewKey> make_key(const KeyOrder& order, const config::Tenants& tenants, const std::vector<std::string>& model_ids,
                        std::int64_t unix_ns) {
  const auto role = role_of(order.role);
  if (!role) {
    const std::vector<std::string> names(std::begin(kRoleNames), std::end(kRoleNames));
    return refuse("there is no role '" + order.role + "'" + hint(order.role, names), "role");
  }
  NewKey key;
  if (plant_role(*role)) {
    if (!order.organization.empty()) {
      return refuse("a key of role " + order.role + " belongs to the plant; leave out the organization", "organization");
    }
    if (order.limits != config::LimitSpec{}) return refuse("a key of the plant uses no models; leave out its limits", "limits");
    if (!order.models.empty()) return refuse("a key of the plant uses no models; leave out the models", "models");
  } else {
    if (order.organization.empty()) return refuse("a key of role " + order.role + " needs an organization", "organization");
    if (auto checked = check_place(order, tenants, model_ids); !checked) return checked.error();
    key.row.organization = OrganizationId{order.organization};
    key.row.project = ProjectId{order.organization + "/" + order.project};
  }
  key.row.principal = order.principal.empty() ? order.principal_default : order.principal;
  if (!good_principal(key.row.principal)) {
    return refuse("the principal must be user:NAME, service:NAME or agent:NAME with letters, digits and . _ - @ + in NAME", "principal");
  }
  if (order.expires_unix_ns != 0 && order.expires_unix_ns <= unix_ns) return refuse("the key would have expired already", "expires");
  key.row.role = order.role;
  key.row.models = order.models;
  key.row.limits = limits_json(order.limits);
  key.row.created_unix_ns = unix_ns;
  key.row.expires_unix_ns = order.expires_unix_ns;
  seal(key);
  return key;
}

Result<Rotation> rotate_key(const ledger::KeyRow& old, std::int64_t grace_ns, std::int64_t unix_ns) {
  const std::string shown = "the key " + old.id.value;
  if (old.revoked_unix_ns != 0 && old.revoked_unix_ns <= unix_ns) return refuse(shown + " is revoked; make a new one", "id");
  if (old.expires_unix_ns != 0 && old.expires_unix_ns <= unix_ns) return refuse(shown + " has expired; make a new one", "id");
  std::int64_t until = 0;
  if (grace_ns < 0 || __builtin_add_overflow(unix_ns, grace_ns, &until)) {
    return refuse("the grace must be a time from zero up", "grace");
  }
  Rotation rotation{{{}, old}, old};
  rotation.fresh.row.created_unix_ns = unix_ns;
  rotation.fresh.row.revoked_unix_ns = 0;
  rotation.fresh.row.rotated_from = old.id.value;
  seal(rotation.fresh);
  // 0 means "not revoked": a rotation at the very first instant of time must still end the key.
  const std::int64_t ends = std::max<std::int64_t>(until, 1);
  rotation.old.revoked_unix_ns = old.revoked_unix_ns == 0 ? ends : std::min(old.revoked_unix_ns, ends);
  return rotation;
}

}  // namespace tokenworks::tenancy
