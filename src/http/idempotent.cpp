#include "idempotent.hpp"

#include "errors.hpp"

namespace tokenworks::http {

IdempotentRun::IdempotentRun(const Exchange& exchange) : request_(exchange.id) {
  const tenancy::Principal* who = exchange.caller.principal;
  if (exchange.request.headers.count("idempotency-key") == 0 || exchange.plant.idempotency == nullptr || who == nullptr) return;
  store_ = exchange.plant.idempotency;
  key_ = std::string(exchange.request.headers.get("idempotency-key"));
  organization_ = who->organization;
  keep_body_ = who->organization_spec != nullptr && who->organization_spec->retention != "none";
  Sha256 hash;
  hash.update(exchange.request.path + "\n");
  hash.update(exchange.request.body);
  body_hash_ = hash.finish();
}

IdempotentRun::~IdempotentRun() {
  if (!open_) return;
  if (charged_) {
    finish(false, usage_, cost_);
  } else {
    store_->forget(organization_, key_);
  }
}

Result<std::optional<ledger::IdempotencyRow>> IdempotentRun::begin() {
  if (store_ == nullptr) return std::optional<ledger::IdempotencyRow>();
  auto known = store_->begin(organization_, key_, body_hash_, request_);
  open_ = known && !*known;
  return known;
}

void IdempotentRun::charged(const Usage& usage, Money cost) {
  if (usage == Usage{} && cost.nano == 0) return;
  charged_ = true;
  usage_ = usage;
  cost_ = cost;
}

void IdempotentRun::fail(const Error& error) {
  if (!open_ || !charged_) return;                   // the destructor frees the key
  open_ = false;
  const Reply reply = error_reply(error);            // no content of the request is in it
  store_->finish(organization_, key_, reply.status, reply.body, usage_, cost_, true);
}

void IdempotentRun::keep(std::string_view bytes) {
  if (!keeps() || overflow_) return;
  overflow_ = body_.size() + bytes.size() > jobs::Idempotency::kBodyBytesMax;
  if (overflow_) {
    std::string().swap(body_);
  } else {
    body_.append(bytes);
  }
}

void IdempotentRun::finish(bool whole, const Usage& usage, Money cost) {
  if (!open_) return;
  open_ = false;
  const bool kept = whole && keep_body_ && !overflow_;
  store_->finish(organization_, key_, whole ? 200 : 0, kept ? std::move(body_) : std::string(), usage, cost, kept);
}

std::optional<Reply> replay_error(const ledger::IdempotencyRow& row) {
  if (row.status == 200) return std::nullopt;
  Reply reply;
  if (row.body.empty()) {                            // cut off, or an error whose words are no longer kept
    const std::string how = row.status == 0 ? "was cut off, by its client or by a restart" : "ended with status " + std::to_string(row.status);
    reply = error_reply(error(Errc::engine_failed, "the first request with this Idempotency-Key " + how + "; what it had used is billed (" +
                                                       std::to_string(row.usage.input) + " input and " + std::to_string(row.usage.output) +
                                                       " output tokens). Use a new key to ask again"));
    if (row.status != 0) reply.status = row.status;
  } else {
    reply.status = row.status;
    reply.body = row.body;
  }
  reply.headers.add("x-should-retry", "false");      // asking again with this key brings the same
  reply.headers.add("x-idempotent-replayed", "true");
  return reply;
}

}  // namespace tokenworks::http
