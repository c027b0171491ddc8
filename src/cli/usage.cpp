#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <vector>

#include "commands.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/http/admin_json.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, from, to, group_by = "project,model,tier", organization;
  bool json = false, csv = false;
} flags;

// A column: its name for people and for CSV, and how a row fills it.
struct Column {
  std::string title, name;
  bool number;
  std::function<std::string(const ledger::UsageRow&)> cell;
};

std::string bucket_text(std::int64_t unix_s, std::int64_t bucket_seconds) {
  const std::time_t at = unix_s;
  std::tm utc{};
  gmtime_r(&at, &utc);
  char text[32];
  std::strftime(text, sizeof text, bucket_seconds == 86400 && !flags.csv ? "%Y-%m-%d" : "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

// What was grouped by stands first, then the counts.
std::vector<Column> columns_of(const ledger::UsageQuery& query, const std::string& currency) {
  using Row = ledger::UsageRow;
  std::vector<Column> columns;
  const auto name = [&](const char* title, std::string Row::*field) {
    columns.push_back({title, title, false, [field](const Row& r) { return r.*field; }});
  };
  const auto count = [&](const char* title, const char* csv, const std::function<std::int64_t(const Row&)>& of) {
    columns.push_back({title, csv, true, [of](const Row& r) { return std::to_string(of(r)); }});
  };
  if (query.bucket_seconds != 0) {
    columns.push_back({"from (UTC)", "from", false, [seconds = query.bucket_seconds](const Row& r) { return bucket_text(r.bucket_unix_s, seconds); }});
  }
  name("organization", &Row::organization);
  if (query.by_project) name("project", &Row::project);
  if (query.by_key) name("key", &Row::key);
  if (query.by_model) name("model", &Row::model);
  if (query.by_tier) name("tier", &Row::tier);
  count("requests", "requests", [](const Row& r) { return r.requests; });
  count("input", "input_tokens", [](const Row& r) { return r.usage.input; });
  count("cached", "cached_input_tokens", [](const Row& r) { return r.usage.cached_input; });
  count("output", "output_tokens", [](const Row& r) { return r.usage.output; });
  columns.push_back({"cost " + currency, "cost", true, [currency](const Row& r) { return to_string(r.cost, r.currency.empty() ? currency : r.currency); }});
  if (flags.csv) columns.push_back({"", "currency", false, [currency](const Row& r) { return r.currency.empty() ? currency : r.currency; }});
  return columns;
}

// RFC 4180: CRLF ends a record; a field with a quote, comma or line end is quoted, its quotes doubled.
std::string csv_field(const std::string& text) {
  if (text.find_first_of("\",\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + '"';
}

void print_csv(const std::vector<Column>& columns, const std::vector<ledger::UsageRow>& rows) {
  const auto record = [&](const std::function<std::string(const Column&)>& cell) {
    std::string line;
    for (const Column& c : columns) line += (&c == columns.data() ? "" : ",") + csv_field(cell(c));
    std::printf("%s\r\n", line.c_str());
  };
  record([](const Column& c) { return c.name; });
  for (const ledger::UsageRow& r : rows) record([&](const Column& c) { return c.cell(r); });
}

void print_table(const std::vector<Column>& columns, const std::vector<ledger::UsageRow>& rows) {
  std::vector<std::vector<std::string>> lines(1);
  for (const Column& c : columns) lines[0].push_back(c.title);
  for (const ledger::UsageRow& r : rows) {
    auto& line = lines.emplace_back();
    for (const Column& c : columns) line.push_back(c.cell(r));
  }
  std::vector<int> widths(columns.size());
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], static_cast<int>(line[i].size()));
  }
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      std::printf("%s%*s", i == 0 ? "" : "  ", columns[i].number ? widths[i] : -widths[i], line[i].c_str());
    }
    std::printf("\n");
  }
}

// An instant or a date; what is missing is midnight UTC.
bool parse_time(const std::string& text, std::int64_t& into) {
  const auto instant = parse_instant(text);
  if (instant) into = *instant;
  return instant.has_value();
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
  if (query.to_unix_ns <= query.from_unix_ns) {
    std::fprintf(stderr, "tokenworks: --to must lie after --from (it is the moment after the last)\n");
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
  const std::string store = c.plant.data_dir + "/ledger.sqlite";
  if (no_books(store)) return app::kCheckFailed;
  auto rows = ledger::usage_of_file(store, query);
  if (!rows) return fail(rows.error());
  if (flags.json) {
    std::printf("%s\n", http::to_json(c.prices.currency, *rows).c_str());
    return app::kOk;
  }
  const auto columns = columns_of(query, c.prices.currency);
  if (flags.csv) {
    print_csv(columns, *rows);
  } else {
    print_table(columns, *rows);
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
  CLI::Option* json = sub->add_flag("--json", flags.json, "Print JSON");
  sub->add_flag("--csv", flags.csv, "Print CSV (RFC 4180); amounts are exact decimal text")->excludes(json);
  sub->callback([&action] { action = usage; });
}

}  // namespace tokenworks::cli
