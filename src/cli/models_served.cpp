// The models of a running daemon: status, load, unload, replace, alias. They go through the control socket; without a daemon
// there is nothing to change, and tokenworks.yaml says what the next start serves.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "control.hpp"
#include "models_served.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, id, alias, path;
  std::vector<std::string> set;                      // key=value, as in tokenworks.yaml
  bool json = false, remove = false;
} flags;

enum class Verb { status, load, replace, unload, alias };

int usage_error(const std::string& what) {
  std::fprintf(stderr, "tokenworks: %s\n", what.c_str());
  return app::kBadUsage;
}

int show(const Result<std::string>& answer) {
  if (!answer) return fail(answer.error());
  if (flags.json) {
    std::printf("%s\n", answer->c_str());
    return app::kOk;
  }
  const auto body = nlohmann::json::parse(*answer, nullptr, false);
  if (!body.is_object() || !body.contains("data")) return fail(error(Errc::internal, "the daemon's answer was not understood"));
  for (const auto& m : body["data"]) {
    std::string aliases;
    for (const auto& a : m["aliases"]) aliases += (aliases.empty() ? "" : ",") + a.get<std::string>();
    const std::string digest = m["digest"].is_string() ? m["digest"].get<std::string>().substr(0, 16) : "-";
    std::printf("%-32s %-10s %-16s running %-5lld %s%s%s\n", m["id"].get<std::string>().c_str(), m["state"].get<std::string>().c_str(),
                digest.c_str(), m["running"].get<long long>(), m["path"].get<std::string>().c_str(), aliases.empty() ? "" : "  also ", aliases.c_str());
  }
  return app::kOk;
}

int act(Verb verb) {
  config::Config c;
  int code = app::kOk;
  if (!load_config(flags.config, c, code)) return code;
  nlohmann::ordered_json spec = nlohmann::ordered_json::object();
  if (verb == Verb::load) spec["id"] = flags.id;
  if (!flags.path.empty()) spec["path"] = flags.path;
  for (const std::string& pair : flags.set) {
    const std::size_t at = pair.find('=');
    if (at == std::string::npos || at == 0) return usage_error("--set takes key=value, such as kv_cache=1GiB, not '" + pair + "'");
    spec[pair.substr(0, at)] = pair.substr(at + 1);
  }
  if (verb == Verb::alias && flags.remove != flags.id.empty()) return usage_error("alias takes a model to point to, or --remove");
  auto control = Control::open(c);
  if (!control) return fail(control.error());
  if (!control->daemon()) {
    std::fprintf(stderr, "tokenworks: no daemon runs on %s; what is in tokenworks.yaml is served when one starts\n", c.plant.data_dir.c_str());
    return app::kUnreachable;
  }
  const std::string models = "/admin/v1/models", one = models + "/" + path_segment(flags.id);
  switch (verb) {
    case Verb::status: return show(control->call("GET", models));
    case Verb::load: return show(control->call("POST", models, spec.dump()));
    case Verb::replace: return show(control->call("POST", one + "/replace", spec.dump()));
    case Verb::unload: return show(control->call("DELETE", one));
    case Verb::alias:
      if (flags.remove) return show(control->call("DELETE", "/admin/v1/aliases/" + path_segment(flags.alias)));
      return show(control->call("POST", "/admin/v1/aliases", nlohmann::json{{"alias", flags.alias}, {"model", flags.id}}.dump()));
  }
  return app::kBadUsage;
}

}  // namespace

void add_models_served(CLI::App& group, Action& action) {
  const auto add = [&](const char* name, const char* what, Verb verb) {
    CLI::App* sub = group.add_subcommand(name, what);
    sub->add_option("--config", flags.config, "tokenworks.yaml")->required();
    sub->add_flag("--json", flags.json, "Print JSON");
    sub->callback([&action, verb] { action = [verb] { return act(verb); }; });
    return sub;
  };
  add("status", "The models of the running daemon", Verb::status);
  for (const auto& [name, what, verb] : {std::tuple{"load", "Load a model of tokenworks.yaml; returns when it serves", Verb::load},
                                         std::tuple{"replace", "Load it anew, from another path or with other keys; streams end on the old one", Verb::replace}}) {
    CLI::App* sub = add(name, what, verb);
    sub->add_option("id", flags.id, "Id of the model")->required();
    sub->add_option("--path", flags.path, "File or folder, in place of the configured one");
    sub->add_option("--set", flags.set, "A key of the model as in tokenworks.yaml: kv_cache=1GiB")->allow_extra_args(false);
  }
  add("unload", "Take it out of service; streams end on it, then its memory goes back", Verb::unload)->add_option("id", flags.id, "Id of the model")->required();
  CLI::App* alias = add("alias", "Point an alias to a model, at once for new requests", Verb::alias);
  alias->add_option("alias", flags.alias, "The name clients use")->required();
  alias->add_option("model", flags.id, "Id of a loaded model");
  alias->add_flag("--remove", flags.remove, "Take the alias away");
}

}  // namespace tokenworks::cli
