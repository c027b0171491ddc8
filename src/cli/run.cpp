#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands.hpp"

namespace tokenworks::cli {

int fail(const Error& e) {
  std::fprintf(stderr, "tokenworks: %s\n", e.message.c_str());
  // What the caller named wrongly is the caller's to mend, with and without a daemon.
  const bool usage = e.code == Errc::bad_config || e.code <= Errc::headers_too_large;
  return usage ? app::kBadUsage : app::kCheckFailed;
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

bool no_books(const std::string& store) {
  std::error_code failed;
  if (std::filesystem::exists(store, failed)) return false;
  if (failed) {
    std::fprintf(stderr, "tokenworks: %s: %s; run this as the user who owns the books\n", store.c_str(), failed.message().c_str());
  } else {
    std::fprintf(stderr, "tokenworks: there are no books yet: %s does not exist; `tokenworks serve` makes them at its first start\n", store.c_str());
  }
  return true;
}

namespace {

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const auto near = config::nearest(word, known);
  return near ? "; did you mean '" + *near + "'?" : "";
}

// The message for a long option that `at` does not have, wherever it stands in the line.
std::string unknown_option(const CLI::App& at, const std::string& path, int argc, char** argv, int from) {
  std::vector<std::string> known;
  for (const CLI::Option* option : at.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (int i = from; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "--") break;                         // what follows is text
    word = word.substr(0, word.find('='));
    if (!word.starts_with("--") || std::find(known.begin(), known.end(), word) != known.end()) continue;
    return path + ": there is no option '" + word + "'" + did_you_mean(word, known) + "\nRun with --help for more information.";
  }
  return "";
}

// The message for a subcommand or an option that does not exist, at whatever depth; "" when they all do.
std::string unknown_word(const CLI::App& app, int argc, char** argv) {
  const CLI::App* at = &app;
  std::string path = "tokenworks";
  int i = 1;
  for (; i < argc && argv[i][0] != '-'; ++i) {
    std::vector<std::string> known;
    for (const CLI::App* sub : at->get_subcommands([](const CLI::App*) { return true; })) known.push_back(sub->get_name());
    if (known.empty()) break;
    const std::string word = argv[i];
    if (std::find(known.begin(), known.end(), word) == known.end()) {
      std::string all;
      for (const std::string& name : known) all += (all.empty() ? "" : ", ") + name;
      return path + ": there is no command '" + word + "'" + did_you_mean(word, known) + "\nCommands: " + all;
    }
    at = at->get_subcommand(word);
    path += " " + word;
  }
  return unknown_option(*at, path, argc, argv, i);
}

// An option that was given nothing, as `--expires "$UNSET"` in a script: taken as left out, it would give more than was meant.
std::string empty_option(const CLI::App& at) {
  for (const CLI::App* sub : at.get_subcommands()) {
    if (std::string found = empty_option(*sub); !found.empty()) return found;
  }
  for (const CLI::Option* option : at.get_options()) {
    if (option->get_lnames().empty() || option->get_items_expected_max() == 0) continue;
    for (const std::string& value : option->results()) {
      if (value.empty()) return "tokenworks: --" + option->get_lnames().front() + " is empty; give it a value or leave it out";
    }
  }
  return "";
}

}  // namespace

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
    if (e.get_exit_code() != 0) {
      if (const std::string unknown = unknown_word(app, argc, argv); !unknown.empty()) {
        std::fprintf(stderr, "%s\n", unknown.c_str());
        return app::kBadUsage;
      }
    }
    return app.exit(e) == 0 ? app::kOk : app::kBadUsage;
  }
  if (const std::string empty = empty_option(app); !empty.empty()) {
    std::fprintf(stderr, "%s\n", empty.c_str());
    return app::kBadUsage;
  }
  try {
    return action ? action() : app::kBadUsage;
  } catch (const nlohmann::json::type_error& e) {    // of what is sent on as JSON
    constexpr int kNotUtf8 = 316;
    if (e.id != kNotUtf8) throw;
    std::fprintf(stderr, "tokenworks: what was given is not UTF-8\n");
    return app::kBadUsage;
  }
}

}  // namespace tokenworks::cli
