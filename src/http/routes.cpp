#include "routes.hpp"

namespace tokenworks::http {
namespace {

constexpr Route kApi[] = {
    {"POST", "/v1/chat/completions", Access::key, chat_completions, true, false, true},
    {"POST", "/v1/completions", Access::key, completions, true, false, true},
    {"POST", "/v1/embeddings", Access::key, embeddings, true, false, true},
    {"POST", "/v1/tokenize", Access::key, tokenize, true},
    {"POST", "/v1/detokenize", Access::key, detokenize, true},
    {"GET", "/v1/models", Access::key, list_models},
    {"GET", "/v1/models/{*}", Access::key, show_model},
    {"GET", "/v1/organization/usage/completions", Access::books, usage_completions},
    {"GET", "/v1/organization/costs", Access::books, costs},
    {"GET", "/v1/organization/credits", Access::books, list_credits},
    {"GET", "/v1/organization/budgets", Access::books, list_budgets},
};

constexpr Route kAdmin[] = {
    {"GET", "/livez", Access::open, livez, false, true},
    {"GET", "/readyz", Access::open, readyz, false, true},
    {"GET", "/health", Access::open, health, false, true},
    {"GET", "/metrics", Access::open, metrics, false, true},
    {"POST", "/admin/v1/keys", Access::operator_, create_key, true},
    {"GET", "/admin/v1/keys", Access::operator_, list_keys},
    {"POST", "/admin/v1/keys/{}/rotate", Access::operator_, rotate_key, true},
    {"DELETE", "/admin/v1/keys/{}", Access::operator_, revoke_key},
    {"POST", "/admin/v1/reload", Access::operator_, reload},
    {"GET", "/admin/v1/audit_events", Access::operator_, audit_events},
    {"GET", "/admin/v1/requests/{}/entries", Access::operator_, request_entries},
    {"POST", "/admin/v1/ledger/verify", Access::operator_, verify_ledger},
    {"POST", "/admin/v1/ledger/backup", Access::operator_, backup_ledger, true},
    {"GET", "/admin/v1/organizations/{}/credits", Access::operator_, list_credits},
    {"POST", "/admin/v1/organizations/{}/credits", Access::operator_, add_credit, true},
    {"POST", "/admin/v1/organizations/{}/credits/expire", Access::operator_, expire_credits},
    {"GET", "/admin/v1/organizations/{}/budgets", Access::operator_, list_budgets},
    {"POST", "/admin/v1/organizations/{}/budgets", Access::operator_, set_budget, true},
    {"DELETE", "/admin/v1/organizations/{}/budgets/{}", Access::operator_, remove_budget},
    {"POST", "/admin/v1/ledger/erase", Access::operator_, erase_annotations, true},
    {"GET", "/admin/v1/models", Access::operator_, list_served_models},
    {"POST", "/admin/v1/models", Access::operator_, load_model, true},
    {"POST", "/admin/v1/models/{}/replace", Access::operator_, replace_model, true},
    {"DELETE", "/admin/v1/models/{}", Access::operator_, unload_model},
    {"POST", "/admin/v1/aliases", Access::operator_, set_alias, true},
    {"DELETE", "/admin/v1/aliases/{}", Access::operator_, remove_alias},
    {"GET", "/v1/organization/usage/completions", Access::operator_, usage_completions},
    {"GET", "/v1/organization/costs", Access::operator_, costs},
};

std::string_view next_segment(std::string_view& path) {
  const std::size_t end = path.find('/', 1);
  const std::string_view segment = path.substr(0, end);
  path.remove_prefix(segment.size());
  return segment;
}

bool fits(std::string_view pattern, std::string_view path, std::vector<std::string>& captures) {
  captures.clear();
  while (!pattern.empty() && !path.empty()) {
    const std::string_view want = next_segment(pattern);
    const std::string_view have = want == "/{*}" ? path : next_segment(path);
    if (want != "/{}" && want != "/{*}") {
      if (want != have) return false;
      continue;
    }
    auto text = percent_decode(have.substr(1), false);
    if (!text || text->empty()) return false;
    captures.push_back(std::move(*text));
    if (want == "/{*}") return true;
  }
  return pattern.empty() && path.empty();
}

}  // namespace

std::span<const Route> routes_of(Plane plane) { return plane == Plane::api ? std::span<const Route>(kApi) : kAdmin; }

Match match(std::span<const Route> routes, std::string_view method, std::string_view path) {
  Match found;
  if (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  for (const Route& route : routes) {
    std::vector<std::string> captures;
    if (!fits(route.pattern, path, captures)) continue;
    if (route.method == method || (route.method == "GET" && method == "HEAD")) {
      found.route = &route;
      found.captures = std::move(captures);
    }
    if (!found.allow.empty()) found.allow += ", ";
    found.allow += route.method == "GET" ? "GET, HEAD" : std::string(route.method);
  }
  if (!found.allow.empty()) found.allow += ", OPTIONS";
  return found;
}

Result<> may_enter(const Route& route, Plane plane, const tenancy::Principal* principal) {
  using tenancy::Role;
  if (route.access == Access::open || plane == Plane::local) return {};
  if (principal == nullptr) {
    return error(Errc::invalid_api_key, "no API key was given; send it as 'Authorization: Bearer sk-tw-...'");
  }
  const Role role = principal->role;
  switch (route.access) {
    case Access::open:
    case Access::key: return {};
    case Access::books:
      if ((role == Role::billing || role == Role::org_admin) && !principal->organization.value.empty()) return {};
      return error(Errc::insufficient_permissions, "this route needs a key of role billing or org_admin; this key has the role " + std::string(name(role)));
    case Access::operator_:
      if (role == Role::operator_) return {};
      return error(Errc::insufficient_permissions, "this route needs a key of role operator; this key has the role " + std::string(name(role)));
  }
  return error(Errc::insufficient_permissions, "this route is closed");
}

}  // namespace tokenworks::http
