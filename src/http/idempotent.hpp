#pragma once
// IdempotentRun: a billable request that came with an Idempotency-Key (INTERFACE "HTTP"). begin() says whether it runs or
// was answered before; the object then makes sure that the key's record ends in every case, also when the handler dies.
// Without a key, or without a store, it does nothing. Lives in the handler, on the connection's thread.
#include <optional>
#include <string>

#include "exchange.hpp"
#include "tokenworks/jobs/idempotency.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::http {

class IdempotentRun {
 public:
  explicit IdempotentRun(const Exchange& exchange);
  ~IdempotentRun();
  IdempotentRun(const IdempotentRun&) = delete;
  IdempotentRun& operator=(const IdempotentRun&) = delete;

  // nullopt: run the request. A row: it ran before, answer from it. Errors as Idempotency::begin. Reads the body.
  Result<std::optional<ledger::IdempotencyRow>> begin();

  // From here on something may be charged: the key is not free again.
  void started() { started_ = true; }
  // Bytes of the answer as it is sent; kept up to the limit.
  void keep(std::string_view bytes);
  bool keeps() const { return open_ && keep_body_; }
  // The answer is complete (`whole`) or was cut off, and this is what it cost.
  void finish(bool whole, const Usage& usage, Money cost);

 private:
  jobs::Idempotency* store_ = nullptr;               // null: inactive
  OrganizationId organization_;
  std::string key_, body_;
  Digest body_hash_{};
  RequestId request_;
  bool keep_body_ = false, overflow_ = false, open_ = false, started_ = false;
};

}  // namespace tokenworks::http
