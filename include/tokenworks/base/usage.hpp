#pragma once
// Usage: what a request used, in tokens by class, counted by the engine that made them.
#include <cstdint>

namespace tokenworks {

struct Usage {
  std::int64_t input = 0;                            // the whole prompt, cached part included
  std::int64_t cached_input = 0;                     // a subset of input
  std::int64_t output = 0;                           // every token made and kept, reasoning included
  std::int64_t reasoning = 0;                        // a subset of output
  bool operator==(const Usage&) const = default;
};

}  // namespace tokenworks
