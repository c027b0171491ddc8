#include "organization.hpp"

#include <algorithm>
#include <ctime>
#include <map>
#include <tuple>

#include "errors.hpp"
#include "handlers.hpp"
#include "json_out.hpp"

namespace tokenworks::http {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kLatest = 9'000'000'000;      // in 2255; later times do not fit 64 bits of nanoseconds

Result<std::int64_t> time_of(const Query& query, const char* name, std::int64_t otherwise) {
  if (!query.has(name)) return otherwise;
  const auto value = parse_integer(query.get(name));
  if (!value || *value < 0 || *value > kLatest) {
    return error(Errc::invalid_request, std::string("'") + name + "' must be a Unix time in seconds", name);
  }
  return *value;
}

std::optional<Error> read_group(const std::vector<std::string>& words, bool costs, Dimensions& group) {
  for (const std::string& word : words) {
    if (word == "project_id") {
      group.project = true;
    } else if (word == "api_key_id") {
      group.key = true;
    } else if (word == "organization_id") {          // ours: the operator sees all organizations
      group.organization = true;
    } else if ((word == "model" && !costs) || (word == "line_item" && costs)) {
      group.model = true;
    } else if (word == "service_tier" && !costs) {
      group.tier = true;
    } else {
      return error(Errc::invalid_request,
                   std::string("'group_by' may hold project_id, api_key_id, organization_id") + (costs ? ", line_item" : ", model, service_tier"),
                   "group_by");
    }
  }
  return std::nullopt;
}

bool passes(const std::vector<std::string>& filter, const std::string& value) {
  return filter.empty() || std::find(filter.begin(), filter.end(), value) != filter.end();
}

// What a result is grouped by; "" where it is not.
struct GroupKey {
  std::string organization, project, model, tier, key, currency;
  auto operator<=>(const GroupKey&) const = default;
};
struct Sum {
  std::int64_t requests = 0;
  Usage usage;
  Money cost;
};
using Buckets = std::map<std::int64_t, std::map<GroupKey, Sum>>;

Result<Buckets> gather(const PageQuery& page, const std::vector<ledger::UsageRow>& rows, bool by_currency) {
  Buckets buckets;
  for (const ledger::UsageRow& row : rows) {
    if (!passes(page.projects, row.project) || !passes(page.models, row.model) || !passes(page.keys, row.key)) continue;
    GroupKey key;
    if (page.group.organization) key.organization = row.organization;
    if (page.group.project) key.project = row.project;
    if (page.group.model) key.model = row.model;
    if (page.group.tier) key.tier = row.tier;
    if (page.group.key) key.key = row.key;
    if (by_currency) key.currency = row.currency;
    Sum& sum = buckets[row.bucket_unix_s][key];
    sum.requests += row.requests;
    sum.usage.input += row.usage.input;
    sum.usage.cached_input += row.usage.cached_input;
    sum.usage.output += row.usage.output;
    sum.usage.reasoning += row.usage.reasoning;
    const auto cost = add(sum.cost, row.cost);
    if (!cost) return error(Errc::internal, "a sum of costs overflowed");
    sum.cost = *cost;
  }
  return buckets;
}

const char* tier_word(const std::string& tier) { return tier == "priority" ? "priority" : tier == "batch" ? "flex" : "default"; }

void append_usage_result(std::string& out, const PageQuery& page, const GroupKey& key, const Sum& sum) {
  JsonObject object(out);
  object.string("object", "organization.usage.completions.result");
  object.integer("input_tokens", sum.usage.input);
  object.integer("input_cached_tokens", sum.usage.cached_input);
  object.integer("input_uncached_tokens", sum.usage.input - sum.usage.cached_input);
  object.integer("output_tokens", sum.usage.output);
  object.integer("num_model_requests", sum.requests);
  object.string_or_null("project_id", key.project);
  object.raw("user_id", "null");
  object.string_or_null("api_key_id", key.key);
  object.string_or_null("model", key.model);
  object.raw("batch", "null");
  object.string_or_null("service_tier", page.group.tier ? tier_word(key.tier) : "");
  if (page.group.organization) object.string_or_null("organization_id", key.organization);
  object.close();
}

void append_cost_result(std::string& out, const PageQuery& page, const GroupKey& key, const Sum& sum) {
  JsonObject object(out);
  object.string("object", "organization.costs.result");
  JsonObject amount(object.key("amount"));
  amount.raw("value", to_string(sum.cost, key.currency));          // exact: written digit by digit
  std::string currency = key.currency;
  std::transform(currency.begin(), currency.end(), currency.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  amount.string("currency", currency);
  amount.close();
  object.string_or_null("line_item", key.model);
  object.string_or_null("project_id", key.project);
  object.string_or_null("api_key_id", key.key);
  object.raw("quantity", "null");
  object.raw("quantity_unit", "null");
  if (page.group.organization) object.string_or_null("organization_id", key.organization);
  object.close();
}

template <class Append>
Result<std::string> write_page(const PageQuery& page, const std::vector<ledger::UsageRow>& rows, bool by_currency, Append append) {
  const auto buckets = gather(page, rows, by_currency);
  if (!buckets) return buckets.error();
  const std::int64_t page_end = std::min(page.end_s, page.start_s + page.limit * page.width_s);
  std::string out = R"({"object":"page","data":[)";
  for (std::int64_t at = page.start_s; at < page_end; at += page.width_s) {
    if (at > page.start_s) out += ',';
    JsonObject bucket(out);
    bucket.string("object", "bucket");
    bucket.integer("start_time", at);
    bucket.integer("end_time", at + page.width_s);
    bucket.key("results") += '[';
    if (const auto found = buckets->find(at); found != buckets->end()) {
      bool first = true;
      for (const auto& [key, sum] : found->second) {
        if (!first) out += ',';
        first = false;
        append(out, page, key, sum);
      }
    }
    out += ']';
    bucket.close();
  }
  const bool more = page_end < page.end_s;
  out += std::string(R"(],"has_more":)") + (more ? "true" : "false") + R"(,"next_page":)";
  if (more) {
    append_string(out, "page_" + std::to_string(page_end));
  } else {
    out += "null";
  }
  return out + "}";
}

Answer answer_page(Exchange& exchange, bool costs_wanted) {
  const auto page = read_page_query(exchange.query, costs_wanted, std::time(nullptr));
  if (!page) co_return error_reply(page.error());
  // The public listener shows an organization its own figures; the admin table shows all.
  const std::string organization = exchange.plane == Plane::api ? exchange.caller.principal->organization.value : "";
  const ledger::UsageQuery query = ledger_query(*page, organization);
  Result<std::vector<ledger::UsageRow>> rows = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { rows = exchange.plant.administration->usage(query); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!rows) co_return error_reply(rows.error());
  auto body = costs_wanted ? costs_page(*page, *rows) : usage_page(*page, *rows);
  if (!body) co_return error_reply(body.error());
  Reply reply;
  reply.headers.add("cache-control", "no-store");
  reply.body = std::move(*body);
  co_return reply;
}

}  // namespace

Result<PageQuery> read_page_query(const Query& query, bool costs, std::int64_t now_s) {
  PageQuery page;
  if (!query.has("start_time")) return error(Errc::invalid_request, "'start_time' is required: a Unix time in seconds", "start_time");
  const auto start = time_of(query, "start_time", 0), end = time_of(query, "end_time", now_s);
  if (!start) return start.error();
  if (!end) return end.error();
  const std::string width = query.has("bucket_width") ? query.get("bucket_width") : "1d";
  std::int64_t most = 0;
  if (width == "1d") {
    page.width_s = 86400, page.limit = 7, most = costs ? 180 : 31;
  } else if (width == "1h" && !costs) {
    page.width_s = 3600, page.limit = 24, most = 168;
  } else if (width == "1m" && !costs) {
    page.width_s = 60, page.limit = 60, most = 1440;
  } else {
    return error(Errc::invalid_request, costs ? "'bucket_width' must be 1d" : "'bucket_width' must be 1m, 1h or 1d", "bucket_width");
  }
  if (query.has("limit")) {
    const auto limit = parse_integer(query.get("limit"));
    if (!limit || *limit < 1 || *limit > most) {
      return error(Errc::invalid_request, "'limit' must be between 1 and " + std::to_string(most), "limit");
    }
    page.limit = *limit;
  }
  page.start_s = *start - *start % page.width_s;
  page.end_s = (*end + page.width_s - 1) / page.width_s * page.width_s;
  if (*end <= *start) return error(Errc::invalid_request, "'end_time' must lie after 'start_time'", "end_time");
  if (query.has("page")) {
    const std::string cursor = query.get("page");
    const auto at = cursor.starts_with("page_") ? parse_integer(std::string_view(cursor).substr(5)) : std::nullopt;
    if (!at || *at < page.start_s || *at >= page.end_s || *at % page.width_s != 0) {
      return error(Errc::invalid_request, "'page' must be the next_page of an earlier answer to the same query", "page");
    }
    page.start_s = *at;
  }
  if (const auto mistake = read_group(query.list("group_by"), costs, page.group)) return *mistake;
  page.projects = query.list("project_ids");
  page.models = query.list("models");
  page.keys = query.list("api_key_ids");
  return page;
}

ledger::UsageQuery ledger_query(const PageQuery& page, const std::string& organization) {
  ledger::UsageQuery query;
  query.from_unix_ns = page.start_s * kSecond;
  const std::int64_t end = std::min(page.end_s, page.start_s + page.limit * page.width_s);
  query.to_unix_ns = end > INT64_MAX / kSecond ? INT64_MAX : end * kSecond;
  query.organization = organization;
  query.bucket_seconds = page.width_s;
  query.by_project = page.group.project || !page.projects.empty();
  query.by_model = page.group.model || !page.models.empty();
  query.by_tier = page.group.tier;
  query.by_key = page.group.key || !page.keys.empty();
  return query;
}

Result<std::string> usage_page(const PageQuery& page, const std::vector<ledger::UsageRow>& rows) {
  return write_page(page, rows, false, append_usage_result);
}

Result<std::string> costs_page(const PageQuery& page, const std::vector<ledger::UsageRow>& rows) {
  return write_page(page, rows, true, append_cost_result);
}

Answer usage_completions(Exchange& exchange) { return answer_page(exchange, false); }
Answer costs(Exchange& exchange) { return answer_page(exchange, true); }

}  // namespace tokenworks::http
