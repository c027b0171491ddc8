// The billable routes: a parsed request goes to the gateway, what comes back goes through an encoder to the client. All
// protocols share this file; a codec brings a parser and two encoders.
#include <algorithm>

#include "answer.hpp"
#include "errors.hpp"
#include "handlers.hpp"
#include "idempotent.hpp"
#include "openai.hpp"
#include "quick_outlet.hpp"
#include "request_parts.hpp"
#include "tokenworks/gateway/quick_sink.hpp"

namespace tokenworks::http {
namespace {

using boost::asio::awaitable;
using Clock = std::chrono::steady_clock;

// What both sinks watch: the first token, and ends that are no answers. (Gaps between tokens the gateway measures.)
class Observed : public gateway::AnswerSink {
 public:
  Observed(Exchange& exchange, IdempotentRun& run) : exchange_(exchange), run_(run) {}

  bool began() const { return began_; }
  void refused(const gateway::RateState& rates) override { refused_ = rates; }
  // The limits that refused it, beside the error.
  Reply refusal(const Error& error) const {
    Reply reply = error_reply(error);
    if (reply.status == 429) add_rate_headers(refused_, reply.headers);
    return reply;
  }
  // What the request's log line and metrics say is what its entry says, however it ended.
  void ended(const gateway::Outcome& outcome) override {
    note_outcome(exchange_.account, outcome);
    run_.charged(outcome.usage, outcome.charge);
  }
  bool stopped_by_budget() const { return budget_; }
  const std::optional<Error>& failure() const { return failure_; }

 protected:
  void note_start(const gateway::AnswerStart& start) {
    began_ = true;
    exchange_.account.admitted = true;
    exchange_.account.model = start.model;
  }

  void note(std::vector<gateway::AnswerChunk>& chunks) {
    for (gateway::AnswerChunk& chunk : chunks) {
      const bool nothing = chunk.text.empty() && chunk.tokens.empty() && chunk.reasoning.empty() && chunk.calls.empty();
      if (exchange_.account.first_token_seconds < 0 && !nothing) {
        exchange_.account.first_token_seconds = std::chrono::duration<double>(Clock::now() - exchange_.started).count();
      }
      budget_ = budget_ || chunk.stopped_by_budget;
      if (chunk.finish != "error" && chunk.finish != "cancelled") continue;
      if (!failure_) {
        failure_ = chunk.finish == "error" ? error(Errc::engine_failed, "the engine failed while it wrote this answer; what was generated is billed, retry the request")
                                           : error(Errc::server_draining, "the answer was cut off because the server is shutting down");
      }
      chunk.finish.clear();
    }
  }

  Exchange& exchange_;
  IdempotentRun& run_;

 private:
  bool began_ = false, budget_ = false;
  gateway::RateState refused_;
  std::optional<Error> failure_;
};

class StreamSink final : public Observed, public gateway::QuickSink {
 public:
  StreamSink(Exchange& exchange, IdempotentRun& run, std::unique_ptr<StreamEncoder> encoder)
      : Observed(exchange, run), encoder_(std::move(encoder)), quick_(dynamic_cast<QuickOutlet*>(&exchange.outlet)) {}

  awaitable<Result<>> begin(const gateway::AnswerStart& start) override {
    note_start(start);
    Headers headers;
    headers.add("cache-control", "no-cache");
    headers.add("x-accel-buffering", "no");          // nginx would gather the stream otherwise
    add_rate_headers(start.rates, headers);
    std::string first;
    encoder_->begin(start, first);
    run_.keep(first);
    auto sent = co_await exchange_.outlet.start(encoder_->content_type(), headers, first);
    exchange_.outlet.keep_alive_with(encoder_->ping());
    co_return sent;
  }

  awaitable<Result<>> write(std::vector<gateway::AnswerChunk> chunks) override {
    if (!unsent_) {
      std::string bytes;
      encode(chunks, bytes);
      if (bytes.empty()) co_return Result<>{};
      co_return co_await exchange_.outlet.send(bytes);
    }
    unsent_ = false;
    co_return co_await quick_->flush();
  }

