#pragma once
// Outbox: events on their way out of the plant, delivered at least once. An event is written in the transaction of the entry
// that caused it, so neither is there without the other; each receiver it is meant for has a delivery of its own, which
// stays due until it was taken or given up. A delivery that ended keeps its row without the body: the same event is never
// sent to the same receiver again, however often it is told. Plain values; docs/webhooks.md says what receivers see.
#include <cstdint>
#include <string>

namespace tokenworks::ledger {

struct OutboxEvent {
  std::string id;                                    // names the event once and for all
  std::string receiver;                              // the webhook's name
  std::string type;                                  // "budget.threshold"
  std::string body;                                  // sent byte for byte at every attempt
  std::int64_t unix_ns = 0;
};

struct Delivery : OutboxEvent {
  std::int64_t number = 0;                           // of its row
  std::int64_t attempts = 0, due_unix_ns = 0;
};

struct DeliveryOutcome {
  enum class State : std::uint8_t { due, taken, given_up };
  std::int64_t number = 0;
  State state = State::due;
  std::int64_t attempts = 0, due_unix_ns = 0;        // of the next one
  std::string error;                                 // of the last attempt, "" for none; never a secret
};

}  // namespace tokenworks::ledger
