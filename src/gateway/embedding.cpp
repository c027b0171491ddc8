#include "embedding.hpp"

#include <algorithm>
#include <cmath>

namespace tokenworks::gateway {
namespace asio = boost::asio;

namespace {

Error too_long(std::size_t input, std::int64_t tokens, std::int64_t most) {
  return error(Errc::context_length_exceeded,
               "Input " + std::to_string(input) + " has " + (tokens > 0 ? std::to_string(tokens) : "far more than " + std::to_string(most)) +
                   " tokens; this model takes at most " + std::to_string(most) + ". Split or shorten it.",
               "input");
}

// Ids are taken as they are. Those of another tokenizer would give a vector that means nothing: where this model's texts have
// a first and a last token of their own, their absence tells.
Result<> check_ids(const std::vector<TokenId>& ids, const ServedModel& model) {
  const std::int32_t vocab = model.engine->info().vocab;
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab) {
      return error(Errc::invalid_request, "token id " + std::to_string(id) + " is not in this model's vocabulary of " + std::to_string(vocab) +
                                              " tokens; ids of another tokenizer cannot be used: send text", "input");
    }
  }
  const auto first = model.tokenizer->bos(), last = model.tokenizer->end_of_text();
  if (!ids.empty() && first && last && (ids.front() != *first || ids.back() != *last)) {
    return error(Errc::invalid_request, "token ids for this model begin with " + std::to_string(*first) + " and end with " + std::to_string(*last) +
                                            ", as POST /v1/tokenize gives them; these do not, and ids of another tokenizer cannot be used: send text",
                 "input");
  }
  return {};
}

int weight(engine::Finish finish) {
  switch (finish) {
    case engine::Finish::failed: return 3;
    case engine::Finish::deadline: return 2;
    case engine::Finish::cancelled: return 1;
    default: return 0;
  }
}

}  // namespace

std::size_t input_bytes(const EmbedRequest& request) {
  std::size_t bytes = 0;
  for (const auto& input : request.inputs) {
    if (const auto* text = std::get_if<std::string>(&input)) bytes += text->size();
  }
  return bytes;
}

Result<std::vector<std::vector<TokenId>>> encode_inputs(const EmbedRequest& request, const ServedModel& model, std::int64_t tokens_max) {
  const model::RunnerInfo& info = model.engine->info();
  const std::int64_t most = info.context_tokens - (info.generates ? 1 : 0);
  std::vector<std::vector<TokenId>> all;
  all.reserve(request.inputs.size());
  std::int64_t total = 0;
  for (const auto& input : request.inputs) {
    std::vector<TokenId> ids;
    if (const auto* text = std::get_if<std::string>(&input)) {
      if (text->size() > static_cast<std::size_t>(most) * std::max<std::size_t>(model.longest_token_bytes, 256)) return too_long(all.size(), 0, most);
      ids = model.tokenizer->encode(*text);
      if (const auto first = model.tokenizer->bos()) ids.insert(ids.begin(), *first);
      if (const auto last = model.tokenizer->end_of_text()) ids.push_back(*last);
    } else {
      ids = std::get<std::vector<TokenId>>(input);
      if (auto own = check_ids(ids, model); !own) return own.error();
    }
    if (ids.empty()) return error(Errc::invalid_request, "input " + std::to_string(all.size()) + " is empty", "input");
    const auto length = static_cast<std::int64_t>(ids.size());
    if (length > most) return too_long(all.size(), length, most);
    total += length;
    if (total > tokens_max) {
      return error(Errc::invalid_request, "the inputs have more than " + std::to_string(tokens_max) + " tokens together; send them in several requests", "input");
    }
    all.push_back(std::move(ids));
  }
  if (all.empty()) return error(Errc::invalid_request, "the request has no input", "input");
  return all;
}

Result<model::Pooling> pooling_of(const EmbedRequest& request, const ServedModel& model) {
  const model::RunnerInfo& info = model.engine->info();
  if (model.spec.embeddings == "off" || info.embedding_columns == 0) {
    return error(Errc::invalid_request, "The model '" + model.card.id + "' makes no embeddings at this plant; it answers chats and completions", "model");
  }
  if (request.dimensions && *request.dimensions > info.embedding_columns) {
    return error(Errc::invalid_request, "'dimensions' must be at most " + std::to_string(info.embedding_columns) + ", the size of this model's vectors", "dimensions");
  }
  if (model.spec.embeddings == "last") return model::Pooling::last;
  if (model.spec.embeddings == "mean") return model::Pooling::mean;
  if (model.spec.embeddings == "first") return model::Pooling::first;
  return info.pooling;
}

void normalize(std::vector<float>& vector, std::size_t dimensions) {
  vector.resize(std::min(vector.size(), dimensions));
  double squares = 0;
  for (const float x : vector) squares += static_cast<double>(x) * x;
  if (squares == 0) return;
  const double factor = 1.0 / std::sqrt(squares);
  for (float& x : vector) x = static_cast<float>(x * factor);
}

