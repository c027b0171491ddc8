#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/billing/price_archive.hpp"
#include "tokenworks/billing/quote.hpp"
#include "tokenworks/http/admin_json.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, model, tier, organization, plan, at, version_hash;
  std::int64_t input = 0, output = 0, cached = 0, reasoning = 0, cache_write = 0, embedding = 0;
  bool json = false;
} flags;

int usage_error(const std::string& what) {
  std::fprintf(stderr, "tokenworks: %s\n", what.c_str());
  return app::kBadUsage;
}

nlohmann::ordered_json json_of(const billing::Quote& q, const billing::PriceQuestion& asked) {
  const billing::PriceAnswer& a = q.answer;
  const auto instant = [](std::int64_t ns, std::int64_t none) {
    return ns == none ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(http::rfc3339(ns));
  };
  nlohmann::ordered_json j;
  j["model"] = asked.model;
  j["organization"] = asked.organization;
  j["plan"] = asked.plan;
  j["tier"] = asked.tier == Tier::priority ? "priority" : asked.tier == Tier::batch ? "batch" : "standard";
  j["at"] = http::rfc3339(asked.unix_ns);
  j["version"] = a.version;
  j["version_hash"] = a.version_hash;
  j["from"] = instant(a.from_unix_ns, INT64_MIN);
  j["until"] = instant(a.until_unix_ns, INT64_MAX);
  j["file"] = a.where.file;
  j["line"] = a.where.line;
  j["override"] = a.override_of;
  j["prompt_tokens"] = asked.prompt_tokens;
  j["band_over"] = a.band_over ? nlohmann::ordered_json(*a.band_over) : nlohmann::ordered_json(nullptr);
  j["time"] = a.time;
  j["time_multiplier"] = format_decimal(a.time_micro, 6);
  j["tier_multiplier"] = format_decimal(a.tier_micro, 6);
  j["lines"] = nlohmann::ordered_json::array();
  for (const billing::QuoteLine& l : q.lines) {
    j["lines"].push_back({{"class", l.token_class}, {"tokens", l.tokens}, {"list_price", l.list_price}, {"price", l.price},
                          {"exact", l.exact}, {"amount", to_string(l.amount, q.currency)}});
  }
  j["exact"] = q.exact;
  j["total"] = to_string(q.total, q.currency);
  j["currency"] = q.currency;
  return j;
}

// The book that answers: the one named by its hash, the one that was in force at a moment that is past, else the files'.
// The ledger knows the past; it is read beside a running daemon.
Result<billing::ArchivedBook> book_for(const config::Config& c, std::int64_t unix_ns, std::int64_t now_ns) {
  auto book = billing::PriceBook::make(c.prices);
  if (!book) return book.error();
  const std::string path = c.plant.data_dir + "/ledger.sqlite";
  std::error_code ignored;
  const bool there = std::filesystem::exists(path, ignored);
  if (!flags.version_hash.empty() && !there) return error(Errc::not_found, path + ": there is no ledger that could keep past prices");
  if (there && (unix_ns < now_ns || !flags.version_hash.empty())) {
    const auto history = ledger::price_history_of_file(path);
    if (!history) return history.error();
    if (!flags.version_hash.empty()) return billing::book_by_hash(*history, flags.version_hash);
    auto past = billing::book_in_force(*history, unix_ns);
    if (!past || past->book) return past;
  }
  return billing::ArchivedBook{std::move(*book)};
}

