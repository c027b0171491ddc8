#pragma once
// EventSink: turns what happened into events for whoever is to be told of it. The composition root hands in the one that
// knows the webhooks; what it returns is written to the outbox with the entry that caused it (ledger/outbox.hpp), and
// delivered from there.
//
// Asked by any thread that ends a hold, outside every lock of admission; a sink must neither block nor throw. The same event
// may be told again (after a restart or a reload, the reached thresholds of running periods are): what names it, the
// organization, the budget, the start of the period and the percent, names it once and for all, and the outbox drops repeats.
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenworks/billing/budgets.hpp"
#include "tokenworks/ledger/outbox.hpp"

namespace tokenworks::gateway {

class EventSink {
 public:
  using Events = std::vector<ledger::OutboxEvent>;   // one per receiver; none: nobody wants it

  virtual ~EventSink() = default;
  virtual Events budget_threshold(const billing::BudgetEvent& event, std::int64_t unix_ns) = 0;
  // `operation` is of the ADJUST entry that books it.
  virtual Events credit_expired(std::string_view organization, std::string_view currency, const billing::Balance::Lapse& lapse,
                                const RequestId& operation, std::int64_t unix_ns) = 0;
};

}  // namespace tokenworks::gateway
