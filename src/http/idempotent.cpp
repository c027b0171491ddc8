#include "idempotent.hpp"

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
  if (started_) {
    finish(false, {}, {});
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
  store_->finish(organization_, key_, 200, kept ? std::move(body_) : std::string(), usage, cost, kept);
}

}  // namespace tokenworks::http
