#pragma once
// Idempotency: what an `Idempotency-Key` remembers. The first request with a key runs; a repeat while it runs is refused; a
// repeat afterwards gets the stored answer and is not charged again; the same key with another body is refused. Rows live
// for 24 hours, in memory for lookups and in the ledger so that a restart remembers. Answers up to 64 KiB are kept whole,
// larger ones as usage only; under `retention: none` no content is kept. All answers together are bounded in bytes, per
// organization and in all: beyond, the oldest lose their content and keep their key, so that a repeat is never charged again
// and gets its usage alone. Keys are bounded as well, per organization: one with too many is refused new ones until a day has
// passed over the oldest, since a key that were given up could be charged twice. Any thread; one short mutex, no I/O under it.
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::jobs {

class KeptBodies;

struct IdempotencyBounds {                           // of the answers that are kept, without their keys; and of the keys
  std::int64_t bytes = std::int64_t{256} << 20, bytes_per_organization = std::int64_t{32} << 20;
  std::int64_t keys_per_organization = 1'000'000;
};

class Idempotency {
 public:
  static constexpr std::size_t kBodyBytesMax = 64 << 10, kKeyBytesMax = 255;
  static constexpr std::int64_t kKeptNs = std::int64_t{24} * 3600 * 1'000'000'000;

  // Loads what the ledger still remembers, as far as the bounds allow.
  static Result<std::unique_ptr<Idempotency>> open(ledger::Ledger& ledger, const Clock& clock, IdempotencyBounds bounds = {});
  ~Idempotency();

  // nullopt: run the request, then call finish() or forget(). A row: replay it. Errors: invalid_request (a key that is too
  // long), idempotency_in_progress, idempotency_mismatch, rate_limit_exceeded (the organization has too many keys).
  Result<std::optional<ledger::IdempotencyRow>> begin(const OrganizationId& organization, const std::string& key,
                                                      const Digest& body_hash, const RequestId& request);
  // The answer as the client got it; status 0: it was cut off. `keep_body` false under `retention: none`.
  void finish(const OrganizationId& organization, const std::string& key, std::int32_t status, std::string body,
              const Usage& usage, Money cost, bool keep_body);
  // Nothing ran and nothing was charged: the key is free again.
  void forget(const OrganizationId& organization, const std::string& key);
  std::int64_t bytes_kept() const;

 private:
  using Place = std::pair<std::string, std::string>;   // organization, key
  Idempotency(ledger::Ledger& ledger, const Clock& clock, IdempotencyBounds bounds);
  void drop_old();
  void uncount(const std::string& organization);
  std::vector<ledger::IdempotencyRow> drop_bodies();

  ledger::Ledger& ledger_;
  const Clock& clock_;
  mutable std::mutex mutex_;
  std::map<Place, ledger::IdempotencyRow> rows_;
  std::multimap<std::int64_t, Place> by_age_;
  std::map<std::string, std::int64_t> keys_;         // rows_ of each organization that has some
  std::unique_ptr<KeptBodies> kept_;                 // the bytes of the bodies in rows_
};

}  // namespace tokenworks::jobs
