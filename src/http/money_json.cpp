#include "tokenworks/http/money_json.hpp"

#include "json_out.hpp"
#include "tokenworks/http/admin_json.hpp"

namespace tokenworks::http {
namespace {

void money_or_null(JsonObject& object, const char* name, const std::optional<Money>& money, const std::string& currency) {
  if (money) {
    object.string(name, to_string(*money, currency));
  } else {
    object.raw(name, "null");
  }
}

void time_or_null(JsonObject& object, const char* name, bool known, std::int64_t unix_ns) {
  object.string_or_null(name, known ? rfc3339(unix_ns) : "");
}

void append(std::string& out, const gateway::BudgetView& budget) {
  const config::BudgetSpec& spec = budget.state.spec;
  const billing::Period& period = budget.state.period;
  JsonObject object(out);
  object.string("id", budget.id);
  object.boolean("declared_in_config", budget.declared);
  object.string_or_null("project", budget.state.project);
  object.string_or_null("model", spec.model);
  object.string_or_null("key", spec.key);
  object.string_or_null("tag", spec.tag);
  object.string("amount", to_string(spec.amount, budget.currency));
  object.string("currency", budget.currency);
  object.string("per", gateway::per_name(spec.per));
  object.string("mode", spec.hard ? "hard" : "soft");
  std::string& list = object.key("warn_at");
  list += '[';
  for (std::size_t i = 0; i < spec.warn_at.size(); ++i) {
    if (i > 0) list += ',';
    append_integer(list, spec.warn_at[i]);
  }
  list += ']';
  object.string("timezone", spec.timezone);
  object.string("spent", to_string(budget.state.spent, budget.currency));
  object.string("held", to_string(budget.state.held, budget.currency));
  constexpr std::int64_t kSecond = 1'000'000'000;
  time_or_null(object, "period_start", period.start_s != INT64_MIN, period.start_s != INT64_MIN ? period.start_s * kSecond : 0);
  time_or_null(object, "period_end", period.end_s != INT64_MAX, period.end_s != INT64_MAX ? period.end_s * kSecond : 0);
  object.close();
}

}  // namespace

std::string to_json(const gateway::CreditBooked& booked) {
  std::string out;
  JsonObject object(out);
  object.string("id", booked.order.id);
  object.string("operation", booked.operation.to_string());
  object.string("amount", to_string(booked.order.amount, booked.currency));
  time_or_null(object, "expires", booked.order.expires_unix_ns != 0, booked.order.expires_unix_ns);
  object.boolean("correction", booked.order.correction);
  object.boolean("created", booked.created);
  object.string("balance", to_string(booked.balance, booked.currency));
  object.close();
  return out;
}

std::string to_json(const gateway::CreditsView& view) {
  std::string out;
  JsonObject object(out);
  object.string("organization", view.organization);
  object.string("currency", view.currency);
  money_or_null(object, "balance", view.balance, view.currency);
  money_or_null(object, "credit_line", view.credit_line, view.currency);
  object.string("held", to_string(view.held, view.currency));
  money_or_null(object, "free", view.free, view.currency);
  object.key("data") += '[';
  bool first = true;
  for (const gateway::CreditsView::Credit& credit : view.credits) {
    if (!first) out += ',';
    first = false;
    JsonObject row(out);
    row.string_or_null("id", credit.id);
    row.string("operation", credit.operation.to_string());
    row.string("amount", to_string(credit.amount, view.currency));
    row.string("remaining", to_string(credit.remaining, view.currency));
    time_or_null(row, "booked", true, credit.booked_unix_ns);
    time_or_null(row, "expires", credit.expires_unix_ns != 0, credit.expires_unix_ns);
    row.boolean("expired", credit.expired);
    row.close();
  }
  out += ']';
  object.close();
  return out;
}

std::string to_json(const gateway::BudgetView& budget) {
  std::string out;
  append(out, budget);
  return out;
}

std::string to_json(const std::vector<gateway::BudgetView>& budgets) {
  std::string out = R"({"data":[)";
  for (std::size_t i = 0; i < budgets.size(); ++i) {
    if (i > 0) out += ',';
    append(out, budgets[i]);
  }
  return out + "]}";
}

}  // namespace tokenworks::http
