#pragma once
// Tickets for tests: production code gets them from admission alone.
#include "tokenworks/base/ticket.hpp"

namespace tokenworks {

struct TicketForTest {
  static Ticket make(const RequestId& request, std::uint32_t tenant = 0, std::int64_t output_tokens = 1 << 20,
                     std::uint32_t weight = 1, Tier tier = Tier::standard, std::int64_t reserved_tokens_per_second = 0) {
    return Ticket(request, tenant, weight, tier, output_tokens, reserved_tokens_per_second);
  }
};

}  // namespace tokenworks
