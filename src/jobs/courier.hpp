#pragma once
// Courier: brings one receiver what the outbox holds for it. pass() sends what is due now, once each, and writes down how it
// went: taken on any 2xx, else tried again after a time that doubles from a second to an hour, with jitter, for three days.
// Its owner calls it from one thread; status() from any. Clock, randomness and the sending are given, so tests need no time.
#include <atomic>
#include <functional>
#include <map>
#include <string>

#include "tokenworks/jobs/webhooks.hpp"

namespace tokenworks::jobs {

// The headers of the Standard Webhooks specification 1.0 (standardwebhooks.com): "v1," and the Base64 of the HMAC-SHA256,
// under the secret's bytes, of "id.timestamp.body".
std::string webhook_signature(std::string_view secret, std::string_view id, std::int64_t timestamp_s, std::string_view body);

// How long to wait after the attempt with this number, from 1: between half of its time and all of it.
std::int64_t retry_delay_ns(std::int64_t attempts, std::uint64_t random);
inline constexpr std::int64_t kDeliveryKeptNs = std::int64_t{3} * 86'400 * 1'000'000'000;

class Courier {
 public:
  Courier(const WebhookParts& parts, config::Plant::Webhook webhook) : parts_(parts), webhook_(std::move(webhook)) {}

  // True when more may be due at once. `stopped` ends it early.
  bool pass(const std::function<bool()>& stopped);
  Webhooks::Status status() const;
  const config::Plant::Webhook& webhook() const { return webhook_; }

 private:
  bool attempt(const ledger::Delivery& delivery, const std::function<bool()>& stopped);
  bool write(const ledger::DeliveryOutcome& outcome);

  const WebhookParts& parts_;
  const config::Plant::Webhook webhook_;
  std::map<std::int64_t, ledger::DeliveryOutcome> unwritten_;   // by row: the ledger could not take them; not sent again
  std::atomic<std::int64_t> pending_{0}, delivered_{0}, failed_{0}, given_up_{0};
};

}  // namespace tokenworks::jobs
