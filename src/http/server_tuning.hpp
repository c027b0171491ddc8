#pragma once
// What only tests change.
#include <chrono>

namespace tokenworks::http {

// How long a stream stays silent before a comment line is sent; servers read it when they start.
inline std::chrono::nanoseconds& ping_interval() {
  static std::chrono::nanoseconds every = std::chrono::seconds(15);
  return every;
}

}  // namespace tokenworks::http
