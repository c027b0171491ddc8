#pragma once
// Cards: what the GPUs of this machine say of themselves at this moment, for metrics. Through NVML, found at run time. Any
// thread, one at a time.
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace tokenworks::backend {

class Backend;

struct CardReading {                                 // what a card does not tell is empty
  std::string device;                                // its index, as NVML counts
  std::string bus;                                   // where it is plugged in
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

// What these readings call the cards that the backends stand on, in their order; none for the processor.
std::vector<std::string> names_of_cards(std::span<const std::unique_ptr<Backend>> backends, std::span<const CardReading> readings);

}  // namespace tokenworks::backend
