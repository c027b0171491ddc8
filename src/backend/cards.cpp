#include "tokenworks/backend/cards.hpp"

#include <cstdlib>

#include "backend/cuda/nvml.hpp"

namespace tokenworks::backend {
namespace {

class NvmlCards final : public Cards {
 public:
  explicit NvmlCards(std::unique_ptr<cuda::Nvml> nvml) : nvml_(std::move(nvml)) {}
  std::vector<CardReading> read() override {
    std::vector<CardReading> all;
    for (std::uint32_t i = 0; i < nvml_->devices(); ++i) {
      const auto r = nvml_->read(i);
      if (!r) continue;
      CardReading c{.device = std::to_string(i)};
      const auto number = [](const auto& from, double unit) { return from ? std::optional<double>(static_cast<double>(*from) * unit) : std::nullopt; };
      c.temperature_celsius = number(r->temperature_celsius, 1);
      c.power_watts = number(r->power_milliwatts, 1e-3);
      c.memory_used_bytes = number(r->memory_used_bytes, 1);
      c.ecc_errors = number(r->ecc_errors, 1);
      c.throttle_reasons = number(r->throttle_reasons, 1);
      c.energy_millijoules = r->energy_millijoules;
      all.push_back(std::move(c));
    }
    return all;
  }

 private:
  std::unique_ptr<cuda::Nvml> nvml_;
};

}  // namespace

std::unique_ptr<Cards> Cards::open() {
  const char* const other = std::getenv("TOKENWORKS_NVML");
  auto nvml = other != nullptr && *other != '\0' ? cuda::Nvml::open(other) : cuda::Nvml::open();
  if (!nvml || (*nvml)->devices() == 0) return nullptr;
  return std::make_unique<NvmlCards>(std::move(*nvml));
}

}  // namespace tokenworks::backend
