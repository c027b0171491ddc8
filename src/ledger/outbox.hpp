#pragma once
// The outbox's rows. What writes runs inside the ledger thread's transaction; reading is Reader's.
#include <vector>

#include "ledger/sqlite.hpp"
#include "tokenworks/ledger/outbox.hpp"

namespace tokenworks::ledger {

// An event that its receiver has a row of already, delivered or not, changes nothing.
Result<> write_events(const Connection& store, const std::vector<OutboxEvent>& events);
// A delivery that ended keeps its row, which keeps the event from being sent again, and gives up its body.
Result<> write_outcome(const Connection& store, const DeliveryOutcome& outcome);

}  // namespace tokenworks::ledger
