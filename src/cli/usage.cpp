#include <cstdio>

#include "commands.hpp"
#include "tokenworks/http/admin_json.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, from, to, group_by = "project,model,tier", organization;
  bool json = false;
} flags;

// An instant or a date; what is missing is midnight UTC.
bool parse_time(std::string text, std::int64_t& into) {
  if (text.size() == 10) text += "T00:00:00Z";
  std::tm utc{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &utc);
  if (rest == nullptr || *rest != '\0') return false;
  into = static_cast<std::int64_t>(timegm(&utc)) * 1'000'000'000;
  return true;
}

int usage() {
  config::Config c;
  int code = app::kOk;
  if (!load_config(flags.config, c, code)) return code;
  ledger::UsageQuery query;
  query.organization = flags.organization;
  if ((!flags.from.empty() && !parse_time(flags.from, query.from_unix_ns)) || (!flags.to.empty() && !parse_time(flags.to, query.to_unix_ns))) {
    std::fprintf(stderr, "tokenworks: --from and --to take 2026-11-23 or 2026-11-23T12:00:00Z\n");
    return app::kBadUsage;
  }
  query.by_project = query.by_model = query.by_tier = query.by_key = false;
  for (std::size_t from = 0; from <= flags.group_by.size();) {
    const std::size_t to = std::min(flags.group_by.find(',', from), flags.group_by.size());
    const std::string word = flags.group_by.substr(from, to - from);
    if (word == "project") query.by_project = true;
    else if (word == "model") query.by_model = true;
    else if (word == "tier") query.by_tier = true;
    else if (word == "key") query.by_key = true;
    else if (word == "minute") query.bucket_seconds = 60;
    else if (word == "hour") query.bucket_seconds = 3600;
    else if (word == "day") query.bucket_seconds = 86400;
    else if (!word.empty() && word != "organization") {
      std::fprintf(stderr, "tokenworks: --group-by knows organization, project, model, tier, key, minute, hour and day, not '%s'\n", word.c_str());
      return app::kBadUsage;
    }
    from = to + 1;
  }
  auto rows = ledger::usage_of_file(c.plant.data_dir + "/ledger.sqlite", query);
  if (!rows) return fail(rows.error());
  if (flags.json) {
    std::printf("%s\n", http::to_json(c.prices.currency, *rows).c_str());
    return app::kOk;
  }
  std::printf("%-20s %-24s %-28s %-9s %9s %12s %12s %12s %16s\n", "organization", "project", "model", "tier", "requests", "input",
              "cached", "output", ("cost " + c.prices.currency).c_str());
  for (const ledger::UsageRow& r : *rows) {
    std::printf("%-20s %-24s %-28s %-9s %9lld %12lld %12lld %12lld %16s\n", r.organization.c_str(), r.project.c_str(), r.model.c_str(),
                r.tier.c_str(), static_cast<long long>(r.requests), static_cast<long long>(r.usage.input),
                static_cast<long long>(r.usage.cached_input), static_cast<long long>(r.usage.output), to_string(r.cost).c_str());
  }
  return app::kOk;
}

}  // namespace

void add_usage(CLI::App& app, Action& action) {
  CLI::App* sub = app.add_subcommand("usage", "Who used how many tokens for how much; reads the books, also beside a daemon");
  sub->add_option("--config", flags.config, "tokenworks.yaml")->required();
  sub->add_option("--from", flags.from, "First moment, such as 2026-11-01");
  sub->add_option("--to", flags.to, "Moment after the last");
  sub->add_option("--group-by", flags.group_by, "organization, project, model, tier, key; minute, hour or day");
  sub->add_option("--organization", flags.organization, "Only this organization");
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->callback([&action] { action = usage; });
}

}  // namespace tokenworks::cli
