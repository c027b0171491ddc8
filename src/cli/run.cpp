#include <cstdio>

#include "commands.hpp"

namespace tokenworks::cli {

int fail(const Error& e) {
  std::fprintf(stderr, "tokenworks: %s\n", e.message.c_str());
  switch (e.code) {
    case Errc::bad_config:
    case Errc::invalid_request: return app::kBadUsage;
    default: return app::kCheckFailed;
  }
}

bool load_config(const std::string& path, config::Config& into, int& exit_code) {
  auto loaded = config::load(path);
  if (loaded) {
    into = std::move(*loaded);
    return true;
  }
  std::fprintf(stderr, "%s\n", loaded.error().message.c_str());
  exit_code = app::kBadUsage;
  return false;
}

int run(int argc, char** argv) {
  CLI::App app("tokenworks: AI by the token, metered, limited and booked exactly.\n\n"
               "  tokenworks check --config tokenworks.yaml\n"
               "  tokenworks serve --config tokenworks.yaml\n"
               "  tokenworks keys create --config tokenworks.yaml --organization acme --project default\n"
               "  tokenworks usage --config tokenworks.yaml",
               "tokenworks");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("tokenworks ") + app::build_id());
  Action action;
  add_serve(app, action);
  add_keys(app, action);
  add_money(app, action);
  add_usage(app, action);
  add_price(app, action);
  add_ledger(app, action);
  add_models(app, action);
  add_chat(app, action);
  add_eval(app, action);
  add_doctor(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    if (code != 0 && argc > 1) {
      std::vector<std::string> known;
      for (const CLI::App* sub : app.get_subcommands({})) known.push_back(sub->get_name());
      const auto near = config::nearest(argv[1], known);
      if (near && *near != argv[1]) std::fprintf(stderr, "Did you mean '%s'?\n", near->c_str());
    }
    return code == 0 ? app::kOk : app::kBadUsage;
  }
  return action ? action() : app::kBadUsage;
}

}  // namespace tokenworks::cli
