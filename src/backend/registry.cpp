// make_backend: what the configuration's `backend` and `compute` mean in this build, on this machine.
#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>

#include "backend/cpu/cpu_backend.hpp"
#include "backend/cuda/built_for.hpp"
#include "backend/cuda/cuda_backend.hpp"
#include "backend/cuda/driver.hpp"
#include "backend/cuda/nvml.hpp"
#include "tokenworks/backend/places.hpp"
#if defined(TOKENWORKS_WITH_CUDA)
#include "backend/cuda/native/native_device.hpp"
#endif

namespace tokenworks::backend {
namespace {

constexpr const char* kCudaComputes = "default (bf16), bf16, fp16, fp8, bf16-kv8 and fp8-kv8";

Result<kernels::CpuPath> choose_path() {
  using kernels::CpuPath;
  const char* const wanted = std::getenv("TOKENWORKS_CPU");
  if (wanted == nullptr || *wanted == '\0') return kernels::best_path();
  for (const CpuPath path : {CpuPath::portable, CpuPath::avx2, CpuPath::avx512}) {
    if (std::string_view(wanted) != kernels::name(path)) continue;
    if (kernels::machine_has(path)) return path;
    return error(Errc::bad_config, fmt::format("TOKENWORKS_CPU={}: this machine has no such instructions; it has {}",
                                               wanted, kernels::name(kernels::best_path())));
  }
  return error(Errc::bad_config, fmt::format("TOKENWORKS_CPU={}: no such path; portable, avx2 or avx512", wanted));
}

// Why this card cannot be used by this binary; empty: it can.
std::string unfit(const cuda::Driver& driver, const cuda::DriverDevice& d) {
  const cuda::BuiltFor& built = cuda::built_for();
  if (d.major < 8) return fmt::format("{} has compute capability {}.{}; 8.0 is needed", d.name, d.major, d.minor);
  if (!built.runs_on(d.major, d.minor))
    return fmt::format("{} has compute capability {}.{}; this binary has kernels for {} (configure with -DTOKENWORKS_CUDA_ARCHITECTURES={}{})",
                       d.name, d.major, d.minor, built.names(), d.major, d.minor);
  if (!built.runs_with(driver.version))
    return fmt::format("the driver is of CUDA {}.{}; this binary needs one of CUDA {} or later", driver.version / 1000, driver.version % 1000 / 10,
                       built.runtime / 1000);
  return {};
}

#if defined(TOKENWORKS_WITH_CUDA)
// Where it is kept which kernel multiplies what; empty: there is no folder for such things.
std::string products_file(std::size_t ordinal) {
  const auto value = [](const char* name) {
    const char* const found = std::getenv(name);
    return std::string(found != nullptr ? found : "");
  };
  std::string folder = value("TOKENWORKS_CACHE");
  if (folder.empty() && !value("XDG_CACHE_HOME").empty()) folder = value("XDG_CACHE_HOME") + "/tokenworks";
  if (folder.empty() && !value("HOME").empty()) folder = value("HOME") + "/.cache/tokenworks";
  return folder.empty() ? "" : fmt::format("{}/products-{}.txt", folder, ordinal);
}

// The card of that number; null with the reason in `why` when it cannot be used.
std::unique_ptr<Backend> make_cuda(cuda::CudaOptions options, std::size_t ordinal, std::string& why) {
  if (const cuda::Driver driver = cuda::probe_driver(); !driver.usable()) {
    why = driver.problem;
    return nullptr;
  } else if (ordinal >= driver.devices.size()) {
    why = fmt::format("there is no card {}; the last is {}", ordinal, driver.devices.size() - 1);
    return nullptr;
  } else if (why = unfit(driver, driver.devices[ordinal]); !why.empty()) {
    return nullptr;
  }
  options.products_file = products_file(ordinal);
  auto device = cuda::make_native_device(static_cast<int>(ordinal));
  if (!device) {
    why = device.error().message;
    return nullptr;
  }
  return std::make_unique<cuda::CudaBackend>(std::move(*device), options);
}
constexpr const char* kBuiltIn = "cpu, cuda";
#else
std::unique_ptr<Backend> make_cuda(const cuda::CudaOptions&, std::size_t, std::string& why) {
  why = "this binary was built without nvcc";
  return nullptr;
}
constexpr const char* kBuiltIn = "cpu";
#endif

}  // namespace

// What `compute` means on a card; empty: not one of its words.
std::optional<cuda::CudaOptions> cuda_options(std::string_view compute) {
  using kernels::cuda::Element;
  if (compute == "default" || compute == "bf16") return cuda::CudaOptions{};
  if (compute == "fp16") return cuda::CudaOptions{.compute = Element::f16, .kv = Element::f16};
  if (compute == "fp8") return cuda::CudaOptions{.compute = Element::fp8};
  if (compute == "bf16-kv8") return cuda::CudaOptions{.kv = Element::fp8};
  if (compute == "fp8-kv8") return cuda::CudaOptions{.compute = Element::fp8, .kv = Element::fp8};
  return std::nullopt;
}

// The reason why nothing runs on a card here; empty when models can. For `doctor` and the log.
GpuReport gpu_report() {
  GpuReport report;
  report.built_in = std::string_view(kBuiltIn) != "cpu";
  const cuda::Driver driver = cuda::probe_driver();
  report.driver = driver.problem.empty() ? fmt::format("CUDA {}.{}", driver.version / 1000, driver.version % 1000 / 10)
                                         : driver.problem;
  for (std::size_t i = 0; i < driver.devices.size(); ++i) {
    const cuda::DriverDevice& d = driver.devices[i];
    std::string peers;
    for (const int p : d.peers) peers += fmt::format("{}{}", peers.empty() ? "" : ", ", p);
    report.devices.push_back(fmt::format("{}: {}, {} MiB, sm_{}{}, {} multiprocessors, peers: {}", i, d.name,
                                         d.memory_bytes >> 20, d.major, d.minor, d.multiprocessors,
                                         peers.empty() ? "none" : peers));
  }
  report.usable = report.built_in && driver.usable() && unfit(driver, driver.devices[0]).empty();
  return report;
}

namespace {

// What card 0 said when it was last asked for and could not be had, though the driver lists it (taken, broken, another runtime).
class Refusal {
 public:
  void is(const std::string& why) {
    const std::lock_guard lock(mutex_);
    why_ = why;
  }
  std::string why() const {
    const std::lock_guard lock(mutex_);
    return why_;
  }

