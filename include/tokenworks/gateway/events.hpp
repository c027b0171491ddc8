#pragma once
// EventSink: where the plant's events go. Admission tells it that a budget reached a threshold; the composition root hands
// in the one that writes them to the outbox, from which signed webhooks are delivered.
//
// Events come from any thread that ends a hold, outside every lock of admission, and a sink must neither block nor throw.
// The same event may be told again (after a restart, the reached thresholds of running periods are): what names it, the
// organization, the budget, the start of the period and the percent, names it once and for all, and the sink drops repeats.
#include "tokenworks/billing/budgets.hpp"

namespace tokenworks::gateway {

class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void budget(const billing::BudgetEvent& event) = 0;
};

}  // namespace tokenworks::gateway
