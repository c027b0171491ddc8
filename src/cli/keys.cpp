#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "control.hpp"
#include "offline.hpp"
#include "tokenworks/gateway/administration.hpp"
#include "tokenworks/http/admin_json.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, organization, project, role = "member", principal, expires, models, id, grace = "24h";
  bool json = false;
  std::map<std::string, std::string> limits;
} flags;

void print_key(const nlohmann::ordered_json& row) {
  const auto text = [&](const char* key) { return row.contains(key) && row[key].is_string() ? row[key].get<std::string>() : "-"; };
  const std::string project = text("project");
  std::printf("%-10s %-24s %-16s %-24s %-26s %s\n", text("id").c_str(), (project == "-" ? text("organization") : project).c_str(),
              text("role").c_str(), text("principal").c_str(), text("expires").c_str(),
              text("revoked") == "-" ? "" : ("revoked " + text("revoked")).c_str());
}

int print(const Result<std::string>& answer, const char* what) {
  if (!answer) {
    if (answer.error().code == Errc::io) {
      fail(answer.error());
      return app::kUnreachable;
    }
    return fail(answer.error());
  }
  if (flags.json) {
    std::printf("%s\n", answer->c_str());
    return app::kOk;
  }
  const auto j = nlohmann::ordered_json::parse(*answer, nullptr, false);
  if (j.contains("data")) {
    std::printf("%-10s %-24s %-16s %-24s %-26s\n", "id", "project", "role", "principal", "expires");
    for (const auto& row : j["data"]) print_key(row);
  } else if (j.contains("key")) {
    std::printf("%s\n", j["key"].get<std::string>().c_str());
    std::fprintf(stderr, "This key (id %s) is shown once; keep it now.\n", j["id"].get<std::string>().c_str());
  } else {
    std::printf("%s\n", what);
  }
  return app::kOk;
}

std::string order_json() {
  nlohmann::ordered_json j;
  j["organization"] = flags.organization;
  if (!flags.organization.empty()) j["project"] = flags.project.empty() ? "default" : flags.project;
  j["role"] = flags.role;
  if (!flags.principal.empty()) j["principal"] = flags.principal;
  if (!flags.expires.empty()) j["expires"] = flags.expires;
  if (!flags.models.empty()) {
    j["models"] = nlohmann::ordered_json::array();
    for (std::size_t from = 0; from <= flags.models.size();) {
      const std::size_t to = std::min(flags.models.find(',', from), flags.models.size());
      if (to > from) j["models"].push_back(flags.models.substr(from, to - from));
      from = to + 1;
    }
    if (j["models"].empty()) j["models"].push_back(flags.models);   // commas only: no model is called so, and it is said
  }
  std::string text = j.dump();
  // Whole numbers go as they were typed: what is none is refused with the limit's name, not here.
  std::string limits;
  for (const auto& [name, value] : flags.limits) {
    if (value.empty()) continue;
    const bool digits = value.find_first_not_of("0123456789") == std::string::npos && (value.size() == 1 || value[0] != '0') && value.size() < 19;
    limits += (limits.empty() ? "\"" : ",\"") + name + "\":" + (digits ? value : nlohmann::json(value).dump());
  }
  if (!limits.empty()) text.insert(text.size() - 1, std::string(text.size() > 2 ? "," : "") + "\"limits\":{" + limits + "}");
  return text;
}

enum class Verb { create, list, rotate, revoke };

