#pragma once
// A Service and an Administration that do what a test says. The model's name chooses what generate() does; what it was
// given is kept for the test to look at.
#include <boost/asio/awaitable.hpp>
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
  FakeService();

  Result<gateway::Caller> authenticate(std::string_view bearer) const override;
  std::vector<gateway::ModelCard> models(const gateway::Caller&) const override { return {card()}; }
  Result<gateway::ModelCard> model(const gateway::Caller&, std::string_view name) const override {
    if (name == "fake" || name == "org/fake") return card();
    return error(Errc::model_not_found, "there is no model of that name", "model");
  }
  bool draining() const override { return false; }

  asio::awaitable<Result<gateway::Receipt>> generate(gateway::Caller, RequestId id, gateway::GenerateRequest request,
                                                     gateway::AnswerSink& sink, gateway::Departure& departure) override;

  // One vector [1, 0, -0.5] for "model": "fake" and any number of inputs; refusals as generate() has them.
  asio::awaitable<Result<gateway::Embedded>> embed(gateway::Caller, RequestId id, gateway::EmbedRequest request, gateway::Departure&,
                                                   gateway::RateState& rates, gateway::Outcome& outcome) override;
  asio::awaitable<Result<gateway::Tokenized>> tokenize(gateway::Caller, gateway::TokenizeRequest request, gateway::RateState& rates) override;
  asio::awaitable<Result<gateway::Detokenized>> detokenize(gateway::Caller, gateway::DetokenizeRequest request, gateway::RateState& rates) override;

  gateway::GenerateRequest last() const {
    std::lock_guard lock(mutex_);
    return last_;
  }

  std::map<std::string, Error> refusals;             // model name -> what generate() refuses with; before the server starts
  std::atomic<int> generated{0}, departures{0};
  std::chrono::milliseconds quiet_for{60};

 private:
  static gateway::ModelCard card();
  static void tell(gateway::AnswerSink& sink, const gateway::Receipt& receipt, const char* finish);
  void keep(gateway::GenerateRequest request) {
    std::lock_guard lock(mutex_);
    last_ = std::move(request);
  }
  Error left() {
    ++departures;
    return error(Errc::cancelled, "the client left");
  }
  static asio::awaitable<void> pause(std::chrono::nanoseconds time);
  static asio::awaitable<void> yield();
  static asio::awaitable<void> until_left(gateway::Departure& departure);

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
  Result<gateway::Reloaded> reload(const std::string& actor) override {
    actors.push_back(actor);
    if (reload_fails) return error(Errc::bad_config, "prices.yaml:3: unknown key 'inputs'; did you mean 'input'?");
    return gateway::Reloaded{{"models.m.path", "limits.body"}};
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

  std::vector<gateway::ModelState> models() override { return {{"m", "/m.gguf", "serving", "abc", "fp", "gguf", {"default"}, {"public"}, 512, 2, 1}, {"n", "/n.gguf", "not_loaded"}}; }
  Result<std::vector<gateway::ModelState>> change_models(const gateway::ModelOrder& order, const std::string& actor) override {
    actors.push_back(actor);
    orders.push_back(order);
    if (order.id == "busy") {
      Error e = error(Errc::server_is_overloaded, "another change of models is going on");
      e.retry_after_ms = 1000;
      return e;
    }
    return models();
  }

  std::vector<std::string> actors, erased;
  std::vector<gateway::ModelOrder> orders;
  std::int64_t grace = -1;
  bool reload_fails = false;
  ledger::UsageQuery asked;
  std::vector<ledger::UsageRow> rows;
};

}  // namespace tokenworks::http::test
