#pragma once
// Embedding: one request for vectors, from its admitted hold to a durable settle. The same story as an answer
// (docs/life_of_a_request.md) without a stream: every input is a sequence of the engine's, charged for its tokens; nothing
// is generated. Lives in the coroutine's frame; when that dies early the sequences are cancelled and the hold is released.
#include <boost/asio/awaitable.hpp>
#include <memory>
#include <vector>

#include "bell.hpp"
#include "serving.hpp"
#include "tokenworks/gateway/plant.hpp"
#include "tokenworks/gateway/texts.hpp"

namespace tokenworks::gateway {

std::size_t input_bytes(const EmbedRequest& request);
// One list of ids per input. Errors name the parameter: invalid_request (foreign ids, an empty input),
// context_length_exceeded. Pure; any thread.
Result<std::vector<std::vector<TokenId>>> encode_inputs(const EmbedRequest& request, const ServedModel& model, std::int64_t tokens_max);
// How this model pools; an error (param "model") when it does not, or "dimensions" are more than it has.
Result<model::Pooling> pooling_of(const EmbedRequest& request, const ServedModel& model);
// To length 1, of the first `dimensions`. A vector of nothing but zeros stays one.
void normalize(std::vector<float>& vector, std::size_t dimensions);

class Embedding {
 public:
  Embedding(const ServiceParts& parts, std::shared_ptr<const ServedModel> model, std::shared_ptr<const EmbedRequest> request,
            RequestId id, std::shared_ptr<Bell> bell, std::shared_ptr<Signals> signals, Hold hold, Departure& departure);
  ~Embedding();
  Embedding(const Embedding&) = delete;
  Embedding& operator=(const Embedding&) = delete;

  boost::asio::awaitable<Result<Embedded>> run(std::vector<std::vector<TokenId>> texts, model::Pooling pooling, std::int64_t deadline_ns, Outcome& outcome);

 private:
  void take_events();
  boost::asio::awaitable<Result<Embedded>> settle(Outcome& outcome);

  const ServiceParts& parts_;
  std::shared_ptr<const ServedModel> model_;
  std::shared_ptr<const EmbedRequest> request_;
  RequestId id_;
  std::shared_ptr<Bell> bell_;
  std::shared_ptr<Signals> signals_;
  Hold hold_;
  Departure& departure_;
  std::shared_ptr<engine::TokenStream> stream_;
  std::vector<engine::TokenEvent> events_;
  std::vector<std::int64_t> lengths_;                // of the inputs
  std::vector<std::vector<float>> vectors_;
  std::size_t ended_ = 0;
  Usage usage_;                                      // of the inputs that were computed
  engine::Finish finish_ = engine::Finish::stop;     // the worst of any input
  bool running_ = false;
};

}  // namespace tokenworks::gateway
