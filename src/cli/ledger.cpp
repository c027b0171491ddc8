#include "tokenworks/ledger/ledger.hpp"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <filesystem>

#include "commands.hpp"
#include "control.hpp"
#include "offline.hpp"
#include "tokenworks/http/admin_json.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, path, request, organization;
  bool json = false, replace = false;
} flags;

std::string store_of(const config::Config& c) { return c.plant.data_dir + "/ledger.sqlite"; }

int verify(const config::Config& c) {
  if (no_books(store_of(c))) return app::kCheckFailed;
  auto report = ledger::verify_file(store_of(c));
  if (!report) return fail(report.error());
  if (flags.json) {
    std::printf("%s\n", http::to_json(*report).c_str());
  } else {
    std::printf("%s: %lld entries, %lld open holds, debits %s = credits %s, head %s\n", report->ok ? "ok" : "BROKEN",
                static_cast<long long>(report->entries), static_cast<long long>(report->open_holds), report->debits.c_str(),
                report->credits.c_str(), report->head.c_str());
    if (report->first_bad) std::printf("first bad: %s\n", report->first_bad->c_str());
  }
  return report->ok ? app::kOk : app::kCheckFailed;
}

// What was done: as JSON where it was asked for, else in words.
void say(const nlohmann::ordered_json& report, const std::string& words) {
  std::printf("%s\n", flags.json ? report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str() : words.c_str());
}

int backup(const config::Config& c) {
  if (no_books(store_of(c))) return app::kCheckFailed;
  const std::string to = std::filesystem::absolute(flags.path).string();
  if (auto done = ledger::backup_file(store_of(c), to); !done) return fail(done.error());
  say({{"ok", true}, {"path", to}}, to);
  return app::kOk;
}

int restore(const config::Config& c) {
  auto control = Control::open(c);
  if (!control) return fail(control.error());
  if (control->daemon()) {
    std::fprintf(stderr, "tokenworks: a daemon uses %s; stop it before a restore\n", c.plant.data_dir.c_str());
    return app::kCheckFailed;
  }
  if (auto done = ledger::restore(flags.path, store_of(c), flags.replace); !done) return fail(done.error());
  say({{"ok", true}, {"path", store_of(c)}, {"from", flags.path}}, store_of(c) + " restored from " + flags.path);
  return app::kOk;
}

int erase(const config::Config& c) {
  if (no_books(store_of(c))) return app::kCheckFailed;
  auto control = Control::open(c);
  if (!control) return fail(control.error());
  if (control->daemon()) {
    const std::string body = nlohmann::json{{"organization", flags.organization}}.dump();
    if (auto answer = control->call("POST", "/admin/v1/ledger/erase", body); !answer) return fail(answer.error());
  } else {
    auto opened = Offline::open(c, *control);
    if (!opened) return fail(opened.error());
    if (auto done = (*opened)->administration().erase_annotations(flags.organization, "local"); !done) return fail(done.error());
  }
  say({{"ok", true}, {"organization", flags.organization}}, "the names and tags of " + flags.organization + " are erased; its entries and sums stay");
  return app::kOk;
}

int show(const config::Config& c) {
  if (no_books(store_of(c))) return app::kCheckFailed;
  const auto request = RequestId::parse(flags.request);
  if (!request) {
    std::fprintf(stderr, "tokenworks: '%s' is no request id (req_ and 32 hex digits)\n", flags.request.c_str());
    return app::kBadUsage;
  }
  auto control = Control::open(c);
  if (!control) return fail(control.error());
  std::string text;
  if (control->daemon()) {
    auto answer = control->call("GET", "/admin/v1/requests/" + flags.request + "/entries");
    if (!answer) return fail(answer.error());
    text = *answer;
  } else {
    auto ledger = control->ledger();
    if (!ledger) return fail(ledger.error());
    auto entries = (*ledger)->entries_of(*request);
    if (!entries) return fail(entries.error());
    text = http::to_json(*entries);
  }
  std::printf("%s\n", text.c_str());
  return app::kOk;
}

}  // namespace

void add_ledger(CLI::App& app, Action& action) {
  CLI::App* group = app.add_subcommand("ledger", "The books: verify, backup, restore, erase, show");
  group->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, int (*act)(const config::Config&)) {
    CLI::App* sub = group->add_subcommand(name, what);
    sub->add_option("--config", flags.config, "tokenworks.yaml")->required();
    sub->add_flag("--json", flags.json, std::string(name) == "show" ? "Print JSON (always so)" : "Print JSON");
    sub->callback([&action, act] {
      action = [act] {
        config::Config c;
        int code = app::kOk;
        return load_config(flags.config, c, code) ? act(c) : code;
      };
    });
    return sub;
  };
  add("verify", "Recompute chain, balances and rollups; also beside a running daemon", verify);
  add("backup", "A consistent copy, also beside a running daemon", backup)->add_option("path", flags.path, "File to write")->required();
  CLI::App* back = add("restore", "Put a verified backup in place; the daemon must be stopped", restore);
  back->add_option("path", flags.path, "The backup")->required();
  back->add_flag("--replace", flags.replace, "Overwrite the store that is there");
  add("erase", "Erase what clients of an organization sent as tags and user strings; entries stay", erase)
      ->add_option("--organization", flags.organization, "Whose")->required();
  CLI::App* entries = add("show", "Every entry of one request, as JSON", show);
  entries->add_option("request", flags.request, "req_...")->required();
}

}  // namespace tokenworks::cli
