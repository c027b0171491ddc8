#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/billing/quote.hpp"
#include "tokenworks/http/admin_json.hpp"

namespace tokenworks::cli {
namespace {

struct Flags {
  std::string config, model, tier, organization, plan, at;
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

int price() {
  config::Config c;
  int code = app::kOk;
  if (!load_config(flags.config, c, code)) return code;
  auto book = billing::PriceBook::make(c.prices);
  if (!book) return fail(book.error());
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
  asked.unix_ns = SystemClock().unix_ns();
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
  auto quote = billing::quote(**book, asked,
                              {flags.input - flags.cached - flags.cache_write, flags.cached, flags.cache_write,
                               flags.output - flags.reasoning, flags.reasoning, flags.embedding});
  if (!quote) return fail(quote.error());
  if (flags.json) {
    std::printf("%s\n", json_of(*quote, asked).dump().c_str());
  } else {
    std::printf("%-11s%s\n%s", "model", flags.model.c_str(), billing::to_text(*quote, asked).c_str());
  }
  return app::kOk;
}

}  // namespace

void add_price(CLI::App& app, Action& action) {
  CLI::App* sub = app.add_subcommand("price", "What a request costs and why, line by line, from the price book alone");
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
  sub->add_option("--at", flags.at, "Moment of admission; now otherwise");
  sub->add_flag("--json", flags.json, "Print JSON");
  sub->callback([&action] { action = price; });
}

}  // namespace tokenworks::cli
