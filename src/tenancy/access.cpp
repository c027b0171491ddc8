#include <algorithm>
#include <chrono>
#include <optional>

#include "tokenworks/base/time_zone.hpp"
#include "tokenworks/tenancy/directory.hpp"

namespace tokenworks::tenancy {
namespace {

constexpr std::int64_t kDay = 86'400;

bool lists(const std::vector<std::string>& models, std::string_view model) {
  return std::ranges::any_of(models, [&](const std::string& m) { return m == "*" || m == model; });
}

std::int64_t day_of(std::int64_t local_s) { return std::chrono::floor<std::chrono::days>(std::chrono::seconds{local_s}).count(); }

bool has_day(const config::AccessRule& rule, std::int64_t day) {
  if (rule.days.empty()) return true;
  const int weekday = static_cast<int>(((day + 3) % 7 + 7) % 7);   // 1970-01-01 was a Thursday; 0 is Monday
  return std::ranges::find(rule.days, weekday) != rule.days.end();
}

// Days are those on which a span begins: "fri 22:00 to 06:00" is open on Saturday morning.
bool open(const config::AccessRule& rule, const TimeZone& zone, std::int64_t unix_s) {
  const std::int64_t local = zone.to_local(unix_s), day = day_of(local), minute = (local - day * kDay) / 60;
  if (rule.from_minute < rule.to_minute) return has_day(rule, day) && minute >= rule.from_minute && minute < rule.to_minute;
  return (has_day(rule, day) && minute >= rule.from_minute) || (has_day(rule, day - 1) && minute < rule.to_minute);
}

// The next instant after `unix_s` at which the rule opens. A day whose span falls into a spring gap does not open.
std::optional<std::int64_t> next_opening(const config::AccessRule& rule, const TimeZone& zone, std::int64_t unix_s) {
  const std::int64_t today = day_of(zone.to_local(unix_s));
  for (std::int64_t day = today; day <= today + 15; ++day) {
    if (!has_day(rule, day)) continue;
    const std::int64_t at = zone.to_unix(day * kDay + rule.from_minute * 60);
    if (at > unix_s && open(rule, zone, at)) return at;
  }
  return std::nullopt;
}

std::optional<std::string> not_listed(const Principal& who, std::string_view model) {
  const std::string shown(model);
  if (who.plan != nullptr && !lists(who.plan->models, model)) return "The plan " + who.plan->name + " does not include the model " + shown;
  if (who.project_spec != nullptr && !who.project_spec->models.empty() && !lists(who.project_spec->models, model)) {
    return "The project " + who.project.value + " may not use the model " + shown;
  }
  if (!who.key_models.empty() && !lists(who.key_models, model)) {
    return "The API key " + who.key.value + " is not allowed to use the model " + shown;
  }
  const auto* o = who.organization_spec;
  if (o != nullptr && !o->access.empty() && std::ranges::none_of(o->access, [&](const auto& rule) { return lists(rule.models, model); })) {
    return "No access rule of organization " + o->name + " names the model " + shown;
  }
  return std::nullopt;
}

Result<> open_now(const config::OrganizationSpec& organization, const UseCase& use) {
  const std::int64_t now_s = use.unix_ns / 1'000'000'000;
  std::optional<std::int64_t> next;
  const TimeZone* next_zone = nullptr;
  for (const config::AccessRule& rule : organization.access) {
    if (!lists(rule.models, use.model)) continue;
    const auto zone = TimeZone::find(rule.timezone);
    if (!zone) return error(Errc::internal, zone.error().message);   // checked when the directory was built
    if (open(rule, **zone, now_s)) return {};
    const auto opening = next_opening(rule, **zone, now_s);
    if (opening && (!next || *opening < *next)) next = opening, next_zone = *zone;
  }
  std::string message = "The model " + std::string(use.model) + " is not open to organization " + organization.name + " at this time";
  if (next) message += "; it opens at " + next_zone->format(*next) + " (" + next_zone->name() + ")";
  return error(Errc::model_not_allowed_now, std::move(message));
}

}  // namespace

Result<> may_use(const Principal& who, const UseCase& use) {
  if (auto seen = may_see(who, use.model); !seen) return seen;
  const auto* organization = who.organization_spec;
  if (organization != nullptr && !organization->residency.empty() &&
      std::ranges::find(organization->residency, use.jurisdiction) == organization->residency.end()) {
    return error(Errc::residency_violation, "Data of organization " + organization->name + " may not be processed in " +
                                                (use.jurisdiction.empty() ? "a plant without a jurisdiction" : std::string(use.jurisdiction)));
  }
  // A project's own class binds also a request that names another.
  const std::string_view of_project = who.project_spec != nullptr ? std::string_view(who.project_spec->data_class) : "";
  for (const std::string_view data_class : {use.data_class, of_project}) {
    if (data_class.empty() || use.model_data_classes == nullptr) continue;
    if (std::ranges::find(*use.model_data_classes, data_class) == use.model_data_classes->end()) {
      return error(Errc::model_not_allowed, "The model " + std::string(use.model) + " is not cleared for data of class '" +
                                                std::string(data_class.substr(0, 64)) + "'");
    }
  }
  if (organization != nullptr && !organization->access.empty()) return open_now(*organization, use);
  return {};
}

Result<> may_see(const Principal& who, std::string_view model) {
  if (auto refused = not_listed(who, model)) return error(Errc::model_not_allowed, std::move(*refused), "model");
  return {};
}

std::string data_class_of(const Principal& who, const std::string& named, const std::vector<std::string>& model_data_classes) {
  if (!named.empty()) return named;
  if (who.project_spec != nullptr && !who.project_spec->data_class.empty()) return who.project_spec->data_class;
  return model_data_classes.empty() ? std::string() : model_data_classes.front();
}

}  // namespace tokenworks::tenancy
