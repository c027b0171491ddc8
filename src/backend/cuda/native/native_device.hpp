#pragma once
// A card behind Device, through the CUDA runtime (linked statically; it looks for the driver only when asked for a device).
// In builds with nvcc only.
#include <memory>

#include "backend/cuda/device.hpp"

namespace tokenworks::backend::cuda {

// engine_failed with the runtime's words when the device cannot be used.
Result<std::unique_ptr<Device>> make_native_device(int ordinal);

}  // namespace tokenworks::backend::cuda
