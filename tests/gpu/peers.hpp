#pragma once
// The section `peers` of gpu_bench.
#include "gpu/report.hpp"

namespace tokenworks::gpu {

void peers(Report& report, bool tiny);

}  // namespace tokenworks::gpu
