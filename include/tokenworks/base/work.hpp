#pragma once
// Work: what a step did for one tenant, by phase, as counts that a model of time or energy can be made of. Told by the engine
// after each step.
#include <cstdint>

namespace tokenworks {

struct PhaseWork {
  std::int64_t rows = 0;                             // tokens computed
  std::int64_t context = 0;                          // positions of the cache read, each sequence's once a step
  std::int64_t pairs = 0;                            // of a row and a position it attends to
  bool operator==(const PhaseWork&) const = default;
};

struct TenantWork {
  std::uint32_t tenant = 0;                          // as in its tickets
  PhaseWork prefill, decode;
  bool operator==(const TenantWork&) const = default;
};

}  // namespace tokenworks
