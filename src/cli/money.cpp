// credit and budget: through the daemon while one runs, else over the store itself; the same JSON either way.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.hpp"
#include "offline.hpp"
#include "tokenworks/http/money_json.hpp"

namespace tokenworks::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::string config, organization, id, amount;
  std::optional<std::string> expires, per, mode, timezone, project, model, key, tag;   // an empty one is told, not left out
  std::vector<std::int64_t> warn_at;
  bool json = false, correction = false;
} flags;

std::string credit_order() {
  Json j;
  j["id"] = flags.id;
  j["amount"] = flags.amount;
  if (flags.expires) j["expires"] = *flags.expires;
  if (flags.correction) j["correction"] = true;
  return j.dump();
}

std::string budget_order() {
  Json j;
  j["id"] = flags.id;
  j["amount"] = flags.amount;
  const auto named = [&](const char* name, const std::optional<std::string>& value) {
    if (value) j[name] = *value;
  };
  named("per", flags.per);
  named("mode", flags.mode);
  named("timezone", flags.timezone);
  named("project", flags.project);
  named("model", flags.model);
  named("key", flags.key);
  named("tag", flags.tag);
  if (!flags.warn_at.empty()) j["warn_at"] = flags.warn_at;
  return j.dump();
}

std::string text(const Json& row, const char* name) {
  return row.contains(name) && row[name].is_string() ? row[name].get<std::string>() : "-";
}

void print_credits(const Json& j) {
  std::printf("balance %s %s, credit line %s, held %s, free %s\n", text(j, "balance").c_str(), text(j, "currency").c_str(),
              text(j, "credit_line").c_str(), text(j, "held").c_str(), text(j, "free").c_str());
  std::printf("%-24s %16s %16s %-26s %s\n", "id", "amount", "remaining", "expires", "");
  for (const Json& row : j["data"]) {
    std::printf("%-24s %16s %16s %-26s %s\n", text(row, row["id"].is_string() ? "id" : "operation").c_str(), text(row, "amount").c_str(),
                text(row, "remaining").c_str(), text(row, "expires").c_str(), row["expired"] == true ? "expired" : "");
  }
}

void print_budgets(const Json& j) {
  std::printf("%-28s %14s %-6s %-5s %14s %14s %s\n", "id", "amount", "per", "mode", "spent", "held", "of");
  for (const Json& row : j["data"]) {
    std::string of;
    for (const char* name : {"project", "model", "key", "tag"}) {
      if (row[name].is_string()) of += std::string(name) + " " + text(row, name) + " ";
    }
    std::printf("%-28s %14s %-6s %-5s %14s %14s %s%s\n", text(row, "id").c_str(), text(row, "amount").c_str(), text(row, "per").c_str(),
                text(row, "mode").c_str(), text(row, "spent").c_str(), text(row, "held").c_str(), of.c_str(),
                row["declared_in_config"] == true ? "(configuration)" : "");
  }
}

int print(const Result<std::string>& answer) {
  if (!answer) {
    const int code = fail(answer.error());
    return answer.error().code == Errc::io ? static_cast<int>(app::kUnreachable) : code;
  }
  const Json j = Json::parse(*answer, nullptr, false);
  if (flags.json) {
    std::printf("%s\n", answer->c_str());
  } else if (j.contains("data") && j.contains("held")) {
    print_credits(j);
  } else if (j.contains("data")) {
    print_budgets(j);
  } else if (j.contains("created")) {
    std::printf("%s %s %s; balance %s\n", text(j, "id").c_str(), text(j, "amount").c_str(), j["created"] == true ? "booked" : "was booked before",
                text(j, "balance").c_str());
  } else {
    std::printf("%s\n", j.contains("removed") ? "removed" : "set");
  }
  return app::kOk;
}

enum class Verb { credit_add, credit_list, credit_expire, budget_list, budget_set, budget_remove };

template <class T>
Result<std::string> json_of(const Result<T>& result) {
  if (!result) return result.error();
  return http::to_json(*result);
}

