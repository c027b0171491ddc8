// The story of one request (docs/life_of_a_request.md): from a parsed body to a settled hold.
#include <atomic>

#include "embedding.hpp"
#include "offload.hpp"
#include "prompt.hpp"
#include "serving.hpp"
#include "tokens.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/gateway/model_set.hpp"

namespace tokenworks::gateway {
namespace asio = boost::asio;

namespace {

// Reports a request's outcome when its coroutine ends, in whichever way. The model's name is there once it was found: what a client
// wrote in its place may be a key or a prompt, and outcomes go to the log.
class Told {
 public:
  // To `sink`, or, of an answer that has none, to `copy`.
  Told(const ServiceParts& parts, AnswerSink* sink, Outcome* copy, const tenancy::Principal& who, RequestId id)
      : parts_(parts), sink_(sink), copy_(copy), began_ns_(parts.clock.steady_ns()) {
    outcome.request = id;
    outcome.organization = who.organization.value;
    outcome.project = who.project.value;
    outcome.ok = false;
  }
  Told(const Told&) = delete;
  Told& operator=(const Told&) = delete;
  ~Told() {
    outcome.seconds = static_cast<double>(parts_.clock.steady_ns() - began_ns_) * 1e-9;
    if (sink_ != nullptr) sink_->ended(outcome);
    if (copy_ != nullptr) *copy_ = outcome;
    if (parts_.on_done) parts_.on_done(outcome);
  }
  Outcome outcome;

 private:
  const ServiceParts& parts_;
  AnswerSink* const sink_;
  Outcome* const copy_;
  const std::int64_t began_ns_;
};

class ServiceImpl final : public ServiceControl {
 public:
  explicit ServiceImpl(ServiceParts parts) : parts_(std::move(parts)), bench_(parts_.workers, parts_.worker_count) {}

  Result<Caller> authenticate(std::string_view bearer) const override {
    Caller caller;
    caller.directory = parts_.directory.get();
    if (parts_.identity != nullptr && tenancy::Identity::is_token(bearer)) return of_token(bearer, std::move(caller));
    auto found = caller.directory->find(bearer, parts_.clock.unix_ns());
    if (!found) return found.error();
    caller.principal = *found;
    return caller;
  }

  std::vector<ModelCard> models(const Caller& caller) const override {
    std::vector<ModelCard> cards;
    for (const ModelSet::Entry& e : parts_.models.get()->entries) {
      if (may_see(caller, *e.model)) cards.push_back(e.card());
    }
    return cards;
  }

  Result<ModelCard> model(const Caller& caller, std::string_view id_or_alias) const override {
    const auto served = parts_.models.get();
    const ModelSet::Entry* found = served->find(id_or_alias);
    if (found == nullptr) return unknown_model(id_or_alias);
    if (auto seen = may_see(caller, *found->model); !seen) return seen.error();
    return found->card();
  }

  asio::awaitable<Result<Receipt>> generate(Caller caller, RequestId id, GenerateRequest request, AnswerSink& sink,
                                            Departure& departure) override;

  asio::awaitable<Result<Embedded>> embed(Caller caller, RequestId id, EmbedRequest request, Departure& departure, RateState& rates,
                                          Outcome& ended) override;
  asio::awaitable<Result<Tokenized>> tokenize(Caller caller, TokenizeRequest request, RateState& rates) override;
  asio::awaitable<Result<Detokenized>> detokenize(Caller caller, DetokenizeRequest request, RateState& rates) override;

  bool draining() const override { return draining_.load(); }
  void drain() override { draining_ = true; }