Result<std::string> offline(const config::Config& config, Control& control, Verb verb) {
  auto opened = Offline::open(config, control);
  if (!opened) return opened.error();
  gateway::Administration& admin = (*opened)->administration();
  const std::int64_t now = SystemClock{}.unix_ns();
  switch (verb) {
    case Verb::create: {
      auto order = http::key_order_from_json(order_json(), now);
      if (!order) return order.error();
      auto issued = admin.create_key(*order, "local");
      if (!issued) return issued.error();
      return http::to_json(*issued);
    }
    case Verb::list: {
      auto rows = admin.list_keys(flags.organization);
      if (!rows) return rows.error();
      return http::to_json(*rows);
    }
    case Verb::rotate: {
      std::int64_t until = now;                      // "0s": at once
      if (flags.grace != "0s" && flags.grace != "0") {
        auto parsed = http::expiry_from_text(flags.grace, now);
        if (!parsed) return parsed.error();
        until = *parsed;
      }
      auto issued = admin.rotate_key(flags.id, until - now, "local");
      if (!issued) return issued.error();
      return http::to_json(*issued);
    }
    case Verb::revoke: {
      if (auto done = admin.revoke_key(flags.id, "local"); !done) return done.error();
      return std::string("{\"revoked\":true}");
    }
  }
  return error(Errc::internal, "unknown verb");
}

int act(Verb verb) {
  if (verb == Verb::create && flags.organization.empty() && !flags.project.empty()) {
    return fail(error(Errc::bad_config, "--project is of an organization; give --organization, or leave out both for a key "
                                        "of the plant"));
  }
  config::Config c;
  int code = app::kOk;
  if (!load_config(flags.config, c, code)) return code;
  auto control = Control::open(c);
  if (!control) return fail(control.error());
  if (!control->daemon()) return print(offline(c, *control, verb), "done");
  switch (verb) {
    case Verb::create: return print(control->call("POST", "/admin/v1/keys", order_json()), "created");
    case Verb::list:
      return print(control->call("GET", "/admin/v1/keys" + (flags.organization.empty() ? std::string() : "?organization=" + path_segment(flags.organization))), "");
    case Verb::rotate:
      return print(control->call("POST", "/admin/v1/keys/" + path_segment(flags.id) + "/rotate", nlohmann::json{{"grace", flags.grace}}.dump()), "rotated");
    case Verb::revoke: return print(control->call("DELETE", "/admin/v1/keys/" + path_segment(flags.id)), "revoked");
  }
  return app::kBadUsage;
}

}  // namespace

void add_keys(CLI::App& app, Action& action) {
  CLI::App* keys = app.add_subcommand("keys", "API keys: create, list, rotate, revoke");
  keys->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, Verb verb) {
    CLI::App* sub = keys->add_subcommand(name, what);
    sub->add_option("--config", flags.config, "tokenworks.yaml")->required();
    sub->add_flag("--json", flags.json, "Print JSON");
    sub->callback([&action, verb] { action = [verb] { return act(verb); }; });
    return sub;
  };
  CLI::App* create = add("create", "Make a key; it works before this command exits", Verb::create);
  create->add_option("--organization", flags.organization, "Owner; none for keys of the plant (operator, security_officer, auditor)");
  create->add_option("--project", flags.project, "Project of the organization; default when not given");
  create->add_option("--role", flags.role, "member, org_admin, billing, auditor, model_owner, security_officer, operator");
  create->add_option("--principal", flags.principal, "user:NAME, service:NAME or agent:NAME");
  create->add_option("--expires", flags.expires, "30d, 12h, or 2026-12-31T00:00:00Z");
  create->add_option("--models", flags.models, "Only these models, separated by commas");
  for (const config::LimitName& limit : config::kLimitNames) {
    std::string flag = std::string("--") + limit.name;
    std::replace(flag.begin(), flag.end(), '_', '-');
    create->add_option(flag, flags.limits[limit.name], "Narrows what organization and project have")->group("Limits of the key");
  }
  CLI::App* list = add("list", "Show keys, never their secrets", Verb::list);
  list->add_option("--organization", flags.organization, "Only of this organization");
  CLI::App* rotate = add("rotate", "A new key with the same rights; the old one works for the grace time", Verb::rotate);
  rotate->add_option("id", flags.id, "Id of the key (8 characters)")->required();
  rotate->add_option("--grace", flags.grace, "How long the old key still works (24h; 0s: not at all)");
  CLI::App* revoke = add("revoke", "End a key now", Verb::revoke);
  revoke->add_option("id", flags.id, "Id of the key (8 characters)")->required();
}

}  // namespace tokenworks::cli