  bool write_now(std::vector<gateway::AnswerChunk>& chunks) override {
    thread_local std::string bytes;                  // warm: every stream of the thread writes into it
    if (unsent_ || quick_ == nullptr) return false;
    bytes.clear();
    encode(chunks, bytes);
    chunks.clear();
    unsent_ = !bytes.empty() && !quick_->send_now(bytes);
    if (bytes.capacity() > kScratchBytes) std::string().swap(bytes);
    return !unsent_;
  }
  bool streams() const override { return true; }

  awaitable<Result<>> end(const gateway::Receipt& receipt) {
    std::string bytes;
    encoder_->end(receipt, bytes);
    run_.keep(bytes);
    run_.finish(!exchange_.departure.left(), receipt.usage, receipt.cost);
    co_return co_await exchange_.outlet.finish(bytes);
  }
  awaitable<Result<>> fail(const Error& error) {
    std::string bytes;
    encoder_->fail(error, bytes);
    co_return co_await exchange_.outlet.finish(bytes);
  }

 private:
  static constexpr std::size_t kScratchBytes = 256 << 10;

  void encode(std::vector<gateway::AnswerChunk>& chunks, std::string& bytes) {
    note(chunks);
    for (const gateway::AnswerChunk& chunk : chunks) encoder_->chunk(chunk, bytes);
    run_.keep(bytes);
  }

  std::unique_ptr<StreamEncoder> encoder_;
  QuickOutlet* const quick_;                         // the outlet, if it is one
  bool unsent_ = false;                              // the session has a part of them that the socket did not take yet
};

class WholeSink final : public Observed, public gateway::QuickSink {
 public:
  WholeSink(Exchange& exchange, IdempotentRun& run, std::unique_ptr<WholeEncoder> encoder)
      : Observed(exchange, run), encoder_(std::move(encoder)) {}

  awaitable<Result<>> begin(const gateway::AnswerStart& start) override {
    note_start(start);
    encoder_->begin(start);
    add_rate_headers(start.rates, headers_);
    co_return Result<>{};
  }
  awaitable<Result<>> write(std::vector<gateway::AnswerChunk> chunks) override {
    write_now(chunks);
    co_return Result<>{};
  }
  bool write_now(std::vector<gateway::AnswerChunk>& chunks) override {
    note(chunks);
    for (gateway::AnswerChunk& chunk : chunks) encoder_->chunk(std::move(chunk));
    chunks.clear();
    return true;
  }
  bool streams() const override { return false; }

  Reply reply(const gateway::Receipt& receipt) {
    Reply reply;
    reply.headers = std::move(headers_);
    if (stopped_by_budget()) reply.headers.add("x-tokenworks-stop", "budget");
    reply.body = encoder_->end(receipt);
    run_.keep(reply.body);
    run_.finish(!exchange_.departure.left(), receipt.usage, receipt.cost);
    return reply;
  }