 private:
  mutable std::mutex mutex_;
  std::string why_;
};
Refusal& refusal() {
  static Refusal last;
  return last;
}

}  // namespace

std::string why_no_card(const std::string& compute) {
  if (!cuda_options(compute)) return "compute: " + compute + " runs on the processor only";
  const GpuReport report = gpu_report();
  if (report.usable) return refusal().why();
  if (!report.built_in) return "the CUDA backend is not built in";
  const std::vector<std::string> unfit = cards_without_kernels();
  return unfit.empty() ? report.driver : "card " + unfit[0];
}

std::string confidential_computing() {
  const auto nvml = cuda::Nvml::here();
  return nvml ? (*nvml)->confidential_computing() : "unknown: " + nvml.error().message;
}

std::string built_in_kernels() { return cuda::built_for().names(); }

std::vector<std::string> cards_without_kernels() {
  std::vector<std::string> all;
  const cuda::Driver driver = cuda::probe_driver();
  for (std::size_t i = 0; i < driver.devices.size(); ++i)
    if (const std::string why = unfit(driver, driver.devices[i]); !why.empty()) all.push_back(fmt::format("{}: {}", i, why));
  return all;
}

namespace {

Result<std::unique_ptr<Backend>> make_at(const BackendChoice& choice, std::size_t ordinal) {
  const auto on_a_card = cuda_options(choice.compute);
  const bool card_only = on_a_card && choice.compute != "default";
  if (choice.backend == "cuda" || (choice.backend == "auto" && (card_only || (on_a_card && gpu_report().usable)))) {
    if (!on_a_card)
      return error(Errc::bad_config, fmt::format("compute: {} is not one of backend cuda; {} are", choice.compute, kCudaComputes));
    std::string why;
    auto made = make_cuda(*on_a_card, ordinal, why);
    if (ordinal == 0) refusal().is(why);
    if (made) return made;
    if (choice.backend == "cuda" || card_only)
      return error(Errc::bad_config, fmt::format("backend: cuda cannot be had: {}; built in: {}; backend: auto or cpu runs on "
                                                 "the processor", why, kBuiltIn));
  }
  if (choice.backend != "auto" && choice.backend != "cpu")
    return error(Errc::bad_config, fmt::format("backend: {} is unknown; auto, cpu or cuda, or cards by number such as cuda:1 and cuda:0+1; a model beyond one host is handed "
                                               "over (docs/beyond_one_host.md)", choice.backend));
  if (card_only) return error(Errc::bad_config, fmt::format("compute: {} runs on backend cuda only", choice.compute));
  const auto rounding = rounding_of(choice.compute);
  if (choice.compute != "default" && choice.compute != "exact" && !rounding)
    return error(Errc::bad_config, fmt::format("compute: {} is unknown; default or exact, and for an evaluation {}",
                                               choice.compute, kRoundingNames));
  const auto path = choose_path();
  if (!path) return path.error();
  int threads = choice.threads;
  if (threads <= 0) threads = static_cast<int>(std::thread::hardware_concurrency());
  if (threads <= 0) threads = 1;
  try {
    if (rounding)
      return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(*path, *rounding, choice.compute, threads));
    return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(*path, choice.compute == "exact", threads));
  } catch (const std::system_error& e) {             // a limit of the process, its container or the machine
    return error(Errc::bad_config, fmt::format("{} compute threads cannot be started: {}", threads, e.code().message()), "threads");
  }
}

}  // namespace

Result<std::unique_ptr<Backend>> make_backend(const BackendChoice& choice) { return make_at(choice, 0); }

Result<std::vector<std::unique_ptr<Backend>>> make_backends(const BackendChoice& choice) {
  std::vector<std::size_t> ordinals{0};
  BackendChoice each = choice;
  if (const std::size_t colon = choice.backend.find(':'); colon != std::string::npos) {
    each.backend = choice.backend.substr(0, colon);
    ordinals.clear();
    for (const char *at = choice.backend.c_str() + colon, *const end = choice.backend.c_str() + choice.backend.size(); at < end;) {
      std::size_t number = 0;
      const auto [after, wrong] = std::from_chars(at + 1, end, number);
      if (wrong != std::errc() || (after != end && *after != '+') || (each.backend != "cpu" && each.backend != "cuda"))
        return make_at(choice, 0).error();           // says what there is
      ordinals.push_back(number);
      at = after;
    }
  }
  std::vector<std::unique_ptr<Backend>> all;
  for (const std::size_t ordinal : ordinals) {
    auto made = make_at(each, ordinal);
    if (!made) return made.error();
    all.push_back(std::move(*made));
  }
  return all;
}

}  // namespace tokenworks::backend
