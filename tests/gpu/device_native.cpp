#include "backend/cuda/native/native_device.hpp"
#include "gpu/synthetic.hpp"

namespace tokenworks::gpu {

Result<std::unique_ptr<backend::cuda::Device>> make_device() { return backend::cuda::make_native_device(0); }

}  // namespace tokenworks::gpu
