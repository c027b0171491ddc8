// Models loaded, replaced, unloaded and renamed by the operator (docs/models.md). A call returns when the change is in
// force; weights load on a worker meanwhile, and an operator who leaves does not stop them.
#include "errors.hpp"
#include "handlers.hpp"
#include "json_in.hpp"
#include "json_out.hpp"
#include "tokenworks/http/admin_json.hpp"

namespace tokenworks::http {
namespace {

using gateway::ModelOrder;

Reply json_reply(std::string body) {
  Reply reply;
  reply.headers.add("cache-control", "no-store");
  reply.body = std::move(body);
  return reply;
}

// The body as an object; an empty one where the order needs none.
Result<JsonValue> object_of(std::string_view body) {
  if (body.empty()) return JsonValue{.kind = JsonValue::Kind::object};
  auto value = parse_json(body);
  if (value && !value->is_object()) return error(Errc::invalid_request, "the request body must be a JSON object");
  return value;
}

Answer change(Exchange& exchange, ModelOrder order) {
  const std::string actor = actor_of(exchange);
  Result<std::vector<gateway::ModelState>> models = error(Errc::internal, "not run");
  const std::function<void()> work = [&] { models = exchange.plant.administration->change_models(order, actor); };
  co_await on_worker(*exchange.plant.blocking, work);
  if (!models) co_return error_reply(models.error());
  co_return json_reply(to_json(*models));
}

Result<ModelOrder> described(ModelOrder::Kind kind, std::string id, const std::string& body) {
  const auto value = object_of(body);
  if (!value) return value.error();
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  const std::string named = fields.string("id").value_or(id);
  if (named.empty()) fields.fail("id", "is required: a model of tokenworks.yaml");
  if (mistake) return *mistake;
  if (!id.empty() && named != id) return error(Errc::invalid_request, "a model keeps its id; give another name as an alias", "id");
  return ModelOrder{kind, named, "", body};
}

}  // namespace

std::string to_json(const std::vector<gateway::ModelState>& models) {
  std::string out = R"({"data":[)";
  const auto list = [](std::string& into, const std::vector<std::string>& words) {
    into += '[';
    for (const std::string& word : words) {
      if (into.back() != '[') into += ',';
      append_string(into, word);
    }
    into += ']';
  };
  for (const gateway::ModelState& m : models) {
    if (out.back() != '[') out += ',';
    JsonObject object(out);
    object.string("id", m.id);
    object.string("state", m.state);
    object.string("path", m.path);
    object.string_or_null("digest", m.digest);
    object.string_or_null("system_fingerprint", m.fingerprint);
    object.string_or_null("format", m.format);
    object.integer("context_tokens", m.context_tokens);
    list(object.key("aliases"), m.aliases);
    list(object.key("data_classes"), m.data_classes);
    object.integer("running", m.running);
    object.integer("waiting", m.waiting);
    object.close();
  }
  return out + "]}";
}

Answer list_served_models(Exchange& exchange) {
  std::vector<gateway::ModelState> models;
  const std::function<void()> work = [&] { models = exchange.plant.administration->models(); };
  co_await on_worker(*exchange.plant.blocking, work);
  co_return json_reply(to_json(models));
}

Answer load_model(Exchange& exchange) {
  auto order = described(ModelOrder::Kind::load, "", exchange.request.body);
  if (!order) co_return error_reply(order.error());
  Answer changing = change(exchange, std::move(*order));
  co_return co_await std::move(changing);
}

Answer replace_model(Exchange& exchange) {
  auto order = described(ModelOrder::Kind::replace, exchange.captures.at(0), exchange.request.body);
  if (!order) co_return error_reply(order.error());
  Answer changing = change(exchange, std::move(*order));
  co_return co_await std::move(changing);
}

Answer unload_model(Exchange& exchange) {
  ModelOrder order{ModelOrder::Kind::unload, exchange.captures.at(0), "", ""};
  Answer changing = change(exchange, std::move(order));
  co_return co_await std::move(changing);
}

Answer set_alias(Exchange& exchange) {
  const auto value = object_of(exchange.request.body);
  if (!value) co_return error_reply(value.error());
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  ModelOrder order{ModelOrder::Kind::alias, fields.string("model").value_or(""), fields.string("alias").value_or(""), ""};
  if (order.alias.empty()) fields.fail("alias", "is required: the name clients use");
  if (order.id.empty()) fields.fail("model", "is required: the id of a loaded model");
  if (mistake) co_return error_reply(*mistake);
  Answer changing = change(exchange, std::move(order));
  co_return co_await std::move(changing);
}

Answer remove_alias(Exchange& exchange) {
  ModelOrder order{ModelOrder::Kind::alias, "", exchange.captures.at(0), ""};
  Answer changing = change(exchange, std::move(order));
  co_return co_await std::move(changing);
}

}  // namespace tokenworks::http
