// The operator's routes: keys, reload, audit, the ledger. Every call blocks on the ledger and therefore runs on a worker.
// The shapes are those of the CLI (tokenworks/http/admin_json.hpp).
#include <algorithm>

#include "errors.hpp"
#include "handlers.hpp"
#include "json_in.hpp"
#include "json_out.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/http/admin_json.hpp"

namespace tokenworks::http {
namespace {

constexpr const char* kGraceDefault = "24h";

// The body as an object; an empty body is an empty object.
Result<JsonValue> body_of(const Exchange& exchange) {
  if (exchange.request.body.empty()) return JsonValue{.kind = JsonValue::Kind::object};
  auto value = parse_json(exchange.request.body);
  if (value && !value->is_object()) return error(Errc::invalid_request, "the request body must be a JSON object");
  return value;
}

// {"grace": "24h"}: how long the old key still works; "0s": not at all.
Result<std::int64_t> grace_of(const Exchange& exchange) {
  const auto body = body_of(exchange);
  if (!body) return body.error();
  std::optional<Error> mistake;
  Fields fields(*body, "", mistake);
  const std::string grace = fields.string("grace").value_or(kGraceDefault);
  if (mistake) return *mistake;
  if (grace == "0" || grace == "0s") return std::int64_t{0};
  const std::int64_t now = SystemClock{}.unix_ns();
  const auto until = expiry_from_text(grace, now);
  if (!until) return error(Errc::invalid_request, until.error().message, "grace");
  return *until - now;
}

Result<std::int64_t> limit_of(const Exchange& exchange, std::int64_t otherwise, std::int64_t most) {
  const std::string text = exchange.query.get("limit");
  if (text.empty()) return otherwise;
  const auto limit = parse_integer(text);
  if (!limit || *limit < 1) return error(Errc::invalid_request, "limit must be a whole number from 1", "limit");
  return std::min(*limit, most);
}

Reply json_reply(std::string body) {
  Reply reply;
  reply.headers.add("cache-control", "no-store");
  reply.body = std::move(body);
  return reply;
}

}  // namespace

Answer create_key(Exchange& exchange) {
  const auto order = key_order_from_json(exchange.request.body, SystemClock{}.unix_ns());
  if (!order) co_return error_reply(order.error());
  const std::string actor = actor_of(exchange);
  Result<gateway::KeyIssued> issued = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { issued = exchange.plant.administration->create_key(*order, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!issued) co_return error_reply(issued.error());
  co_return json_reply(to_json(*issued));
}

Answer list_keys(Exchange& exchange) {
  const std::string organization = exchange.query.get("organization");
  Result<std::vector<ledger::KeyRow>> rows = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { rows = exchange.plant.administration->list_keys(organization); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!rows) co_return error_reply(rows.error());
  co_return json_reply(to_json(*rows));
}

Answer rotate_key(Exchange& exchange) {
  const auto grace = grace_of(exchange);
  if (!grace) co_return error_reply(grace.error());
  const std::string actor = actor_of(exchange), id = exchange.captures.at(0);
  Result<gateway::KeyIssued> issued = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { issued = exchange.plant.administration->rotate_key(id, *grace, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!issued) co_return error_reply(issued.error());
  co_return json_reply(to_json(*issued));
}

Answer revoke_key(Exchange& exchange) {
  const std::string actor = actor_of(exchange), id = exchange.captures.at(0);
  Result<> done = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { done = exchange.plant.administration->revoke_key(id, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!done) co_return error_reply(done.error());
  co_return json_reply(R"({"revoked":true})");
}

Answer reload(Exchange& exchange) {
  const std::string actor = actor_of(exchange);
  Result<gateway::Reloaded> done = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { done = exchange.plant.administration->reload(actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!done) co_return error_reply(done.error());
  std::string keys;
  for (const std::string& key : done->restart_needed) {
    if (!keys.empty()) keys += ',';
    append_string(keys, key);
  }
  co_return json_reply(R"({"ok":true,"restart_needed":[)" + keys + "]}");
}

Answer audit_events(Exchange& exchange) {
  const auto limit = limit_of(exchange, 100, 10'000);
  if (!limit) co_return error_reply(limit.error());
  Result<std::vector<ledger::AuditEvent>> events = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { events = exchange.plant.administration->audit_events(*limit); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!events) co_return error_reply(events.error());
  co_return json_reply(to_json(*events));
}

Answer request_entries(Exchange& exchange) {
  const auto id = RequestId::parse(exchange.captures.at(0));
  if (!id) co_return error_reply(error(Errc::invalid_request, "the request id must look like req_ and 32 hexadecimal digits", "id"));
  Result<std::vector<ledger::Entry>> entries = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { entries = exchange.plant.administration->entries_of(*id); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!entries) co_return error_reply(entries.error());
  if (entries->empty()) co_return error_reply(error(Errc::not_found, "the ledger has no entry of " + id->to_string()));
  co_return json_reply(to_json(*entries));
}

Answer verify_ledger(Exchange& exchange) {
  Result<ledger::VerifyReport> report = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { report = exchange.plant.administration->verify(); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!report) co_return error_reply(report.error());
  co_return json_reply(to_json(*report));
}

Answer backup_ledger(Exchange& exchange) {
  const auto body = body_of(exchange);
  if (!body) co_return error_reply(body.error());
  std::optional<Error> mistake;
  Fields fields(*body, "", mistake);
  const std::string path = fields.string("path").value_or("");
  if (path.empty() || path[0] != '/') fields.fail("path", "is required: an absolute path on the server");
  if (mistake) co_return error_reply(*mistake);
  const std::string actor = actor_of(exchange);
  Result<> done = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { done = exchange.plant.administration->backup(path, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!done) co_return error_reply(done.error());
  std::string answer;
  JsonObject object(answer);
  object.boolean("ok", true);
  object.string("path", path);
  object.close();
  co_return json_reply(std::move(answer));
}

Answer erase_annotations(Exchange& exchange) {
  const auto body = body_of(exchange);
  if (!body) co_return error_reply(body.error());
  std::optional<Error> mistake;
  Fields fields(*body, "", mistake);
  const std::string organization = fields.string("organization").value_or("");
  if (organization.empty()) fields.fail("organization", "is required: whose names and tags are erased");
  if (mistake) co_return error_reply(*mistake);
  const std::string actor = actor_of(exchange);
  Result<> done = error(Errc::internal, "not run");
  const std::function<void()> work = [&] {
    done = exchange.plant.administration->erase_annotations(organization, actor);
  };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!done) co_return error_reply(done.error());
  std::string answer;
  JsonObject object(answer);
  object.boolean("ok", true);
  object.string("organization", organization);
  object.close();
  co_return json_reply(std::move(answer));
}

}  // namespace tokenworks::http
