#pragma once
// What an event is called and what its receivers read: the id follows from what happened alone, so that the same thing told
// twice is one event; the body is JSON, as docs/webhooks.md describes it. Pure.
#include <string>
#include <string_view>

#include "tokenworks/gateway/events.hpp"

namespace tokenworks::jobs {

struct EventName {
  std::string id;                                    // "evt_" and 32 hex digits
  const char* type = "";
};
EventName name_of(std::string_view secret, const billing::BudgetEvent& event);   // budget.threshold
EventName name_of(std::string_view secret, const RequestId& operation);          // credit.expired

std::string body_of(const EventName& name, const billing::BudgetEvent& event, std::int64_t unix_ns);
std::string body_of(const EventName& name, std::string_view organization, std::string_view currency,
                    const billing::Balance::Lapse& lapse, const RequestId& operation, std::int64_t unix_ns);

}  // namespace tokenworks::jobs
