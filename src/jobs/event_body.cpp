#include "event_body.hpp"

#include <nlohmann/json.hpp>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/time_zone.hpp"

namespace tokenworks::jobs {
namespace {

using Json = nlohmann::ordered_json;

std::string utc(std::int64_t unix_s) {
  std::string text = (*TimeZone::find("UTC"))->format(unix_s);
  if (text.ends_with("+00:00")) text.replace(text.size() - 6, 6, "Z");
  return text;
}

Json or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

EventName named(std::string_view secret, const char* type, const std::string& what) {
  const Digest digest = hmac_sha256(secret, std::string(type) + "\n" + what);
  return {"evt_" + hex(std::span(digest).first(16)), type};
}

std::string whole(const EventName& name, std::int64_t unix_ns, Json data) {
  Json j;
  j["id"] = name.id;
  j["type"] = name.type;
  j["timestamp"] = utc(unix_ns / 1'000'000'000);
  j["data"] = std::move(data);
  return j.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const char* word(config::BudgetSpec::Per per) {
  switch (per) {
    case config::BudgetSpec::Per::day: return "day";
    case config::BudgetSpec::Per::week: return "week";
    case config::BudgetSpec::Per::month: return "month";
    case config::BudgetSpec::Per::total: return "total";
  }
  return "?";
}

}  // namespace

EventName name_of(std::string_view secret, const billing::BudgetEvent& e) {
  return named(secret, "budget.threshold",
               e.organization + "\n" + e.budget + "\n" + std::to_string(e.period_start_s) + "\n" + std::to_string(e.percent));
}

EventName name_of(std::string_view secret, const RequestId& operation) {
  return named(secret, "credit.expired", operation.to_string());
}

std::string body_of(const EventName& name, const billing::BudgetEvent& e, std::int64_t unix_ns) {
  Json data;
  data["organization"] = e.organization;
  data["project"] = e.project.empty() ? Json(nullptr) : Json(e.organization + "/" + e.project);
  data["budget"] = e.budget;
  data["percent"] = e.percent;
  data["amount"] = to_string(e.amount, e.currency);
  data["spent"] = to_string(e.spent, e.currency);
  data["currency"] = e.currency;
  data["mode"] = e.spec.hard ? "hard" : "soft";
  data["per"] = word(e.spec.per);
  data["period_start"] = e.period_start_s == INT64_MIN ? Json(nullptr) : Json(utc(e.period_start_s));
  data["timezone"] = e.spec.timezone;
  data["model"] = or_null(e.spec.model);
  data["key"] = or_null(e.spec.key);
  data["tag"] = or_null(e.spec.tag);
  return whole(name, unix_ns, std::move(data));
}

std::string body_of(const EventName& name, std::string_view organization, std::string_view currency,
                    const billing::Balance::Lapse& lapse, const RequestId& operation, std::int64_t unix_ns) {
  Json data;
  data["organization"] = organization;
  data["credit"] = lapse.credit.to_string();
  data["amount"] = to_string(lapse.amount, currency);
  data["currency"] = currency;
  data["expired_at"] = utc(lapse.expires_unix_ns / 1'000'000'000);
  data["operation"] = operation.to_string();
  return whole(name, unix_ns, std::move(data));
}

}  // namespace tokenworks::jobs