Result<std::string> offline(const config::Config& config, Control& control, Verb verb) {
  auto opened = Offline::open(config, control);
  if (!opened) return opened.error();
  gateway::Administration& admin = (*opened)->administration();
  switch (verb) {
    case Verb::credit_add: {
      const auto order = gateway::credit_from_json(credit_order(), SystemClock{}.unix_ns(), config.prices.currency);
      if (!order) return order.error();
      return json_of(admin.add_credit(flags.organization, *order, "local"));
    }
    case Verb::credit_list: return json_of(admin.credits(flags.organization));
    case Verb::credit_expire: return json_of(admin.expire_credits(flags.organization, "local"));
    case Verb::budget_list: return json_of(admin.budgets(flags.organization));
    case Verb::budget_set: {
      const auto order = gateway::budget_from_json(budget_order(), config.prices.currency);
      if (!order) return order.error();
      return json_of(admin.set_budget(flags.organization, *order, "local"));
    }
    case Verb::budget_remove: {
      if (auto done = admin.remove_budget(flags.organization, flags.id, "local"); !done) return done.error();
      return std::string(R"({"removed":true})");
    }
  }
  return error(Errc::internal, "unknown verb");
}

Result<std::string> online(const Control& control, Verb verb) {
  const std::string base = "/admin/v1/organizations/" + path_segment(flags.organization);
  switch (verb) {
    case Verb::credit_add: return control.call("POST", base + "/credits", credit_order());
    case Verb::credit_list: return control.call("GET", base + "/credits");
    case Verb::credit_expire: return control.call("POST", base + "/credits/expire");
    case Verb::budget_list: return control.call("GET", base + "/budgets");
    case Verb::budget_set: return control.call("POST", base + "/budgets", budget_order());
    case Verb::budget_remove: return control.call("DELETE", base + "/budgets/" + path_segment(flags.id));
  }
  return error(Errc::internal, "unknown verb");
}

int act(Verb verb) {
  config::Config c;
  int code = app::kOk;
  if (!load_config(flags.config, c, code)) return code;
  if (flags.organization.empty()) return fail(error(Errc::invalid_request, "--organization is empty: whose?"));
  auto control = Control::open(c);
  if (!control) return fail(control.error());
  return print(control->daemon() ? online(*control, verb) : offline(c, *control, verb));
}

CLI::App* add(CLI::App* group, Action& action, const char* name, const char* what, Verb verb) {
  CLI::App* sub = group->add_subcommand(name, what);
  sub->add_option("--config", flags.config, "tokenworks.yaml")->required();
  sub->add_option("--organization", flags.organization, "Whose")->required();
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->callback([&action, verb] { action = [verb] { return act(verb); }; });
  return sub;
}

}  // namespace

void add_money(CLI::App& app, Action& action) {
  CLI::App* credit = app.add_subcommand("credit", "Prepaid credits: add, list, expire");
  credit->require_subcommand(1);
  CLI::App* top_up = add(credit, action, "add", "Book a credit, once per id; the balance counts before this command exits", Verb::credit_add);
  top_up->add_option("--id", flags.id, "Yours, such as an invoice's number: the same id is booked once")->required();
  top_up->add_option("--amount", flags.amount, "Exact decimal text, at most nine decimals (six without a minor unit, such as JPY)")->required();
  top_up->add_option("--expires", flags.expires, "30d, 12h, or 2026-12-31T00:00:00Z; what is left then is lost");
  top_up->add_flag("--correction", flags.correction, "An adjustment, which may be below zero");
  add(credit, action, "list", "Balance and credits, in the order in which they are spent", Verb::credit_list);
  add(credit, action, "expire", "Book now what has expired, and show what is left", Verb::credit_expire);

  CLI::App* budget = app.add_subcommand("budget", "Budgets: list, set, remove");
  budget->require_subcommand(1);
  add(budget, action, "list", "All budgets, what is spent and what is set aside", Verb::budget_list);
  CLI::App* set = add(budget, action, "set", "Set a budget; it is in force before this command exits", Verb::budget_set);
  set->add_option("--id", flags.id, "Its name; the same id replaces it")->required();
  set->add_option("--amount", flags.amount, "Exact decimal text, at most nine decimals (six without a minor unit, such as JPY)")->required();
  set->add_option("--per", flags.per, "day, week, month (default), total");
  set->add_option("--mode", flags.mode, "hard (default): never overspent; soft: only reported");
  set->add_option("--warn-at", flags.warn_at, "Percentages, such as 50,80")->delimiter(',');
  set->add_option("--timezone", flags.timezone, "Where days begin (UTC)");
  set->add_option("--project", flags.project, "Only this project's spend");
  set->add_option("--model", flags.model, "Only this model's spend");
  set->add_option("--key", flags.key, "Only this key's spend (its id)");
  set->add_option("--tag", flags.tag, "Only spend with this tag, such as team=search");
  CLI::App* remove = add(budget, action, "remove", "Remove a budget that was set here", Verb::budget_remove);
  remove->add_option("--id", flags.id, "Its name")->required();
}

}  // namespace tokenworks::cli
