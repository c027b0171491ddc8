#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "commands.hpp"

namespace tokenworks::cli {
namespace {

int print_reference() {
  const std::string titles[][2] = {{"tokenworks.yaml", "the plant"}, {"prices.yaml", "the price book"},
                                   {"tenants.yaml", "who may use what, when, how much"}};
  for (const auto& [file, what] : titles) {
    std::printf("## %s: %s\n\n| key | type | default | meaning |\n|---|---|---|---|\n", file.c_str(), what.c_str());
    for (const config::KeyDoc& k : config::reference()) {
      if (k.file == file) {
        std::printf("| `%s` | %s | %s | %s |\n", k.path.c_str(), k.type.c_str(), k.otherwise.c_str(), k.meaning.c_str());
      }
    }
    std::printf("\n");
  }
  return app::kOk;
}

int check(const std::string& config_path, bool as_json) {
  const Result<std::string> summary = app::check(config_path);
  if (as_json) {
    nlohmann::ordered_json report{{"ok", summary.has_value()}, {"mistakes", nlohmann::ordered_json::array()}};
    std::istringstream lines(summary ? "" : summary.error().message);
    for (std::string line; std::getline(lines, line);) report["mistakes"].push_back(line);
    std::printf("%s\n", report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else if (summary) {
    std::printf("%s\n", summary->c_str());
  } else {
    std::fprintf(stderr, "%s\n", summary.error().message.c_str());
  }
  return summary ? app::kOk : app::kBadUsage;
}

}  // namespace

void add_serve(CLI::App& app, Action& action) {
  static std::string config_path;
  static bool reference = false, as_json = false;
  CLI::App* serve = app.add_subcommand("serve", "Run the plant until SIGTERM (drains) or a second one; SIGHUP reloads");
  serve->add_option("--config", config_path, "tokenworks.yaml")->required();
  serve->callback([&action] {
    action = [] { return app::serve(config_path); };
  });
  CLI::App* check_command = app.add_subcommand("check", "Report everything a start would refuse, all of it at once: configuration, certificates, models, device");
  check_command->add_option("--config", config_path, "tokenworks.yaml");
  check_command->add_flag("--reference", reference, "Print every configuration key as a table instead");
  check_command->add_flag("--json", as_json, "Print JSON");
  check_command->callback([&action] {
    action = [] {
      if (reference) return print_reference();
      if (config_path.empty()) {
        std::fprintf(stderr, "tokenworks: check needs --config FILE (or --reference)\n");
        return app::kBadUsage;
      }
      return check(config_path, as_json);
    };
  });
}

}  // namespace tokenworks::cli