 private:
  // Keys of the plant see everything.
  static Result<> may_see(const Caller& caller, const ServedModel& m) {
    return caller.principal->organization.value.empty() ? Result<>{} : tenancy::may_see(*caller.principal, m.card.id);
  }
  static Error unknown_model(std::string_view name) {
    return error(Errc::model_not_found, "The model '" + std::string(name.substr(0, 200)) + "' does not exist here. "
                                        "GET /v1/models lists those that do.", "model");
  }
  Result<Caller> of_token(std::string_view token, Caller caller) const {
    auto bearer = parts_.identity->verify(token);
    if (!bearer) return bearer.error();
    auto who = caller.directory->member(bearer->organization, bearer->project, bearer->key);
    if (!who) return who.error();
    caller.own = std::make_shared<const tenancy::Principal>(std::move(*who));
    caller.principal = caller.own.get();
    return caller;
  }
  // A model by the name a client gave it, which this caller may use now for data of this class. `named` learns its id.
  struct Usable {
    std::shared_ptr<const ServedModel> model;
    std::string data_class;
  };
  Result<Usable> use(const Caller& caller, std::string_view name, std::string data_class, std::string& named) const;
  asio::awaitable<Result<Embedded>> admit_and_embed(Caller caller, RequestId id, std::shared_ptr<const EmbedRequest> request,
                                                    Departure& departure, RateState& rates, Outcome& outcome);
  asio::awaitable<Result<Receipt>> admit_and_run(Caller caller, RequestId id, std::shared_ptr<const GenerateRequest> request,
                                                 AnswerSink& sink, Departure& departure, Outcome& outcome);

