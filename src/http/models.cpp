#include "errors.hpp"
#include "handlers.hpp"
#include "json_out.hpp"

namespace tokenworks::http {
namespace {

// OpenAI's four fields, and what an auditor asks of a model: its digest, numerics, context and other names.
void append_card(std::string& out, const gateway::ModelCard& card) {
  JsonObject object(out);
  object.string("id", card.id);
  object.string("object", "model");
  object.integer("created", card.created_unix_s);
  object.string("owned_by", card.owned_by);
  JsonObject plant(object.key("tokenworks"));
  plant.string_or_null("digest", card.digest);
  plant.string_or_null("system_fingerprint", card.fingerprint);
  plant.string_or_null("format", card.format);
  plant.integer("context_tokens", card.context_tokens);
  std::string& aliases = plant.key("aliases") += '[';
  for (std::size_t i = 0; i < card.aliases.size(); ++i) {
    if (i > 0) aliases += ',';
    append_string(aliases, card.aliases[i]);
  }
  aliases += ']';
  plant.close();
  object.close();
}

}  // namespace

Answer list_models(Exchange& exchange) {
  Reply reply;
  reply.body = R"({"object":"list","data":[)";
  bool first = true;
  for (const gateway::ModelCard& card : exchange.plant.service->models(exchange.caller)) {
    if (!first) reply.body += ',';
    first = false;
    append_card(reply.body, card);
  }
  reply.body += "]}";
  co_return reply;
}

Answer show_model(Exchange& exchange) {
  const auto card = exchange.plant.service->model(exchange.caller, exchange.captures.at(0));
  if (!card) co_return error_reply(card.error());
  exchange.account.model = card->id;
  Reply reply;
  append_card(reply.body, *card);
  co_return reply;
}

}  // namespace tokenworks::http
