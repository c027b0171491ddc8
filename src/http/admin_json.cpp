#include "tokenworks/http/admin_json.hpp"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/tenancy/limits.hpp"

namespace tokenworks::http {
namespace {

using Json = nlohmann::ordered_json;

Json key_json(const ledger::KeyRow& row) {
  Json j;
  j["id"] = row.id.value;
  j["organization"] = row.organization.value.empty() ? Json(nullptr) : Json(row.organization.value);
  j["project"] = row.project.value.empty() ? Json(nullptr) : Json(row.project.value);
  j["role"] = row.role;
  j["principal"] = row.principal;
  j["models"] = row.models;
  if (!row.limits.empty()) j["limits"] = Json::parse(row.limits, nullptr, false);
  j["created"] = rfc3339(row.created_unix_ns);
  j["expires"] = row.expires_unix_ns == 0 ? Json(nullptr) : Json(rfc3339(row.expires_unix_ns));
  j["revoked"] = row.revoked_unix_ns == 0 ? Json(nullptr) : Json(rfc3339(row.revoked_unix_ns));
  if (!row.rotated_from.empty()) j["rotated_from"] = row.rotated_from;
  return j;
}

constexpr std::string_view kTierNames[] = {"priority", "standard", "batch"};

}  // namespace

std::string rfc3339(std::int64_t unix_ns) {
  const std::time_t seconds = unix_ns / 1'000'000'000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[96];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<int>(unix_ns / 1'000'000 % 1000));
  return text;
}

Result<std::int64_t> expiry_from_text(std::string_view text, std::int64_t now_unix_ns) {
  const auto refuse = [&] {
    return error(Errc::invalid_request, "'" + std::string(text.substr(0, 40)) + "' is no time: a duration such as 30d or 12h, or an "
                                        "instant such as 2026-12-31T00:00:00Z, is needed", "expires");
  };
  std::int64_t number = 0;
  std::size_t at = 0;
  for (; at < text.size() && at < 9 && text[at] >= '0' && text[at] <= '9'; ++at) number = number * 10 + (text[at] - '0');
  if (at > 0 && at + 1 == text.size()) {
    const std::int64_t unit = text[at] == 's' ? 1 : text[at] == 'm' ? 60 : text[at] == 'h' ? 3600 : text[at] == 'd' ? 86400 : 0;
    std::int64_t ns = 0;
    if (unit == 0 || number == 0 || __builtin_mul_overflow(number, unit * 1'000'000'000, &ns) ||
        __builtin_add_overflow(ns, now_unix_ns, &ns)) {
      return refuse();
    }
    return ns;
  }
  const auto instant = text.size() == 20 && text.back() == 'Z' ? parse_instant(text) : std::nullopt;
  if (!instant) return refuse();
  if (*instant <= now_unix_ns) return error(Errc::invalid_request, "'" + std::string(text) + "' is in the past", "expires");
  return *instant;
}

Result<tenancy::KeyOrder> key_order_from_json(std::string_view body, std::int64_t now_unix_ns) {
  const Json j = Json::parse(body.empty() ? "{}" : body, nullptr, false);
  if (!j.is_object()) return error(Errc::invalid_request, "the body must be a JSON object");
  tenancy::KeyOrder order;
  for (const auto& [key, value] : j.items()) {
    const auto text = [&](std::string& into) -> Result<> {
      if (value.is_null()) return {};
      if (!value.is_string()) return error(Errc::invalid_request, "'" + key + "' must be a string", key);
      into = value.get<std::string>();
      return {};
    };
    Result<> read{};
    if (key == "organization") read = text(order.organization);
    else if (key == "project") read = text(order.project);
    else if (key == "role") read = text(order.role);
    else if (key == "principal") read = text(order.principal);
    else if (key == "expires") {
      std::string when;
      read = text(when);
      if (read && !when.empty()) {
        auto expiry = expiry_from_text(when, now_unix_ns);
        if (!expiry) return expiry.error();
        order.expires_unix_ns = *expiry;
      }
    } else if (key == "models") {
      if (!value.is_array()) return error(Errc::invalid_request, "'models' must be a list of strings", key);
      for (const auto& model : value) {
        if (!model.is_string()) return error(Errc::invalid_request, "'models' must be a list of strings", key);
        order.models.push_back(model.get<std::string>());
      }
    } else if (key == "limits") {
      if (value.is_null()) continue;
      if (!value.is_object()) return error(Errc::invalid_request, "'limits' must be an object of whole numbers", key);
      for (const auto& [limit, number] : value.items()) {
        if (auto set = tenancy::set_limit(order.limits, limit, number.dump()); !set) return error(set.error().code, set.error().message, "limits." + limit);
      }
    } else {
      return error(Errc::invalid_request, "unknown field '" + key + "'; known are organization, project, role, principal, expires, models, limits", key);
    }
    if (!read) return read.error();
  }
  return order;
}

std::string to_json(const gateway::KeyIssued& issued) {
  Json j;
  j["key"] = issued.text;
  j.update(key_json(issued.row));
  return j.dump();
}

std::string to_json(const std::vector<ledger::KeyRow>& rows) {
  Json j;
  j["data"] = Json::array();
  for (const auto& row : rows) j["data"].push_back(key_json(row));
  return j.dump();
}

std::string to_json(const std::string& currency, const std::vector<ledger::UsageRow>& rows) {
  Json j;
  j["currency"] = currency;
  j["data"] = Json::array();
  for (const ledger::UsageRow& row : rows) {
    Json r;
    if (row.bucket_unix_s != 0) r["bucket"] = row.bucket_unix_s;
    if (!row.organization.empty()) r["organization"] = row.organization;
    if (!row.project.empty()) r["project"] = row.project;
    if (!row.key.empty()) r["key"] = row.key;
    if (!row.model.empty()) r["model"] = row.model;
    if (!row.tier.empty()) r["tier"] = row.tier;
    r["requests"] = row.requests;
    r["input_tokens"] = row.usage.input;
    r["cached_input_tokens"] = row.usage.cached_input;
    r["output_tokens"] = row.usage.output;
    r["cost"] = to_string(row.cost, row.currency.empty() ? currency : row.currency);
    j["data"].push_back(std::move(r));
  }
  return j.dump();
}

std::string to_json(const ledger::VerifyReport& report) {
  Json j;
  j["ok"] = report.ok;
  j["entries"] = report.entries;
  j["open_holds"] = report.open_holds;
  j["debits"] = report.debits;
  j["credits"] = report.credits;
  j["head"] = report.head;
  j["first_bad"] = report.first_bad ? Json(*report.first_bad) : Json(nullptr);
  return j.dump();
}

std::string to_json(const std::vector<ledger::Entry>& entries) {
  Json j;
  j["data"] = Json::array();
  const auto nullable = [](const std::optional<std::string>& text) { return text ? Json(*text) : Json(nullptr); };
  for (const ledger::Entry& e : entries) {
    Json r;
    r["type"] = ledger::name(e.type);
    r["schema_version"] = e.schema_version;
    r["writer_id"] = e.writer_id;
    r["seq"] = e.seq;
    r["time"] = rfc3339(e.unix_ns);
    r["request_id"] = e.request.to_string();
    r["organization"] = e.organization.value;
    r["project"] = e.project.value;
    r["key_id"] = e.key.value;
    r["actor"] = e.actor;
    r["model"] = e.model.value;
    r["model_digest"] = e.model_digest;
    r["tokenizer_digest"] = e.tokenizer_digest;
    r["price_version"] = e.price_version;
    r["price_hash"] = e.price_hash;
    r["tier"] = kTierNames[static_cast<int>(e.tier)];
    r["input_tokens"] = e.usage.input;
    r["cached_input_tokens"] = e.usage.cached_input;
    r["output_tokens"] = e.usage.output;
    r["reasoning_tokens"] = e.usage.reasoning;
    r["amount"] = to_string(e.amount, e.currency);
    r["held"] = to_string(e.held, e.currency);
    r["currency"] = e.currency;
    Json lines = Json::object();
    for (const auto& [token_class, amount] : e.lines) lines[token_class] = to_string(amount, e.currency);
    r["lines"] = std::move(lines);
    r["finish_reason"] = e.finish_reason;
    r["retry_count"] = e.retry_count;
    r["build_id"] = e.build_id;
    r["region"] = e.region;
    r["jurisdiction"] = e.jurisdiction;
    r["data_class"] = e.data_class;
    r["token_commitment"] = nullable(e.token_commitment);
    r["attestation_id"] = nullable(e.attestation_id);
    r["receipt_id"] = nullable(e.receipt_id);
    r["prev_hash"] = hex(e.prev_hash);
    r["hash"] = hex(e.hash);
    j["data"].push_back(std::move(r));
  }
  return j.dump();
}

std::string to_json(const std::vector<ledger::AuditEvent>& events) {
  Json j;
  j["data"] = Json::array();
  for (const ledger::AuditEvent& e : events) {
    j["data"].push_back({{"time", rfc3339(e.unix_ns)}, {"actor", e.actor}, {"action", e.action}, {"object", e.object},
                         {"before", e.before_hash.empty() ? Json(nullptr) : Json(e.before_hash)},
                         {"after", e.after_hash.empty() ? Json(nullptr) : Json(e.after_hash)}});
  }
  return j.dump();
}

}  // namespace tokenworks::http