 private:
  std::unique_ptr<WholeEncoder> encoder_;
  Headers headers_;
};

// A usage-only replay: an answer of the shape that was asked for, whose choices say nothing.
void write_usage_only(const Exchange& exchange, const ledger::IdempotencyRow& row, const Parsed& parsed, OpenAiForm form, Reply& reply) {
  const gateway::GenerateRequest& request = parsed.request;
  const tenancy::Principal* who = exchange.caller.principal;
  const auto card = exchange.plant.service->model(exchange.caller, request.model);
  gateway::AnswerStart start;
  start.request = row.request;
  start.model = card ? card->id : request.model;
  if (card) start.fingerprint = card->fingerprint;
  start.created_unix_s = row.created_unix_ns / 1'000'000'000;
  start.tier = request.tier.value_or(who->plan != nullptr ? who->plan->tier : Tier::standard);
  start.choices = static_cast<std::uint32_t>(request.prompts.size()) * request.choices;
  gateway::Receipt receipt;
  receipt.request = row.request;
  receipt.model = start.model;
  receipt.usage = row.usage;
  receipt.cost = row.cost;
  receipt.tier = start.tier;
  receipt.usage_only = true;
  if (who->organization_spec != nullptr) receipt.currency = who->organization_spec->currency;
  const auto stream = openai_stream(form, {.include_usage = true});
  const auto whole = openai_whole(form, false);
  if (parsed.stream) {
    stream->begin(start, reply.body);
  } else {
    whole->begin(start);
  }
  for (std::uint32_t choice = 0; choice < start.choices; ++choice) {
    gateway::AnswerChunk chunk;
    chunk.choice = choice;
    chunk.finish = "stop";
    if (parsed.stream) {
      stream->chunk(chunk, reply.body);
    } else {
      whole->chunk(std::move(chunk));
    }
  }
  if (parsed.stream) {
    stream->end(receipt, reply.body);
  } else {
    reply.body = whole->end(receipt);
  }
}

// The answer to a request that was answered before: as it was, or, where no content is kept, its usage alone.
Reply replay(const Exchange& exchange, const ledger::IdempotencyRow& row, const Parsed& parsed, OpenAiForm form) {
  if (auto failed = replay_error(row)) return std::move(*failed);
  Reply reply;
  if (parsed.stream) reply.content_type = openai_stream(form, {.include_usage = true})->content_type();
  reply.headers.add("x-idempotent-replayed", "true");
  if (!row.body.empty()) {
    reply.body = row.body;
    return reply;
  }
  write_usage_only(exchange, row, parsed, form, reply);
  return reply;
}

Answer generate(Exchange& exchange, Parsed parsed, OpenAiForm form) {
  const auto headers = read_request_headers(exchange.request.headers);
  if (!headers) co_return error_reply(headers.error());
  parsed.request.timeout_ns = headers->timeout_ns;
  parsed.request.retry_count = headers->retry_count;
  parsed.request.data_class = headers->data_class;
  IdempotentRun run(exchange);
  const auto known = run.begin();
  if (!known) co_return error_reply(known.error());
  if (*known) co_return replay(exchange, **known, parsed, form);
  gateway::GenerateRequest request = std::move(parsed.request);
  exchange.request.body = {};                        // a long prompt is held once, not twice
  const bool logprobs = parsed.options.logprobs = request.logprobs;

  std::optional<StreamSink> stream;
  std::optional<WholeSink> whole;
  gateway::AnswerSink* sink = nullptr;
  if (parsed.stream) {
    sink = &stream.emplace(exchange, run, openai_stream(form, parsed.options));
  } else {
    sink = &whole.emplace(exchange, run, openai_whole(form, logprobs));
  }
  gateway::Caller caller = exchange.caller;
  awaitable<Result<gateway::Receipt>> answer =
      exchange.plant.service->generate(std::move(caller), exchange.id, std::move(request), *sink, exchange.departure);
  const Result<gateway::Receipt> receipt = co_await std::move(answer);

  const Observed& seen = whole ? static_cast<const Observed&>(*whole) : *stream;
  std::optional<Error> failed = seen.failure();
  // The gateway's own word goes before a chunk's, which cannot tell a deadline from a shutdown.
  if (!receipt && (whole || !failed || receipt.error().code != Errc::cancelled)) failed = receipt.error();
  if (failed && failed->code != Errc::cancelled) run.fail(*failed);   // a client that left may ask what became of it
  if (whole) {
    if (!receipt) co_return whole->refusal(receipt.error());
    if (failed) co_return error_reply(*failed);
    co_return whole->reply(*receipt);
  }
  if (!stream->began()) {
    co_return stream->refusal(receipt ? error(Errc::internal, "a stream ended without having begun") : receipt.error());
  }
  if (failed) {
    co_await stream->fail(*failed);
  } else {
    co_await stream->end(*receipt);
  }
  Reply done;
  done.streamed = true;
  co_return done;
}

using Parser = Result<Parsed> (*)(std::string_view, const config::Plant::Limits&);
constexpr std::size_t kParsedHere = 128 << 10;       // larger bodies are parsed off the IO thread: about 1 ms each

Answer parse_and_generate(Exchange& exchange, Parser parse, OpenAiForm form) {
  Result<Parsed> parsed = error(Errc::internal, "not parsed");
  const std::function<void()> work = [&] { parsed = parse(exchange.request.body, exchange.plant.limits); };
  if (exchange.request.body.size() <= kParsedHere) {
    work();
  } else {
    co_await on_worker(*exchange.plant.workers, work);
  }
  if (!parsed) co_return error_reply(parsed.error());
  Answer answer = generate(exchange, std::move(*parsed), form);
  co_return co_await std::move(answer);
}

}  // namespace

Answer chat_completions(Exchange& exchange) { return parse_and_generate(exchange, parse_chat, OpenAiForm::chat); }
Answer completions(Exchange& exchange) { return parse_and_generate(exchange, parse_completion, OpenAiForm::completion); }

}  // namespace tokenworks::http
