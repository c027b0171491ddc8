#include "fake_service.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tokenworks::http::test {

FakeService::FakeService() {
  for (int i = 0; i < 7; ++i) {
    auto& who = principals_[std::string("sk-tw-") + std::string(tenancy::kRoleNames[i])];
    who.role = static_cast<tenancy::Role>(i);
    who.key = {"key" + std::to_string(i)};
    who.principal = "service:default";
    if (!tenancy::plant_role(who.role)) who.organization = {"acme"}, who.project = {"acme/default"};
  }
  principals_[kKey] = principals_["sk-tw-member"];
}

asio::awaitable<Result<gateway::Receipt>> FakeService::generate(gateway::Caller, RequestId id, gateway::GenerateRequest request,
                                                                gateway::AnswerSink& sink, gateway::Departure& departure) {
  ++generated;
  const std::string model = request.model;
  keep(std::move(request));
  if (model == "throw") throw std::runtime_error("planted");
  if (const auto refused = refusals.find(model); refused != refusals.end()) co_return refused->second;
  gateway::AnswerStart start = start_of(id);
  start.rates = {60, 59, 1000, 20000, 19000, 360'000};
  const Result<> begun = co_await sink.begin(start);
  if (!begun) co_return left();
  if (model == "throw-late") throw std::runtime_error("planted later");
  if (model == "fail-late") co_return error(Errc::engine_failed, "the engine failed");
  if (model == "late") {
    std::vector<gateway::AnswerChunk> cut(1);
    cut[0].finish = "cancelled";
    auto writing = sink.write(std::move(cut));
    const Result<> written = co_await std::move(writing);
    if (!written) co_return left();
    co_return error(Errc::deadline_exceeded, "the time was over");
  }
  if (model == "wait") {
    co_await until_left(departure);
    tell(sink, receipt_of(id), "cancelled");
    co_return left();
  }
  if (model == "flood") {
    for (;;) {
      std::vector<gateway::AnswerChunk> chunks(1);
      chunks[0].text.assign(64 << 10, 'x');
      auto writing = sink.write(std::move(chunks));
      const Result<> written = co_await std::move(writing);
      if (!written) co_return left();
      co_await yield();
    }
  }
  if (model == "quiet") co_await pause(quiet_for);
  const char* words[] = {"Hel", "lo", " \xc3\xa9\n\"\\"};
  for (const char* word : words) {
    std::vector<gateway::AnswerChunk> chunks(1);
    chunks[0].text = word;
    auto writing = sink.write(std::move(chunks));
    const Result<> written = co_await std::move(writing);
    if (!written) co_return left();
  }
  std::vector<gateway::AnswerChunk> last(1);
  last[0].finish = model == "broken" ? "error" : model == "budget" ? "length" : "stop";
  last[0].stopped_by_budget = model == "budget";
  auto writing = sink.write(std::move(last));
  const Result<> written = co_await std::move(writing);
  if (!written) co_return left();
  const gateway::Receipt receipt = receipt_of(id);
  tell(sink, receipt, "stop");
  co_return receipt;
}

asio::awaitable<Result<gateway::Embedded>> FakeService::embed(gateway::Caller, RequestId id, gateway::EmbedRequest request, gateway::Departure&,
                                                              gateway::RateState& rates, gateway::Outcome& outcome) {
  ++generated;
  rates = {60, 59, 1000, 20000, 19000, 360'000};
  if (const auto refused = refusals.find(request.model); refused != refusals.end()) co_return refused->second;
  gateway::Embedded embedded;
  embedded.rates = rates;
  embedded.vectors.assign(request.inputs.size(), {1.0f, 0.0f, -0.5f});
  embedded.receipt = receipt_of(id);
  embedded.receipt.usage = {10, 0, 0, 0};
  outcome.model = embedded.receipt.model;
  outcome.usage = embedded.receipt.usage;
  outcome.charge = embedded.receipt.cost;
  outcome.currency = embedded.receipt.currency;
  co_return embedded;
}

asio::awaitable<Result<gateway::Tokenized>> FakeService::tokenize(gateway::Caller, gateway::TokenizeRequest request, gateway::RateState& rates) {
  rates = {60, 59, 1000, 20000, 19000, 360'000};
  if (const auto refused = refusals.find(request.model); refused != refusals.end()) co_return refused->second;
  gateway::Tokenized tokens{.model = "fake", .tokens = {1, 15, 2}, .token_strings = {}, .context_tokens = 8192, .rates = rates};
  if (!request.add_special_tokens) tokens.tokens = {15};
  if (request.token_strings) tokens.token_strings.assign(tokens.tokens.size(), "x\"");
  co_return tokens;
}

asio::awaitable<Result<gateway::Detokenized>> FakeService::detokenize(gateway::Caller, gateway::DetokenizeRequest request, gateway::RateState& rates) {
  rates = {60, 59, 1000, 20000, 19000, 360'000};
  co_return gateway::Detokenized{"fake", std::to_string(request.tokens.size()) + " tokens", rates};
}

Result<gateway::Caller> FakeService::authenticate(std::string_view bearer) const {
  const auto found = principals_.find(bearer);
  if (found == principals_.end()) return error(Errc::invalid_api_key, "this API key is not known");
  return gateway::Caller{nullptr, &found->second};
}

void FakeService::tell(gateway::AnswerSink& sink, const gateway::Receipt& receipt, const char* finish) {
  gateway::Outcome outcome;
  outcome.model = receipt.model;
  outcome.usage = receipt.usage;
  outcome.charge = receipt.cost;
  outcome.currency = receipt.currency;
  outcome.finish = finish;
  sink.ended(outcome);
}

asio::awaitable<void> FakeService::pause(std::chrono::nanoseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

asio::awaitable<void> FakeService::yield() { return pause(std::chrono::nanoseconds(0)); }

asio::awaitable<void> FakeService::until_left(gateway::Departure& departure) {
  asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::hours(1));
  departure.on_leave([&timer] { timer.cancel(); });
  boost::system::error_code ignored;
  if (!departure.left()) co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  departure.on_leave({});
}

gateway::ModelCard FakeService::card() {
  return {.id = "fake", .owned_by = "tokenworks", .digest = "d1", .fingerprint = "fp_1", .format = "gguf", .aliases = {"default"},
          .created_unix_s = 1700000000, .context_tokens = 8192};
}

}  // namespace tokenworks::http::test
