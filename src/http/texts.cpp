// Routes about texts: embeddings, which are billable like answers but come whole, and the two that translate tokens.
#include "errors.hpp"
#include "handlers.hpp"
#include "idempotent.hpp"
#include "json_out.hpp"
#include "openai_texts.hpp"
#include "request_parts.hpp"

namespace tokenworks::http {
namespace {

constexpr std::size_t kParsedHere = 128 << 10;       // larger bodies are parsed off the IO thread

// Parses the body where its size allows.
template <class T>
boost::asio::awaitable<Result<T>> parse(Exchange& exchange, const std::function<Result<T>()>& parser) {
  Result<T> parsed = error(Errc::internal, "not parsed");
  const std::function<void()> work = [&] { parsed = parser(); };
  if (exchange.request.body.size() <= kParsedHere) {
    work();
  } else {
    co_await on_worker(*exchange.plant.workers, work);
  }
  co_return parsed;
}

Reply refusal(const Error& error, const gateway::RateState& rates) {
  Reply reply = error_reply(error);
  if (reply.status == 429) add_rate_headers(rates, reply.headers);
  return reply;
}

// The answer to a request that was answered before: as it was, or, where no content is kept, its usage alone.
Reply replay(const ledger::IdempotencyRow& row, const std::string& model, const tenancy::Principal& who) {
  if (auto failed = replay_error(row)) return std::move(*failed);
  Reply reply;
  if (!row.body.empty()) {
    reply.body = row.body;
  } else {
    gateway::Embedded usage_only;
    usage_only.receipt.request = row.request;
    usage_only.receipt.model = model;
    usage_only.receipt.usage = row.usage;
    usage_only.receipt.cost = row.cost;
    usage_only.receipt.usage_only = true;
    if (who.organization_spec != nullptr) usage_only.receipt.currency = who.organization_spec->currency;
    reply.body = embedding_json(usage_only, false);
  }
  reply.headers.add("x-idempotent-replayed", "true");
  return reply;
}

Answer embed(Exchange& exchange, ParsedEmbedding parsed) {
  const auto headers = read_request_headers(exchange.request.headers);
  if (!headers) co_return error_reply(headers.error());
  parsed.request.timeout_ns = headers->timeout_ns;
  parsed.request.retry_count = headers->retry_count;
  parsed.request.data_class = headers->data_class;
  IdempotentRun run(exchange);
  const auto known = run.begin();
  if (!known) co_return error_reply(known.error());
  if (*known) co_return replay(**known, parsed.request.model, *exchange.caller.principal);
  exchange.request.body = {};
  gateway::RateState rates;
  gateway::Outcome outcome;
  gateway::Caller caller = exchange.caller;
  auto embedding = exchange.plant.service->embed(std::move(caller), exchange.id, std::move(parsed.request), exchange.departure, rates, outcome);
  const Result<gateway::Embedded> embedded = co_await std::move(embedding);
  exchange.account.embedding = true;
  note_outcome(exchange.account, outcome);
  run.charged(outcome.usage, outcome.charge);
  if (!embedded) {
    if (embedded.error().code != Errc::cancelled) run.fail(embedded.error());
    co_return refusal(embedded.error(), rates);
  }
  exchange.account.admitted = true;
  Reply reply;
  add_rate_headers(embedded->rates, reply.headers);
  reply.body = embedding_json(*embedded, parsed.base64);
  run.keep(reply.body);
  run.finish(!exchange.departure.left(), embedded->receipt.usage, embedded->receipt.cost);
  co_return reply;
}

}  // namespace

Answer embeddings(Exchange& exchange) {
  const std::function<Result<ParsedEmbedding>()> parser = [&] { return parse_embedding(exchange.request.body, exchange.plant.limits); };
  auto parsing = parse<ParsedEmbedding>(exchange, parser);
  auto parsed = co_await std::move(parsing);
  if (!parsed) co_return error_reply(parsed.error());
  Answer answer = embed(exchange, std::move(*parsed));
  co_return co_await std::move(answer);
}

Answer tokenize(Exchange& exchange) {
  const std::function<Result<gateway::TokenizeRequest>()> parser = [&] { return parse_tokenize(exchange.request.body, exchange.plant.limits); };
  auto parsing = parse<gateway::TokenizeRequest>(exchange, parser);
  auto parsed = co_await std::move(parsing);
  if (!parsed) co_return error_reply(parsed.error());
  const std::string named = parsed->model;
  gateway::RateState rates;
  gateway::Caller caller = exchange.caller;
  auto translating = exchange.plant.service->tokenize(std::move(caller), std::move(*parsed), rates);
  const Result<gateway::Tokenized> tokens = co_await std::move(translating);
  note_refused(exchange, named);
  if (!tokens) co_return refusal(tokens.error(), rates);
  Reply reply;
  add_rate_headers(rates, reply.headers);
  reply.body = tokenize_json(*tokens);
  co_return reply;
}

Answer detokenize(Exchange& exchange) {
  const std::function<Result<gateway::DetokenizeRequest>()> parser = [&] { return parse_detokenize(exchange.request.body); };
  auto parsing = parse<gateway::DetokenizeRequest>(exchange, parser);
  auto parsed = co_await std::move(parsing);
  if (!parsed) co_return error_reply(parsed.error());
  const std::string named = parsed->model;
  gateway::RateState rates;
  gateway::Caller caller = exchange.caller;
  auto translating = exchange.plant.service->detokenize(std::move(caller), std::move(*parsed), rates);
  const Result<gateway::Detokenized> text = co_await std::move(translating);
  note_refused(exchange, named);
  if (!text) co_return refusal(text.error(), rates);
  Reply reply;
  add_rate_headers(rates, reply.headers);
  JsonObject object(reply.body);
  object.string("prompt", text->text);
  object.close();
  co_return reply;
}

}  // namespace tokenworks::http
