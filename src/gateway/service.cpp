// The story of one request (docs/life_of_a_request.md): from a parsed body to a settled hold.
#include <atomic>

#include "serving.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::gateway {
namespace asio = boost::asio;

namespace {

// Reports a request's outcome when its coroutine ends, in whichever way.
struct Told {
  const ServiceParts& parts;
  AnswerSink& sink;
  std::int64_t began_ns;
  Outcome outcome;
  ~Told() {
    outcome.seconds = static_cast<double>(parts.clock.steady_ns() - began_ns) * 1e-9;
    sink.ended(outcome);
    if (parts.on_done) parts.on_done(outcome);
  }
};

class ServiceImpl final : public ServiceControl {
 public:
  explicit ServiceImpl(ServiceParts parts) : parts_(std::move(parts)) {}

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
    for (const auto& m : parts_.models) {
      if (may_see(caller, *m)) cards.push_back(m->card);
    }
    return cards;
  }

  Result<ModelCard> model(const Caller& caller, std::string_view id_or_alias) const override {
    const auto found = find(id_or_alias);
    if (!found) return unknown_model(id_or_alias);
    if (auto seen = may_see(caller, *found); !seen) return seen.error();
    return found->card;
  }

  asio::awaitable<Result<Receipt>> generate(Caller caller, RequestId id, GenerateRequest request, AnswerSink& sink,
                                            Departure& departure) override;

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
  std::shared_ptr<const ServedModel> find(std::string_view name) const {
    for (const auto& m : parts_.models) {
      if (m->card.id == name) return m;
      for (const std::string& alias : m->card.aliases) {
        if (alias == name) return m;
      }
    }
    return nullptr;
  }
  asio::awaitable<Result<Receipt>> admit_and_run(Caller caller, RequestId id, std::shared_ptr<const GenerateRequest> request,
                                                 AnswerSink& sink, Departure& departure, Outcome& outcome);

  ServiceParts parts_;
  std::atomic<bool> draining_{false};
};

asio::awaitable<Result<Receipt>> ServiceImpl::generate(Caller caller, RequestId id, GenerateRequest request, AnswerSink& sink,
                                                       Departure& departure) {
  Told told{parts_, sink, parts_.clock.steady_ns(), {}};
  Outcome& outcome = told.outcome;
  outcome.request = id;
  outcome.organization = caller.principal->organization.value;
  outcome.project = caller.principal->project.value;
  outcome.model = request.model.substr(0, 100);
  outcome.ok = false;
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
  if (draining_) {
    Error e = error(Errc::server_draining, "This server is shutting down; try again.");
    e.retry_after_ms = 1000;
    co_return e;
  }
  const tenancy::Principal& who = *caller.principal;
  const std::shared_ptr<const ServedModel> model = find(request->model);
  if (!model) co_return unknown_model(request->model);
  outcome.model = model->card.id;

  std::string data_class = request->data_class;
  if (data_class.empty() && who.project_spec != nullptr) data_class = who.project_spec->data_class;
  if (data_class.empty()) data_class = model->spec.data_classes.front();
  tenancy::UseCase use;
  use.model = model->card.id;
  use.model_data_classes = &model->spec.data_classes;
  use.data_class = data_class;
  use.jurisdiction = parts_.jurisdiction;
  use.unix_ns = parts_.clock.unix_ns();
  if (auto allowed = tenancy::may_use(who, use); !allowed) co_return allowed.error();

  RateState rates;
  auto entrance = parts_.admission.enter(who, model->card.id, &rates);
  if (!entrance) {
    sink.refused(rates);
    co_return entrance.error();
  }

  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto bell = std::make_shared<Bell>(executor);
  const std::int64_t unix_seconds = parts_.clock.unix_ns() / 1'000'000'000;
  auto preparing = prepare(request, model, unix_seconds, bell, parts_.workers);
  auto prepared = co_await std::move(preparing);
  if (!prepared) co_return prepared.error();

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
  ask.choices = static_cast<std::int64_t>(prepared->prompts.size()) * request->choices;
  ask.tier = request->tier;
  ask.data_class = data_class;
  ask.retry_count = request->retry_count;
  ask.tags = request->tags;
  auto signals = std::make_shared<Signals>();
  ledger::OnDurable hold_durable = [signals, bell](const Result<>& committed) {
    signals->hold.store(committed ? 1 : 2);
    bell->ring();
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
  start.choices = static_cast<std::uint32_t>(ask.choices);
  Serving serving(parts_, model, request, id, bell, signals, std::move(*prepared), std::move(*hold), std::move(start), sink,
                  departure, outcome);
  auto receipt = co_await serving.run();
  co_return receipt;
}

}  // namespace

std::unique_ptr<ServiceControl> ServiceControl::make(ServiceParts parts) {
  return std::make_unique<ServiceImpl>(std::move(parts));
}

}  // namespace tokenworks::gateway
