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

  // What was booked, however the request ended: its key is not free again.
  void charged(const Usage& usage, Money cost);
  // Bytes of the answer as it is sent; kept up to the limit.
  void keep(std::string_view bytes);
  bool keeps() const { return open_ && keep_body_; }
  // The answer is complete (`whole`), or was cut off (a repeat is told so), and this is what it cost.
  void finish(bool whole, const Usage& usage, Money cost);
  // The answer is an error. It is what a repeat gets, unless nothing was charged: then the key is free again.
  void fail(const Error& error);

 private:
  jobs::Idempotency* store_ = nullptr;               // null: inactive
  OrganizationId organization_;
  std::string key_, body_;
  Digest body_hash_{};
  RequestId request_;
  Usage usage_;                                      // of charged()
  Money cost_;
  bool keep_body_ = false, overflow_ = false, open_ = false, charged_ = false;
};

// The repeat of a request that ended with an error, or died with its process; nullopt: it had an answer.
std::optional<Reply> replay_error(const ledger::IdempotencyRow& row);

}  // namespace tokenworks::http
