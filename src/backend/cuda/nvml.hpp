#pragma once
// Nvml: what a card says of itself (temperature, power, energy since the driver was loaded, memory, ECC errors, why its clocks
// are held back), through libnvidia-ml.so.1 found at run time: the daemon starts without it. The energy counter is renewed
// about ten times a second: exact over seconds, useless for one step. Functions and constants as in NVIDIA's nvml.h. Any
// thread, one at a time.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tokenworks/base/result.hpp"

namespace tokenworks::backend::cuda {

struct NvmlReading {                                 // what the card does not tell is empty
  std::string bus;                                   // where it is plugged in, "0000:3b:00": NVML counts cards in another order than CUDA
  std::optional<std::uint32_t> temperature_celsius, power_milliwatts;
  std::optional<std::uint64_t> energy_millijoules, memory_used_bytes, memory_total_bytes, ecc_errors, throttle_reasons;
};

class Nvml {
 public:
  // engine_failed with the reason when the library is not there or does not start. `library`: another file, for tests.
  static Result<std::unique_ptr<Nvml>> open(const std::string& library = "libnvidia-ml.so.1");
  static Result<std::unique_ptr<Nvml>> here();       // TOKENWORKS_NVML names another library, for tests
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::uint32_t devices() const { return count_; }
  Result<NvmlReading> read(std::uint32_t device) const;        // invalid_request beyond devices()
  std::string confidential_computing() const;        // "on (production)", "off", or that the driver does not tell

 private:
  struct Functions;
  Nvml() = default;
  std::unique_ptr<Functions> f_;
  void* library_ = nullptr;
  std::uint32_t count_ = 0;
};

}  // namespace tokenworks::backend::cuda
