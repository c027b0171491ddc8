#include "errors.hpp"
#include "handlers.hpp"
#include "json_out.hpp"

namespace tokenworks::http {
namespace {

// In the form of Kubernetes' own probes: "ok", or with ?verbose a line per check.
Reply probe(const Exchange& exchange, bool ok, const Readiness& state) {
  Reply reply;
  reply.status = ok ? 200 : 503;
  reply.content_type = "text/plain; charset=utf-8";
  reply.headers.add("cache-control", "no-store");
  if (exchange.query.has("verbose")) {
    for (const auto& [name, said] : state.checks) reply.body += (said == "ok" ? "[+]" : "[-]") + name + " " + said + "\n";
  }
  reply.body += ok ? "ok\n" : "not ok\n";
  return reply;
}

}  // namespace

Answer livez(Exchange& exchange) {
  const Readiness state = exchange.plant.readiness();
  co_return probe(exchange, state.live, state);
}

Answer readyz(Exchange& exchange) {
  const Readiness state = exchange.plant.readiness();
  co_return probe(exchange, state.ready, state);
}

// What clients of other engines ask for.
Answer health(Exchange& exchange) {
  const Readiness state = exchange.plant.readiness();
  Reply reply;
  reply.status = state.ready ? 200 : 503;
  reply.headers.add("cache-control", "no-store");
  reply.body = state.ready ? R"({"status":"ok"})" : R"({"status":"unavailable"})";
  co_return reply;
}

Answer metrics(Exchange& exchange) {
  const bool openmetrics = exchange.request.headers.get("accept").find("application/openmetrics-text") != std::string_view::npos;
  Reply reply;
  reply.content_type = openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8";
  telemetry::Metrics& metrics = *exchange.plant.metrics;
  const std::function<void()> work = [&reply, &metrics, openmetrics] { reply.body = metrics.expose(openmetrics); };
  co_await on_worker(*exchange.plant.workers, work);
  co_return reply;
}

}  // namespace tokenworks::http