Embedding::Embedding(const ServiceParts& parts, std::shared_ptr<const ServedModel> model, std::shared_ptr<const EmbedRequest> request,
                     RequestId id, std::shared_ptr<Bell> bell, std::shared_ptr<Signals> signals, Hold hold, Departure& departure)
    : parts_(parts), model_(std::move(model)), request_(std::move(request)), id_(id), bell_(std::move(bell)),
      signals_(std::move(signals)), hold_(std::move(hold)), departure_(departure) {
  departure_.on_leave([bell = bell_.get()] { bell->ring_here(); });
}

Embedding::~Embedding() {
  departure_.on_leave({});
  if (stream_) stream_->detach();
  if (running_) model_->engine->cancel(id_);
}

asio::awaitable<Result<Embedded>> Embedding::run(std::vector<std::vector<TokenId>> texts, model::Pooling pooling,
                                                std::int64_t deadline_ns, Outcome& outcome) {
  for (const auto& text : texts) lengths_.push_back(static_cast<std::int64_t>(text.size()));
  vectors_.resize(texts.size());
  engine::Sequence sequence;
  sequence.pooling = pooling;
  sequence.choices = static_cast<std::uint32_t>(texts.size());
  sequence.max_tokens = 1;
  sequence.texts = std::move(texts);
  sequence.deadline_ns = deadline_ns;
  stream_ = std::make_shared<engine::TokenStream>([bell = bell_] { bell->ring(); });
  auto accepted = model_->engine->submit(hold_.take_ticket(), std::move(sequence), stream_);
  if (!accepted) co_return accepted.error();
  running_ = true;
  bool told = false;
  while (running_) {
    co_await bell_->wait();
    if (departure_.left() && !told) {
      told = true;
      model_->engine->cancel(id_);
    }
    if (signals_->hold.load() == 2 && !departure_.left()) {
      co_return error(Errc::ledger_unavailable, "The ledger could not record this request; try again later.");
    }
    take_events();
  }
  auto settling = settle(outcome);
  auto settled = co_await std::move(settling);
  co_return settled;
}

void Embedding::take_events() {
  events_.clear();
  stream_->drain(events_);
  for (const engine::TokenEvent& event : events_) {
    if (event.finish == engine::Finish::running) continue;
    ++ended_;
    if (event.finish == engine::Finish::stop) {
      usage_.input += lengths_[event.choice];
      vectors_[event.choice] = stream_->take_embedding(event.choice);
    } else if (weight(event.finish) > weight(finish_)) {
      finish_ = event.finish;
    }
  }
  running_ = ended_ < vectors_.size();
}

// Vectors are worth something only all together: a client that gets none because of us pays none. One that left, or whose
// time was over, pays for the inputs that were computed.
asio::awaitable<Result<Embedded>> Embedding::settle(Outcome& outcome) {
  const bool ours = finish_ == engine::Finish::failed || (finish_ == engine::Finish::cancelled && !departure_.left());
  if (ours) usage_ = {};
  outcome.usage = usage_;
  outcome.finish = engine::name(finish_);
  auto charge = hold_.settle(usage_, engine::name(finish_), [signals = signals_, bell = bell_](const Result<>& committed) {
    signals->settle.store(committed ? 1 : 2);
    bell->ring();
  });
  if (!charge) co_return charge.error();
  outcome.charge = charge->total;
  outcome.currency = hold_.currency();
  while (signals_->settle.load() == 0 && !departure_.left()) co_await bell_->wait();
  if (departure_.left()) co_return error(Errc::cancelled, "the client left");
  if (signals_->settle.load() == 2 || signals_->hold.load() == 2) {
    co_return error(Errc::ledger_unavailable, "The ledger could not record the end of this request.");
  }
  if (finish_ == engine::Finish::failed) co_return error(Errc::engine_failed, "The engine failed; nothing was charged, retry the request.");
  if (finish_ == engine::Finish::cancelled) co_return error(Errc::server_draining, "The server is shutting down; nothing was charged.");
  if (finish_ == engine::Finish::deadline) {
    co_return error(Errc::deadline_exceeded, "The request could not end within its x-request-timeout; it was ended after " +
                                                 std::to_string(usage_.input) + " tokens.");
  }
  Embedded done;
  for (std::vector<float>& vector : vectors_) {
    normalize(vector, request_->dimensions ? static_cast<std::size_t>(*request_->dimensions) : vector.size());
  }
  done.vectors = std::move(vectors_);
  done.rates = hold_.rates();
  done.receipt.request = id_;
  done.receipt.model = model_->card.id;
  done.receipt.usage = usage_;
  done.receipt.cost = charge->total;
  done.receipt.currency = hold_.currency();
  done.receipt.tier = hold_.tier();
  for (billing::ChargeLine& line : charge->lines) done.receipt.lines.push_back({std::move(line.token_class), line.tokens, line.amount});
  co_return done;
}

}  // namespace tokenworks::gateway
