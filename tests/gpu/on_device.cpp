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
  ++allocations_;
  (void)inner_->free_bytes();                        // this thread's device is the inner one's
  void* at = nullptr;
  if (cudaHostAlloc(&at, bytes > 0 ? bytes : 1, cudaHostAllocPortable | cudaHostAllocMapped) != cudaSuccess)
    return error(Errc::internal, std::string(what) + ": " + std::to_string(bytes) + " bytes of host memory that the card sees cannot be had");
  std::memset(at, kPoison, bytes);
  return at;
}

void EmulatedDevice::free(void* at) {
  if (at == nullptr) return;
  ++frees_;
  (void)inner_->synchronise(inner_->stream());       // as freeing device memory does
  inner_->free_pinned(at);
}

Result<> EmulatedDevice::synchronise(backend::cuda::Stream s) {
  auto done = inner_->synchronise(s);
  if (done && !lost_.empty()) return error(Errc::engine_failed, "the device failed: " + lost_);
  return done;
}

}  // namespace tokenworks::emulator
