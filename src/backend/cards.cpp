#include "tokenworks/backend/cards.hpp"

#include "backend/cuda/cuda_backend.hpp"
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
      CardReading c{.device = std::to_string(i), .bus = r->bus};
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
  auto nvml = cuda::Nvml::here();
  if (!nvml || (*nvml)->devices() == 0) return nullptr;
  return std::make_unique<NvmlCards>(std::move(*nvml));
}

std::vector<std::string> names_of_cards(std::span<const std::unique_ptr<Backend>> backends, std::span<const CardReading> readings) {
  std::vector<std::string> names;
  for (const auto& backend : backends) {
    const auto* const card = dynamic_cast<const cuda::CudaBackend*>(backend.get());
    if (card == nullptr) continue;
    const std::string& bus = card->device().info().bus;
    for (const CardReading& r : readings)
      if (!bus.empty() && r.bus == bus) names.push_back(r.device);
  }
  return names;
}

}  // namespace tokenworks::backend
