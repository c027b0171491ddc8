#pragma once
// EnergyBook: joules of the cards, told to those they were spent on. A card's counter moves about ten times a second, so it is
// read every second or so, never in a step; what it moved by between two readings (a window) is divided, in whole
// millijoules, in proportion to modelled energy. A step has own costs (arithmetic of a tenant's rows, reading its cache) and
// shared ones (reading the weights, the card's power at rest while the step lasted), split by rows. Time without a step is at
// rest: that goes to reservations, by their size, else to "_idle". The sum over everybody is what the counters moved by, to the
// millijoule: only ratios of the model matter. Cards that no model stands on are nobody's and not in here. Any thread.
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/work.hpp"

namespace tokenworks::telemetry {

struct EnergyModel {                                 // what a model's steps cost
  std::vector<std::string> cards;                    // it stands on, as they are called in readings
  std::int64_t flop_per_row = 0, flop_per_pair = 0;  // of the products; of attention
  std::int64_t weight_bytes = 0, bytes_per_position = 0;
};
struct EnergyTenant {
  std::string name;                                  // its organization
  std::int64_t reserved = 0;                         // throughput bought, in tokens a second
};
struct EnergySpent {
  std::string organization, model, phase;            // prefill, decode; idle: without a model
  std::uint64_t millijoules = 0;
};

class EnergyBook {
 public:
  void set_model(const std::string& id, EnergyModel model);
  void set_tenants(std::map<std::uint32_t, EnergyTenant> tenants);     // by the number of their tickets
  // A step of the model ended. A few additions a tenant; steps of models without cards cost nothing.
  void step(std::string_view model, std::int64_t duration_ns, std::span<const TenantWork> work);
  // What the card's counter says now. The first one begins its account, as one below the reading before does (a driver loaded
  // anew); one that has not moved ends no window.
  void reading(const std::string& card, std::uint64_t millijoules, std::int64_t now_ns);
  std::vector<EnergySpent> spent() const;            // since the start, by organization, model and phase
  bool watches(const std::string& card) const;       // a model stands on it

 private:
  struct Key {
    std::string organization, model, phase;
    auto operator<=>(const Key&) const = default;
  };
  struct Work {                                      // by (tenant, model) while a window is open
    std::uint64_t prefill = 0, decode = 0;           // nanojoules by the model of energy
  };
  struct Card {
    bool begun = false;
    std::uint64_t last = 0;
    std::int64_t since_ns = 0, busy_ns = 0;
    std::int64_t rest_milliwatts;                    // as last seen in a window without a step
    std::map<std::pair<std::string, std::uint32_t>, Work> work;
  };
  Card& card(const std::string& name);
  std::vector<std::pair<Key, std::uint64_t>> weights(const Card& card, std::int64_t window_ns) const;
  std::vector<std::pair<Key, std::uint64_t>> at_rest(std::uint64_t nanojoules) const;

  mutable std::mutex mutex_;
  std::map<std::string, EnergyModel, std::less<>> models_;
  std::map<std::uint32_t, EnergyTenant> tenants_;
  std::map<std::string, Card> cards_;
  std::map<Key, std::uint64_t> spent_;
};

// `whole` in parts proportional to `weights`: whole numbers whose sum it is, the rest to the largest remainders, the earlier
// first. All weights zero: all parts zero.
std::vector<std::uint64_t> divide_exactly(std::uint64_t whole, std::span<const std::uint64_t> weights);

}  // namespace tokenworks::telemetry
