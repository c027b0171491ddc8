#pragma once
// Ticket: the proof that a request was admitted. Only admission (src/gateway/admission) can make one and an engine takes
// nothing without it, so no route can reach the engine unpaid; the engine still has never heard of money.
#include <cstdint>
#include <utility>

#include "tokenworks/base/ids.hpp"

namespace tokenworks {
namespace gateway { class Admission; }

enum class Tier : std::uint8_t { priority, standard, batch };

class Ticket {
 public:
  Ticket(Ticket&&) noexcept = default;
  Ticket& operator=(Ticket&&) noexcept = default;
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  const RequestId& request() const { return request_; }
  std::uint32_t tenant() const { return tenant_; }             // dense, stable while the daemon runs; fairness and cache salt
  std::uint32_t weight() const { return weight_; }             // fair share, >= 1
  Tier tier() const { return tier_; }
  std::int64_t reserved_tokens_per_second() const { return reserved_; }   // throughput the tenant has bought; 0: none
  std::int64_t output_tokens() const { return output_tokens_; }   // paid for, per choice; Engine::extend raises it

 private:
  friend class gateway::Admission;
  friend struct TicketForTest;                                 // defined in tests only
  Ticket(const RequestId& request, std::uint32_t tenant, std::uint32_t weight, Tier tier, std::int64_t output_tokens,
         std::int64_t reserved_tokens_per_second)
      : request_(request), tenant_(tenant), weight_(weight), tier_(tier), output_tokens_(output_tokens),
        reserved_(reserved_tokens_per_second) {}

  RequestId request_;
  std::uint32_t tenant_;
  std::uint32_t weight_;
  Tier tier_;
  std::int64_t output_tokens_;
  std::int64_t reserved_;
};

}  // namespace tokenworks
