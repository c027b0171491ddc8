#include "courier.hpp"

#include <algorithm>

#include "tokenworks/base/base64.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::jobs {
namespace {

using State = ledger::DeliveryOutcome::State;

constexpr std::int64_t kSecond = 1'000'000'000, kLongest = 3600 * kSecond;
constexpr std::int64_t kPerPass = 64;
constexpr std::size_t kErrorMost = 300;

}  // namespace

std::string webhook_signature(std::string_view secret, std::string_view id, std::int64_t timestamp_s, std::string_view body) {
  std::string signed_text(id);
  ((signed_text += '.') += std::to_string(timestamp_s)) += '.';
  signed_text += body;
  return "v1," + base64(hmac_sha256(secret, signed_text));
}

std::int64_t retry_delay_ns(std::int64_t attempts, std::uint64_t random) {
  const std::int64_t doublings = std::clamp<std::int64_t>(attempts - 1, 0, 12);
  const std::int64_t whole = std::min(kSecond << doublings, kLongest), half = whole / 2;
  return half + static_cast<std::int64_t>(random % static_cast<std::uint64_t>(whole - half + 1));
}

bool Courier::pass(const std::function<bool()>& stopped) {
  for (auto it = unwritten_.begin(); it != unwritten_.end();) {
    if (!write(it->second)) return false;            // the books do not take anything: nothing new is begun
    it = unwritten_.erase(it);
  }
  const auto due = parts_.ledger.deliveries_due(webhook_.name, parts_.clock.unix_ns(), kPerPass);
  if (!due) return false;
  bool more = static_cast<std::int64_t>(due->size()) == kPerPass;
  for (const ledger::Delivery& delivery : *due) {
    if (stopped()) return false;
    if (!attempt(delivery, stopped)) {
      more = false;
      break;
    }
  }
  if (const auto pending = parts_.ledger.deliveries_pending(webhook_.name)) pending_ = *pending;
  return more;
}

// False when the ledger did not take the outcome, or the attempt was cut short by the end of the process.
bool Courier::attempt(const ledger::Delivery& d, const std::function<bool()>& stopped) {
  const std::int64_t timestamp_s = parts_.clock.unix_ns() / kSecond;
  std::string signature = webhook_signature(webhook_.secret, d.id, timestamp_s, d.body);
  if (!webhook_.old_secret.empty()) signature += ' ' + webhook_signature(webhook_.old_secret, d.id, timestamp_s, d.body);
  const Post post{webhook_.url,
                  d.body,
                  {{"content-type", "application/json"},
                   {"webhook-id", d.id},
                   {"webhook-timestamp", std::to_string(timestamp_s)},
                   {"webhook-signature", std::move(signature)}}};
  const Result<int> status = parts_.send(post, stopped);
  const bool taken = status && *status >= 200 && *status < 300;
  if (!taken && stopped()) return false;             // not the receiver's fault
  const std::int64_t now = parts_.clock.unix_ns();
  ledger::DeliveryOutcome outcome{d.number, State::taken, d.attempts + 1, now, {}};
  if (taken) {
    ++delivered_;
  } else {
    ++failed_;
    outcome.error = (status ? "answered " + std::to_string(*status) : status.error().message).substr(0, kErrorMost);
    const bool over = now - d.unix_ns >= kDeliveryKeptNs;
    outcome.state = over ? State::given_up : State::due;
    outcome.due_unix_ns = now + (over ? 0 : retry_delay_ns(outcome.attempts, parts_.random()));
    log::warn(over ? "webhook_given_up" : "webhook_failed", {{"webhook", webhook_.name}, {"event", d.id}, {"type", d.type},
                                                             {"attempts", outcome.attempts}, {"why", outcome.error}});
    if (over) ++given_up_;
  }
  if (write(outcome)) return true;
  unwritten_.emplace(d.number, std::move(outcome));
  return false;
}

bool Courier::write(const ledger::DeliveryOutcome& outcome) { return parts_.ledger.delivery_tried(outcome).has_value(); }

Webhooks::Status Courier::status() const { return {webhook_.name, pending_, delivered_, failed_, given_up_}; }

}  // namespace tokenworks::jobs
