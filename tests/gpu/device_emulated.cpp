#include "gpu/synthetic.hpp"
#include "runtime.hpp"

namespace tokenworks::gpu {

Result<std::unique_ptr<backend::cuda::Device>> make_device() {
  return std::unique_ptr<backend::cuda::Device>(std::make_unique<emulator::EmulatedDevice>());
}

}  // namespace tokenworks::gpu
