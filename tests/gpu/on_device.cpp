#include "gpu/on_device.hpp"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "backend/cuda/native/native_device.hpp"

namespace tokenworks::emulator {

Options& options() {
  static Options all;
  return all;
}

EmulatedDevice::EmulatedDevice(std::size_t) {
  auto made = backend::cuda::make_native_device(0);
  if (!made) {
    std::fprintf(stderr, "no card to test on: %s\n", made.error().message.c_str());
    std::exit(3);
  }
  inner_ = std::move(*made);
}

Result<void*> EmulatedDevice::allocate(std::size_t bytes, const char* what) {
  void* at = nullptr;
  if (cudaMallocManaged(&at, bytes > 0 ? bytes : 1, cudaMemAttachGlobal) != cudaSuccess)
    return error(Errc::internal, std::string(what) + ": " + std::to_string(bytes) + " bytes of managed memory cannot be had");
  std::memset(at, kPoison, bytes);
  return at;
}

Result<> EmulatedDevice::synchronise(backend::cuda::Stream s) {
  auto done = inner_->synchronise(s);
  if (done && !lost_.empty()) return error(Errc::engine_failed, "the device failed: " + lost_);
  return done;
}

}  // namespace tokenworks::emulator
