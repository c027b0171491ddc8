#pragma once
// Cards: what the GPUs of this machine say of themselves at this moment, for metrics. Through NVML, found at run time. Any
// thread, one at a time.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tokenworks::backend {

struct CardReading {                                 // what a card does not tell is empty
  std::string device;                                // its index
  std::optional<double> temperature_celsius, power_watts, memory_used_bytes, ecc_errors, throttle_reasons;
  std::optional<std::uint64_t> energy_millijoules;   // since its driver was loaded
};

class Cards {
 public:
  // Null where there is no NVML or no card. TOKENWORKS_NVML names another library, for tests.
  static std::unique_ptr<Cards> open();
  virtual ~Cards() = default;
  virtual std::vector<CardReading> read() = 0;
};

}  // namespace tokenworks::backend