  ServiceParts parts_;
  Workbench bench_;
  std::atomic<bool> draining_{false};
};

Result<ServiceImpl::Usable> ServiceImpl::use(const Caller& caller, std::string_view name, std::string data_class, std::string& named) const {
  if (draining_) {
    Error e = error(Errc::server_draining, "This server is shutting down; try again.");
    e.retry_after_ms = 1000;
    return e;
  }
  const tenancy::Principal& who = *caller.principal;
  const auto served = parts_.models.get();
  const ModelSet::Entry* found = served->find(name);
  if (found == nullptr) return unknown_model(name);
  const std::shared_ptr<const ServedModel>& model = found->model;
  named = model->card.id;
  if (data_class.empty() && who.project_spec != nullptr) data_class = who.project_spec->data_class;
  if (data_class.empty()) data_class = found->data_classes.front();
  tenancy::UseCase use;
  use.model = model->card.id;
  use.model_data_classes = &found->data_classes;
  use.data_class = data_class;
  use.jurisdiction = parts_.jurisdiction;
  use.unix_ns = parts_.clock.unix_ns();
  if (auto allowed = tenancy::may_use(who, use); !allowed) return allowed.error();
  return Usable{model, std::move(data_class)};
}

asio::awaitable<Result<Receipt>> ServiceImpl::generate(Caller caller, RequestId id, GenerateRequest request, AnswerSink& sink,
                                                       Departure& departure) {
  Told told(parts_, &sink, nullptr, *caller.principal, id);
  Outcome& outcome = told.outcome;
  auto shared = std::make_shared<const GenerateRequest>(std::move(request));
  auto running = admit_and_run(std::move(caller), id, std::move(shared), sink, departure, outcome);   // named: see serving.cpp
  auto result = co_await std::move(running);
  outcome.ok = result.has_value();
  if (!result) outcome.error = result.error().code;
  co_return result;
}

asio::awaitable<Result<Receipt>> ServiceImpl::admit_and_run(Caller caller, RequestId id,
                                                            std::shared_ptr<const GenerateRequest> request, AnswerSink& sink,
                                                            Departure& departure, Outcome& outcome) {
  const std::int64_t arrived_ns = parts_.clock.steady_ns();
  auto usable = use(caller, request->model, request->data_class, outcome.model);
  if (!usable) co_return usable.error();
  const tenancy::Principal& who = *caller.principal;
  const std::shared_ptr<const ServedModel> model = std::move(usable->model);
  const std::string data_class = std::move(usable->data_class);
  if (!model->engine->info().generates) {
    co_return error(Errc::invalid_request, "The model '" + model->card.id + "' makes embeddings and cannot answer chats or completions; use POST /v1/embeddings", "model");
  }

  RateState rates;
  auto entrance = parts_.admission.enter(who, model->card.id, &rates);
  if (!entrance) {
    sink.refused(rates);
    co_return entrance.error();
  }

  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto bell = std::make_shared<Bell>(executor);
  const std::int64_t unix_seconds = parts_.clock.unix_ns() / 1'000'000'000;
  auto preparing = prepare(request, model, unix_seconds, bell, bench_, who.organization.value);
  auto prepared = co_await std::move(preparing);
  if (!prepared) co_return prepared.error();
  prepared->arrived_ns = arrived_ns;

  Ask ask;
  ask.request = id;
  ask.model = ModelId{model->card.id};
  ask.model_digest = model->model_digest;
  ask.tokenizer_digest = model->tokenizer_digest;
  const std::int64_t context = model->engine->info().context_tokens;
  for (const auto& prompt : prepared->prompts) {
    const auto length = static_cast<std::int64_t>(prompt.size());
    ask.prompt_tokens += length;
    ask.output_tokens = std::max(ask.output_tokens, std::min(request->max_tokens.value_or(context), context - length));
  }
  ask.output_tokens = std::max<std::int64_t>(ask.output_tokens, 1);   // of the prompt alone, too: a pass makes one, which is not counted
  ask.choices = static_cast<std::int64_t>(prepared->prompts.size()) * request->made();
  ask.tier = request->tier;
  ask.data_class = data_class;
  ask.retry_count = request->retry_count;
  ask.tags = request->tags;
  auto signals = std::make_shared<Signals>();
  // An answer that nobody waits to see before its end is not woken for the good news: its end is committed behind it.
  ledger::OnDurable hold_durable = [signals, bell](const Result<>& committed) {
    signals->hold.store(committed ? 1 : 2);
    if (!committed || signals->hold_awaited.load()) bell->ring();
  };
  auto hold = parts_.admission.admit(who, *entrance, ask, std::move(hold_durable));
  if (!hold) {
    sink.refused(entrance->rates());
    co_return hold.error();
  }

  AnswerStart start;
  start.request = id;
  start.model = model->card.id;
  start.created_unix_s = unix_seconds;
  start.fingerprint = model->card.fingerprint;
  start.tier = hold->tier();
  start.choices = static_cast<std::uint32_t>(prepared->prompts.size()) * request->choices;
  Serving serving(parts_, model, request, id, bell, signals, std::move(*prepared), std::move(*hold), std::move(start), sink,
                  departure, outcome);
  auto receipt = co_await serving.run();
  co_return receipt;
}

asio::awaitable<Result<Embedded>> ServiceImpl::embed(Caller caller, RequestId id, EmbedRequest request, Departure& departure, RateState& rates,
                                                     Outcome& ended) {
  Told told(parts_, nullptr, &ended, *caller.principal, id);
  Outcome& outcome = told.outcome;
  auto shared = std::make_shared<const EmbedRequest>(std::move(request));
  auto running = admit_and_embed(std::move(caller), id, std::move(shared), departure, rates, outcome);   // named: see serving.cpp
  auto result = co_await std::move(running);
  outcome.ok = result.has_value();
  if (!result) outcome.error = result.error().code;
  co_return result;
}

asio::awaitable<Result<Embedded>> ServiceImpl::admit_and_embed(Caller caller, RequestId id, std::shared_ptr<const EmbedRequest> request,
                                                               Departure& departure, RateState& rates, Outcome& outcome) {
  const std::int64_t deadline_ns = request->timeout_ns > 0 ? parts_.clock.steady_ns() + request->timeout_ns : 0;
  auto usable = use(caller, request->model, request->data_class, outcome.model);
  if (!usable) co_return usable.error();
  const std::shared_ptr<const ServedModel> model = std::move(usable->model);
  const auto pooling = pooling_of(*request, *model);
  if (!pooling) co_return pooling.error();
  auto entrance = parts_.admission.enter(*caller.principal, model->card.id, &rates);
  if (!entrance) co_return entrance.error();

  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto bell = std::make_shared<Bell>(executor);
  Result<std::vector<std::vector<TokenId>>> texts = error(Errc::internal, "not encoded");
  const std::int64_t most = parts_.embedding_tokens_max;
  if (input_bytes(*request) <= kInlinePromptBytes) {
    texts = encode_inputs(*request, *model, most);
  } else {
    auto work = std::make_shared<const std::function<Result<std::vector<std::vector<TokenId>>>()>>(
        [request, model, most] { return encode_inputs(*request, *model, most); });
    auto encoding = offload<std::vector<std::vector<TokenId>>>(bench_, caller.principal->organization.value, bell, std::move(work));
    texts = co_await std::move(encoding);
  }
  if (!texts) co_return texts.error();

  Ask ask;
  ask.request = id;
  ask.model = ModelId{model->card.id};
  ask.model_digest = model->model_digest;
  ask.tokenizer_digest = model->tokenizer_digest;
  ask.embedding = true;
  for (const auto& text : *texts) ask.prompt_tokens += static_cast<std::int64_t>(text.size());
  ask.tier = request->tier;
  ask.data_class = std::move(usable->data_class);
  ask.retry_count = request->retry_count;
  ask.tags = request->tags;
  auto signals = std::make_shared<Signals>();
  ledger::OnDurable hold_durable = [signals, bell](const Result<>& committed) {
    signals->hold.store(committed ? 1 : 2);
    if (!committed) bell->ring();                    // what is well recorded is learned with the settlement
  };
  auto hold = parts_.admission.admit(*caller.principal, *entrance, ask, std::move(hold_durable));
  rates = entrance->rates();
  if (!hold) co_return hold.error();
  Embedding embedding(parts_, model, request, id, bell, signals, std::move(*hold), departure);
  auto running = embedding.run(std::move(*texts), *pooling, deadline_ns, outcome);
  auto embedded = co_await std::move(running);
  co_return embedded;
}

asio::awaitable<Result<Tokenized>> ServiceImpl::tokenize(Caller caller, TokenizeRequest request, RateState& rates) {
  std::string named;
  auto usable = use(caller, request.model, {}, named);
  if (!usable) co_return usable.error();
  const std::shared_ptr<const ServedModel> model = std::move(usable->model);
  auto entrance = parts_.admission.enter(*caller.principal, model->card.id, &rates);
  if (!entrance) co_return entrance.error();
  const std::int64_t unix_seconds = parts_.clock.unix_ns() / 1'000'000'000;
  if (text_bytes(request) <= kInlinePromptBytes) co_return tokens_of(request, *model, unix_seconds);
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto bell = std::make_shared<Bell>(executor);
  auto shared = std::make_shared<const TokenizeRequest>(std::move(request));
  auto work = std::make_shared<const std::function<Result<Tokenized>()>>([shared, model, unix_seconds] { return tokens_of(*shared, *model, unix_seconds); });
  auto encoding = offload<Tokenized>(bench_, caller.principal->organization.value, std::move(bell), std::move(work));
  auto tokens = co_await std::move(encoding);
  co_return tokens;
}

asio::awaitable<Result<Detokenized>> ServiceImpl::detokenize(Caller caller, DetokenizeRequest request, RateState& rates) {
  std::string named;
  auto usable = use(caller, request.model, {}, named);
  if (!usable) co_return usable.error();
  auto entrance = parts_.admission.enter(*caller.principal, usable->model->card.id, &rates);
  if (!entrance) co_return entrance.error();
  co_return text_of(request, *usable->model);
}

}  // namespace

std::unique_ptr<ServiceControl> ServiceControl::make(ServiceParts parts) {
  return std::make_unique<ServiceImpl>(std::move(parts));
}

}  // namespace tokenworks::gateway
