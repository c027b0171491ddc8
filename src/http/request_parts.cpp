#include "request_parts.hpp"

#include <algorithm>

namespace tokenworks::http {
namespace {

// draft-ietf-httpapi-ratelimit-headers: every limit that applies as a named policy, and what is left of it. `t` is when
// all of it is back, in whole seconds. "tokens" is no registered unit, but leaving it out would say requests.
void add_policy_headers(const gateway::RateState& rates, Headers& headers) {
  std::string policy, state;
  for (const gateway::RatePolicy& p : rates.policies) {
    const bool places = p.interval_s == 0;
    std::string name(p.counted);
    std::replace(name.begin(), name.end(), ' ', '-');
    const std::string unit = places ? "concurrent-requests" : p.counted == "requests" ? "requests" : "tokens";
    if (!places) name += p.interval_s == 60 ? "-per-minute" : p.interval_s == 3600 ? "-per-hour" : "-per-day";
    if (!policy.empty()) policy += ", ", state += ", ";
    policy += '"' + name + "\";q=" + std::to_string(p.limit) + ";qu=\"" + unit + '"';
    state += '"' + name + "\";r=" + std::to_string(std::max<std::int64_t>(p.remaining, 0));
    if (!places) {
      policy += ";w=" + std::to_string(p.interval_s);
      state += ";t=" + std::to_string((p.reset_ms + 999) / 1000);
    }
  }
  if (policy.empty()) return;
  headers.add("ratelimit-policy", policy);
  headers.add("ratelimit", state);
}

}  // namespace

void add_rate_headers(const gateway::RateState& rates, Headers& headers) {
  if (rates.limit_requests >= 0) {
    headers.add("x-ratelimit-limit-requests", std::to_string(rates.limit_requests));
    headers.add("x-ratelimit-remaining-requests", std::to_string(std::max<std::int64_t>(rates.remaining_requests, 0)));
    headers.add("x-ratelimit-reset-requests", reset_duration(rates.reset_requests_ms));
  }
  if (rates.limit_tokens >= 0) {
    headers.add("x-ratelimit-limit-tokens", std::to_string(rates.limit_tokens));
    headers.add("x-ratelimit-remaining-tokens", std::to_string(std::max<std::int64_t>(rates.remaining_tokens, 0)));
    headers.add("x-ratelimit-reset-tokens", reset_duration(rates.reset_tokens_ms));
  }
  add_policy_headers(rates, headers);
}

Result<RequestHeaders> read_request_headers(const Headers& headers) {
  RequestHeaders out;
  if (const auto text = headers.get("x-request-timeout"); !text.empty()) {
    const auto ns = parse_seconds(text);
    if (!ns) return error(Errc::invalid_request, "the header x-request-timeout must be a number of seconds above 0 and up to 86400", "x-request-timeout");
    out.timeout_ns = *ns;
  }
  if (const auto count = parse_integer(headers.get("x-stainless-retry-count")); count && *count >= 0 && *count < 1000) {
    out.retry_count = static_cast<std::int32_t>(*count);
  }
  out.data_class = std::string(headers.get("x-tokenworks-data-class"));
  return out;
}

void note_outcome(Account& account, const gateway::Outcome& outcome) {
  account.model = outcome.model;
  account.usage = outcome.usage;
  account.charge = outcome.charge;
  account.currency = outcome.currency;
  if (outcome.queue_seconds >= 0) account.queue_seconds = outcome.queue_seconds;
}

void note_refused(Exchange& exchange, const std::string& named) {
  if (!exchange.account.model.empty()) return;
  const auto card = exchange.plant.service->model(exchange.caller, named);
  if (card) exchange.account.model = card->id;
}

}  // namespace tokenworks::http
