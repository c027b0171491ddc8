// Credits and budgets: the operator's routes for every organization, and an organization's own view of its money. Every call
// blocks on the ledger and therefore runs on a worker.
#include "errors.hpp"
#include "handlers.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/http/money_json.hpp"

namespace tokenworks::http {
namespace {

Reply json_reply(std::string body) {
  Reply reply;
  reply.headers.add("cache-control", "no-store");
  reply.body = std::move(body);
  return reply;
}

// On the admin listener the path names the organization, on the public one the key does.
std::string organization_of(const Exchange& exchange) {
  return exchange.plane == Plane::api ? exchange.caller.principal->organization.value : exchange.captures.at(0);
}

}  // namespace

Answer add_credit(Exchange& exchange) {
  const auto order = gateway::credit_from_json(exchange.request.body, SystemClock{}.unix_ns(), exchange.plant.administration->currency());
  if (!order) co_return error_reply(order.error());
  const std::string organization = organization_of(exchange), actor = actor_of(exchange);
  Result<gateway::CreditBooked> booked = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { booked = exchange.plant.administration->add_credit(organization, *order, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!booked) co_return error_reply(booked.error());
  co_return json_reply(to_json(*booked));
}

Answer list_credits(Exchange& exchange) {
  const std::string organization = organization_of(exchange);
  Result<gateway::CreditsView> view = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { view = exchange.plant.administration->credits(organization); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!view) co_return error_reply(view.error());
  co_return json_reply(to_json(*view));
}

Answer expire_credits(Exchange& exchange) {
  const std::string organization = organization_of(exchange), actor = actor_of(exchange);
  Result<gateway::CreditsView> view = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { view = exchange.plant.administration->expire_credits(organization, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!view) co_return error_reply(view.error());
  co_return json_reply(to_json(*view));
}

Answer list_budgets(Exchange& exchange) {
  const std::string organization = organization_of(exchange);
  Result<std::vector<gateway::BudgetView>> views = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { views = exchange.plant.administration->budgets(organization); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!views) co_return error_reply(views.error());
  co_return json_reply(to_json(*views));
}

Answer set_budget(Exchange& exchange) {
  const auto order = gateway::budget_from_json(exchange.request.body, exchange.plant.administration->currency());
  if (!order) co_return error_reply(order.error());
  const std::string organization = organization_of(exchange), actor = actor_of(exchange);
  Result<gateway::BudgetView> view = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { view = exchange.plant.administration->set_budget(organization, *order, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!view) co_return error_reply(view.error());
  co_return json_reply(to_json(*view));
}

Answer remove_budget(Exchange& exchange) {
  const std::string organization = organization_of(exchange), id = exchange.captures.at(1), actor = actor_of(exchange);
  Result<> done = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { done = exchange.plant.administration->remove_budget(organization, id, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!done) co_return error_reply(done.error());
  co_return json_reply(R"({"removed":true})");
}

}  // namespace tokenworks::http
