#pragma once
// NCCL behind DeviceSums, found at run time as cuBLASLt is. Compiled where its header was found.
#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/card_communicator.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::backend::cuda {

// One per device, in the order of ranks, each for the thread of its rank. engine_failed with the reason when there is no such
// library or it refuses, as it does for a device named twice.
Result<std::vector<std::unique_ptr<DeviceSums>>> open_nccl(std::span<const std::int32_t> ordinals);

}  // namespace tokenworks::backend::cuda
