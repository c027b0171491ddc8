// make_backend: what the configuration's `backend` and `compute` mean in this build, on this machine.
#include <fmt/format.h>

#include <cstdlib>
#include <string_view>
#include <thread>

#include "backend/cpu/cpu_backend.hpp"

namespace tokenworks::backend {
namespace {

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

}  // namespace

Result<std::unique_ptr<Backend>> make_backend(const BackendChoice& choice) {
  if (choice.backend == "cuda")
    return error(Errc::bad_config, "backend: cuda is not built into this binary; built in: cpu");
  if (choice.backend != "auto" && choice.backend != "cpu")
    return error(Errc::bad_config, fmt::format("backend: {} is unknown; auto, cpu or cuda", choice.backend));
  const auto rounding = rounding_of(choice.compute);
  if (choice.compute != "default" && choice.compute != "exact" && !rounding)
    return error(Errc::bad_config, fmt::format("compute: {} is unknown; default or exact, and for an evaluation {}",
                                               choice.compute, kRoundingNames));
  const auto path = choose_path();
  if (!path) return path.error();
  int threads = choice.threads;
  if (threads <= 0) threads = static_cast<int>(std::thread::hardware_concurrency());
  if (threads <= 0) threads = 1;
  if (rounding)
    return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(*path, *rounding, choice.compute, threads));
  return std::unique_ptr<Backend>(std::make_unique<CpuBackend>(*path, choice.compute == "exact", threads));
}

}  // namespace tokenworks::backend