int price() {
  config::Config c;
  int code = app::kOk;
  if (!load_config(flags.config, c, code)) return code;
  for (const config::ModelSpec& m : c.plant.models) {
    if (std::ranges::find(m.aliases, flags.model) != m.aliases.end()) flags.model = m.id;
  }
  billing::PriceQuestion asked;
  if (!flags.organization.empty()) {
    const auto o = std::ranges::find(c.tenants.organizations, flags.organization, &config::OrganizationSpec::name);
    if (o == c.tenants.organizations.end()) return usage_error("there is no organization '" + flags.organization + "'");
    if (flags.plan.empty()) flags.plan = o->plan;
  }
  if (!flags.plan.empty()) {
    const auto p = std::ranges::find(c.tenants.plans, flags.plan, &config::PlanSpec::name);
    if (p == c.tenants.plans.end()) return usage_error("there is no plan '" + flags.plan + "'");
    asked.tier = p->tier;
  }
  if (!flags.tier.empty()) {
    if (flags.tier != "priority" && flags.tier != "standard" && flags.tier != "batch") {
      return usage_error("--tier takes priority, standard or batch, not '" + flags.tier + "'");
    }
    asked.tier = flags.tier == "priority" ? Tier::priority : flags.tier == "batch" ? Tier::batch : Tier::standard;
  }
  const std::int64_t now_ns = SystemClock().unix_ns();
  asked.unix_ns = now_ns;
  if (!flags.at.empty()) {
    const auto at = parse_instant(flags.at);
    if (!at) return usage_error("--at takes an instant such as 2026-12-24T18:00:00+01:00 or a date (midnight UTC)");
    asked.unix_ns = *at;
  }
  if (flags.input < 0 || flags.output < 0 || flags.cached < 0 || flags.cache_write < 0 || flags.reasoning < 0 || flags.embedding < 0) {
    return usage_error("a number of tokens cannot be negative");
  }
  if (flags.cached > flags.input || flags.cache_write > flags.input - flags.cached || flags.reasoning > flags.output) {
    return usage_error("--cached and --cache-write are parts of --input, --reasoning is a part of --output: they cannot be larger");
  }
  asked.model = flags.model;
  asked.organization = flags.organization;
  asked.plan = flags.plan;
  asked.prompt_tokens = std::max(flags.input, flags.embedding);
  const auto book = book_for(c, asked.unix_ns, now_ns);
  if (!book) return fail(book.error());
  auto quote = billing::quote(*book->book, asked,
                              {flags.input - flags.cached - flags.cache_write, flags.cached, flags.cache_write,
                               flags.output - flags.reasoning, flags.reasoning, flags.embedding});
  if (!quote) return fail(quote.error());
  if (quote->answer.where.line == 0) {               // kept by the ledger, which knows when it was in force
    quote->answer.from_unix_ns = book->from_unix_ns;
    quote->answer.until_unix_ns = book->until_unix_ns;
  }
  if (flags.json) {
    std::printf("%s\n", json_of(*quote, asked).dump().c_str());
  } else {
    std::printf("%-11s%s\n%s", "model", flags.model.c_str(), billing::to_text(*quote, asked).c_str());
  }
  return app::kOk;
}

}  // namespace

void add_price(CLI::App& app, Action& action) {
  CLI::App* sub = app.add_subcommand("price", "What a request costs and why, line by line");
  sub->add_option("--config", flags.config, "tokenworks.yaml")->required();
  sub->add_option("--model", flags.model, "Model id or alias")->required();
  sub->add_option("--input", flags.input, "Prompt tokens, cached ones included");
  sub->add_option("--output", flags.output, "Output tokens, reasoning included");
  sub->add_option("--cached", flags.cached, "Prompt tokens found in the cache");
  sub->add_option("--cache-write", flags.cache_write, "Prompt tokens written to the cache");
  sub->add_option("--reasoning", flags.reasoning, "Output tokens of reasoning");
  sub->add_option("--embedding", flags.embedding, "Prompt tokens of an embedding");
  sub->add_option("--tier", flags.tier, "priority, standard or batch; the plan's otherwise");
  sub->add_option("--organization", flags.organization, "Whose prices, and whose plan's");
  sub->add_option("--plan", flags.plan, "Prices of a plan");
  sub->add_option("--at", flags.at, "Moment of admission, past ones by what the ledger keeps; now otherwise");
  sub->add_option("--version-hash", flags.version_hash, "The price book an entry names (price_hash), in force or not");
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->callback([&action] { action = price; });
}

}  // namespace tokenworks::cli
