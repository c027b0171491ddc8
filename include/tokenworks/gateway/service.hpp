#pragma once
// Service: one request from a parsed body to a settled hold (docs/life_of_a_request.md). `generate` is a coroutine on the IO
// thread of its connection; it calls the tokenizer, admission and an engine, and hands text to an AnswerSink. It is the
// only caller of Engine::submit.
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/gateway/texts.hpp"
#include "tokenworks/gateway/types.hpp"
#include "tokenworks/tenancy/directory.hpp"

namespace tokenworks::gateway {

// Who is asking: pins the directory its principal lives in. Copyable, cheap.
struct Caller {
  std::shared_ptr<const tenancy::Directory> directory;
  const tenancy::Principal* principal = nullptr;     // in the directory, or `own`
  std::shared_ptr<const tenancy::Principal> own;     // of a bearer token
};

// Tells a running request that its client left. Owned by the session, used on its IO thread only.
class Departure {
 public:
  void client_left() {
    left_ = true;
    if (wake_) wake_();
  }
  bool left() const { return left_; }
  void on_leave(std::function<void()> wake) { wake_ = std::move(wake); }

 private:
  bool left_ = false;
  std::function<void()> wake_;
};

struct AnswerStart {
  RequestId request;
  std::string model;                                 // the id
  std::int64_t created_unix_s = 0;
  std::string fingerprint;                           // system_fingerprint
  RateState rates;
  Tier tier = Tier::standard;
  std::uint32_t choices = 1;                         // in all
};

// How a billable request ended, for metrics and the log: what its entry in the ledger says, however the client fared.
struct Outcome {
  RequestId request;
  std::string organization, project, model, currency, finish;
  Errc error = Errc::internal;                       // when !ok
  bool ok = true;
  Usage usage;
  std::int64_t discarded_tokens = 0;                 // generated after a stop was complete; never billed
  Money charge;
  double seconds = 0, queue_seconds = -1, first_token_seconds = -1;
};

// Where an answer goes. Called one at a time, on the connection's thread. An error from either means the client is gone:
// the sequences are cancelled, what was generated is billed.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  // The limits of a request that admission refused; the error comes with generate()'s result.
  virtual void refused(const RateState&) {}
  // Once, when admitted and durable: nothing that fails before it reaches the client as a started answer.
  virtual boost::asio::awaitable<Result<>> begin(const AnswerStart& start) = 0;
  // Everything that became ready together: one write.
  virtual boost::asio::awaitable<Result<>> write(std::vector<AnswerChunk> chunks) = 0;
  // Once, last, in every case: also when the client left, the deadline passed or the coroutine died.
  virtual void ended(const Outcome&) {}
};

struct ModelCard {                                   // /v1/models
  std::string id, owned_by, digest, fingerprint, format;
  std::vector<std::string> aliases;
  std::int64_t created_unix_s = 0, context_tokens = 0;
};

class Service {
 public:
  virtual ~Service() = default;
  // Step 2: the key. Also used by routes that cost nothing.
  virtual Result<Caller> authenticate(std::string_view bearer) const = 0;
  virtual std::vector<ModelCard> models(const Caller& caller) const = 0;
  virtual Result<ModelCard> model(const Caller& caller, std::string_view id_or_alias) const = 0;

  // Steps 2 to 9. The receipt is returned after the commit that makes it durable. `request` is moved in; `sink` and
  // `departure` outlive the call. An error before `begin` is the answer; one after it is reported in the stream.
  virtual boost::asio::awaitable<Result<Receipt>> generate(Caller caller, RequestId id, GenerateRequest request,
                                                           AnswerSink& sink, Departure& departure) = 0;
  // The vectors of texts, through the same admission and the same engine. Nothing is returned before the settle is durable.
  // `rates` learns the limits also when the answer is an error, `outcome` how it ended (as AnswerSink::ended).
  virtual boost::asio::awaitable<Result<Embedded>> embed(Caller caller, RequestId id, EmbedRequest request,
                                                         Departure& departure, RateState& rates, Outcome& outcome) = 0;
  // Tokens of a text, text of tokens: counted by the limits of requests, free of charge.
  virtual boost::asio::awaitable<Result<Tokenized>> tokenize(Caller caller, TokenizeRequest request, RateState& rates) = 0;
  virtual boost::asio::awaitable<Result<Detokenized>> detokenize(Caller caller, DetokenizeRequest request, RateState& rates) = 0;
  virtual bool draining() const = 0;
};

}  // namespace tokenworks::gateway
