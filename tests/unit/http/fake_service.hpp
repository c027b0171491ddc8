#pragma once
// A Service and an Administration that do what a test says. The model's name chooses what generate() does; what it was
// given is kept for the test to look at.
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <atomic>
#include <future>
#include <map>
#include <mutex>

#include "tokenworks/gateway/administration.hpp"
#include "tokenworks/gateway/service.hpp"

namespace tokenworks::http::test {

namespace asio = boost::asio;

inline constexpr const char* kKey = "sk-tw-member00-0123456789012345678901234567890123456789";

inline gateway::AnswerStart start_of(const RequestId& id, std::uint32_t choices = 1) {
  gateway::AnswerStart start;
  start.request = id;
  start.model = "fake";
  start.created_unix_s = 1700000000;
  start.fingerprint = "fp_1";
  start.choices = choices;
  return start;
}

inline gateway::Receipt receipt_of(const RequestId& id) {
  gateway::Receipt receipt;
  receipt.request = id;
  receipt.model = "fake";
  receipt.usage = {10, 4, 3, 0};
  receipt.cost = Money{7'400};
  receipt.currency = "USD";
  receipt.lines = {{"input", 6, Money{600}}, {"cached_input", 4, Money{200}}, {"output", 3, Money{6'600}}};
  return receipt;
}

class FakeService final : public gateway::Service {
 public:
  FakeService() {
    for (int i = 0; i < 7; ++i) {
      auto& who = principals_[std::string("sk-tw-") + std::string(tenancy::kRoleNames[i])];
      who.role = static_cast<tenancy::Role>(i);
      who.key = {"key" + std::to_string(i)};
      who.principal = "service:default";
      if (!tenancy::plant_role(who.role)) who.organization = {"acme"}, who.project = {"acme/default"};
    }
    principals_[kKey] = principals_["sk-tw-member"];
  }

  Result<gateway::Caller> authenticate(std::string_view bearer) const override {
    const auto found = principals_.find(bearer);
    if (found == principals_.end()) return error(Errc::invalid_api_key, "this API key is not known");
    return gateway::Caller{nullptr, &found->second};
  }
  std::vector<gateway::ModelCard> models(const gateway::Caller&) const override { return {card()}; }
  Result<gateway::ModelCard> model(const gateway::Caller&, std::string_view name) const override {
    if (name == "fake" || name == "org/fake") return card();
    return error(Errc::model_not_found, "there is no model of that name", "model");
  }
  bool draining() const override { return false; }

  asio::awaitable<Result<gateway::Receipt>> generate(gateway::Caller, RequestId id, gateway::GenerateRequest request,
                                                     gateway::AnswerSink& sink, gateway::Departure& departure) override {
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
    if (model == "wait") {
      co_await until_left(departure);
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
    co_return receipt_of(id);
  }

  // One vector [1, 0, -0.5] for "model": "fake" and any number of inputs; refusals as generate() has them.
  asio::awaitable<Result<gateway::Embedded>> embed(gateway::Caller, RequestId id, gateway::EmbedRequest request, gateway::Departure&,
                                                   gateway::RateState& rates) override {
    ++generated;
    rates = {60, 59, 1000, 20000, 19000, 360'000};
    if (const auto refused = refusals.find(request.model); refused != refusals.end()) co_return refused->second;
    gateway::Embedded embedded;
    embedded.rates = rates;
    embedded.vectors.assign(request.inputs.size(), {1.0f, 0.0f, -0.5f});
    embedded.receipt = receipt_of(id);
    embedded.receipt.usage = {10, 0, 0, 0};
    co_return embedded;
  }
  asio::awaitable<Result<gateway::Tokenized>> tokenize(gateway::Caller, gateway::TokenizeRequest request, gateway::RateState& rates) override {
    rates = {60, 59, 1000, 20000, 19000, 360'000};
    if (const auto refused = refusals.find(request.model); refused != refusals.end()) co_return refused->second;
    gateway::Tokenized tokens{.model = "fake", .tokens = {1, 15, 2}, .token_strings = {}, .context_tokens = 8192, .rates = rates};
    if (!request.add_special_tokens) tokens.tokens = {15};
    if (request.token_strings) tokens.token_strings.assign(tokens.tokens.size(), "x\"");
    co_return tokens;
  }
  asio::awaitable<Result<gateway::Detokenized>> detokenize(gateway::Caller, gateway::DetokenizeRequest request, gateway::RateState& rates) override {
    rates = {60, 59, 1000, 20000, 19000, 360'000};
    co_return gateway::Detokenized{"fake", std::to_string(request.tokens.size()) + " tokens", rates};
  }

  gateway::GenerateRequest last() const {
    std::lock_guard lock(mutex_);
    return last_;
  }

  std::map<std::string, Error> refusals;             // model name -> what generate() refuses with; before the server starts
  std::atomic<int> generated{0}, departures{0};
  std::chrono::milliseconds quiet_for{60};

 private:
  static gateway::ModelCard card() {
    return {.id = "fake", .owned_by = "tokenworks", .digest = "d1", .fingerprint = "fp_1", .format = "gguf", .aliases = {"default"},
            .created_unix_s = 1700000000, .context_tokens = 8192};
  }
  void keep(gateway::GenerateRequest request) {
    std::lock_guard lock(mutex_);
    last_ = std::move(request);
  }
  Error left() {
    ++departures;
    return error(Errc::cancelled, "the client left");
  }
  static asio::awaitable<void> pause(std::chrono::nanoseconds time) {
    asio::steady_timer timer(co_await asio::this_coro::executor, time);
    co_await timer.async_wait(asio::use_awaitable);
  }
  static asio::awaitable<void> yield() { return pause(std::chrono::nanoseconds(0)); }
  static asio::awaitable<void> until_left(gateway::Departure& departure) {
    asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::hours(1));
    departure.on_leave([&timer] { timer.cancel(); });
    boost::system::error_code ignored;
    if (!departure.left()) co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    departure.on_leave({});
  }

  std::map<std::string, tenancy::Principal, std::less<>> principals_;
  mutable std::mutex mutex_;
  gateway::GenerateRequest last_;
};

class FakeAdministration final : public gateway::Administration {
 public:
  Result<gateway::KeyIssued> create_key(const tenancy::KeyOrder& order, const std::string& actor) override {
    actors.push_back(actor);
    if (order.organization == "nobody") return error(Errc::invalid_request, "there is no organization nobody", "organization");
    ledger::KeyRow row;
    row.id = {"newkey01"};
    row.organization = {order.organization};
    row.project = {order.organization + "/" + order.project};
    row.role = order.role;
    row.principal = order.principal;
    row.models = order.models;
    row.created_unix_ns = 1'700'000'000'000'000'000;
    row.expires_unix_ns = order.expires_unix_ns;
    return gateway::KeyIssued{"sk-tw-newkey01-secret", row};
  }
  Result<std::vector<ledger::KeyRow>> list_keys(const std::string&) override { return std::vector<ledger::KeyRow>(2); }
  Result<gateway::KeyIssued> rotate_key(const std::string& id, std::int64_t grace_ns, const std::string& actor) override {
    actors.push_back(actor);
    grace = grace_ns;
    gateway::KeyIssued issued{"sk-tw-newkey02-secret", {}};
    issued.row.rotated_from = id;
    return issued;
  }
  Result<> revoke_key(const std::string& id, const std::string& actor) override {
    actors.push_back(actor);
    if (id != "newkey01") return error(Errc::not_found, "there is no key " + id);
    return {};
  }
  Result<> reload(const std::string& actor) override {
    actors.push_back(actor);
    if (reload_fails) return error(Errc::bad_config, "prices.yaml:3: unknown key 'inputs'; did you mean 'input'?");
    return {};
  }
  Result<std::vector<ledger::AuditEvent>> audit_events(std::int64_t limit) override {
    return std::vector<ledger::AuditEvent>(static_cast<std::size_t>(std::min<std::int64_t>(limit, 3)), {1, "local", "key.create", "newkey01", "", "ab"});
  }
  Result<std::vector<ledger::UsageRow>> usage(const ledger::UsageQuery& query) override {
    asked = query;
    return rows;
  }
  Result<ledger::VerifyReport> verify() override {
    return ledger::VerifyReport{.ok = true, .entries = 12, .open_holds = 0, .debits = "1.5", .credits = "1.5", .head = "abcd"};
  }
  Result<> backup(const std::string&, const std::string& actor) override {
    actors.push_back(actor);
    return {};
  }
  Result<> erase_annotations(const std::string& organization, const std::string& actor) override {
    actors.push_back(actor);
    erased.push_back(organization);
    return {};
  }
  Result<std::vector<ledger::Entry>> entries_of(const RequestId& id) override {
    ledger::Entry entry;
    entry.type = ledger::EntryType::settle;
    entry.request = id;
    entry.amount = Money{7'400};
    entry.lines = {{"input", Money{800}}, {"output", Money{6'600}}};
    return std::vector<ledger::Entry>{entry};
  }

  std::vector<std::string> actors, erased;
  std::int64_t grace = -1;
  bool reload_fails = false;
  ledger::UsageQuery asked;
  std::vector<ledger::UsageRow> rows;
};

}  // namespace tokenworks::http::test
