#include "backend/cuda/nvml.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>

namespace tokenworks::backend::cuda {
namespace {

using Handle = void*;
struct MemoryInfo {                                  // nvmlMemory_t
  unsigned long long total, free, used;
};
struct ConfidentialState {                           // nvmlConfComputeSystemState_t
  unsigned environment, feature, tools;              // 1: simulation, 2: production; 0: off; 1: development tools may look in
};
struct PciInfo {                                     // nvmlPciInfo_t
  char bus_id_legacy[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char bus_id[32];
};
constexpr int kTemperatureGpu = 0, kUncorrected = 1, kSinceTheDriverWasLoaded = 0;

}  // namespace

struct Nvml::Functions {
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*words)(int) = nullptr;
  int (*count)(unsigned*) = nullptr;
  int (*handle)(unsigned, Handle*) = nullptr;
  int (*confidential)(ConfidentialState*) = nullptr;
  int (*pci)(Handle, PciInfo*) = nullptr;
  int (*temperature)(Handle, int, unsigned*) = nullptr;
  int (*power)(Handle, unsigned*) = nullptr;
  int (*energy)(Handle, unsigned long long*) = nullptr;
  int (*memory)(Handle, MemoryInfo*) = nullptr;
  int (*ecc)(Handle, int, int, unsigned long long*) = nullptr;
  int (*throttle)(Handle, unsigned long long*) = nullptr;
};

Result<std::unique_ptr<Nvml>> Nvml::open(const std::string& library) {
  std::unique_ptr<Nvml> n(new Nvml);
  n->library_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (n->library_ == nullptr) return error(Errc::engine_failed, fmt::format("{} was not found: no NVIDIA driver is installed", library));
  auto f = std::make_unique<Functions>();
  const auto find = [&](const char* symbol, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(n->library_, symbol));
    return function != nullptr;
  };
  if (!find("nvmlInit_v2", f->init) || !find("nvmlShutdown", f->shutdown) || !find("nvmlErrorString", f->words) ||
      !find("nvmlDeviceGetCount_v2", f->count) || !find("nvmlDeviceGetHandleByIndex_v2", f->handle))
    return error(Errc::engine_failed, fmt::format("{} lacks functions of NVML", library));
  find("nvmlSystemGetConfComputeState", f->confidential);      // these a card or a driver may lack
  find("nvmlDeviceGetPciInfo_v3", f->pci);
  find("nvmlDeviceGetTemperature", f->temperature);
  find("nvmlDeviceGetPowerUsage", f->power);
  find("nvmlDeviceGetTotalEnergyConsumption", f->energy);
  find("nvmlDeviceGetMemoryInfo", f->memory);
  find("nvmlDeviceGetTotalEccErrors", f->ecc);
  find("nvmlDeviceGetCurrentClocksThrottleReasons", f->throttle);
  if (const int code = f->init(); code != 0)
    return error(Errc::engine_failed, fmt::format("NVML does not start: {}", f->words(code)));
  n->f_ = std::move(f);
  if (const int code = n->f_->count(&n->count_); code != 0)
    return error(Errc::engine_failed, fmt::format("NVML does not count devices: {}", n->f_->words(code)));
  return n;
}

Result<std::unique_ptr<Nvml>> Nvml::here() {
  const char* const other = std::getenv("TOKENWORKS_NVML");
  return other != nullptr && *other != '\0' ? open(other) : open();
}

Nvml::~Nvml() {
  if (f_) (void)f_->shutdown();
  f_.reset();
  if (library_ != nullptr) dlclose(library_);
}

std::string Nvml::confidential_computing() const {
  ConfidentialState s{};
  if (f_->confidential == nullptr || f_->confidential(&s) != 0) return "not told by the driver";
  if (s.feature == 0) return "off";
  return std::string("on (") + (s.environment == 2 ? "production" : "not production") + (s.tools != 0 ? ", development tools allowed)" : ")");
}

Result<NvmlReading> Nvml::read(std::uint32_t device) const {
  if (device >= count_) return error(Errc::invalid_request, fmt::format("NVML device {} of {}", device, count_));
  Handle handle = nullptr;
  if (const int code = f_->handle(device, &handle); code != 0)
    return error(Errc::engine_failed, fmt::format("NVML device {}: {}", device, f_->words(code)));
  NvmlReading r;
  unsigned number = 0;
  unsigned long long large = 0;
  MemoryInfo memory{};
  PciInfo pci{};
  if (f_->pci != nullptr && f_->pci(handle, &pci) == 0) r.bus = fmt::format("{:04x}:{:02x}:{:02x}", pci.domain, pci.bus, pci.device);
  if (f_->temperature != nullptr && f_->temperature(handle, kTemperatureGpu, &number) == 0) r.temperature_celsius = number;
  if (f_->power != nullptr && f_->power(handle, &number) == 0) r.power_milliwatts = number;
  if (f_->energy != nullptr && f_->energy(handle, &large) == 0) r.energy_millijoules = large;
  if (f_->ecc != nullptr && f_->ecc(handle, kUncorrected, kSinceTheDriverWasLoaded, &large) == 0) r.ecc_errors = large;
  if (f_->throttle != nullptr && f_->throttle(handle, &large) == 0) r.throttle_reasons = large;
  if (f_->memory != nullptr && f_->memory(handle, &memory) == 0) {
    r.memory_used_bytes = memory.used;
    r.memory_total_bytes = memory.total;
  }
  return r;
}

}  // namespace tokenworks::backend::cuda
