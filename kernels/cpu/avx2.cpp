// The ops for AVX2 with FMA and F16C (Haswell, Zen and later).
#define TW_PATH avx2
#define TW_WIDTH 8
#include "linear_avx2.hpp"
#include "table.hpp"

namespace tokenworks::kernels {
extern const CpuOps kAvx2Ops;
constinit const CpuOps kAvx2Ops = avx2::make_table("avx2");
}  // namespace tokenworks::kernels
