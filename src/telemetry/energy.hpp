#pragma once
// EnergyBook: joules of the cards, told to those who used them. Between two readings of a card's counter each organization's
// finished requests bring units (an uncached prompt token 10, a cached one 1, an output token 20); what the counter moved by is
// divided by units, in whole millijoules, the rest of the division to the largest. Nobody's time is "_idle"'s. So the sum over
// organizations is what the counters moved by, to the millijoule. A request counts where it ends: over a minute or more that is
// fair, over seconds it is not. Any thread.
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "tokenworks/base/usage.hpp"

namespace tokenworks::telemetry {

class EnergyBook {
 public:
  void work(const std::string& organization, const Usage& usage);
  // What the card's counter says; its first reading is where the account begins, and so is one below the reading before.
  void reading(const std::string& card, std::uint64_t millijoules);
  void settle();                                     // after the readings of all cards
  std::map<std::string, std::uint64_t> millijoules() const;    // by organization, since the start

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t> last_, units_, spent_;
  std::uint64_t open_ = 0;                           // millijoules nobody has been told of yet
};

}  // namespace tokenworks::telemetry
