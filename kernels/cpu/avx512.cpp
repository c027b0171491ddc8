// The ops for AVX-512 with VNNI (Ice Lake, Zen 4 and later).
#define TW_PATH avx512
#define TW_WIDTH 16
#include "linear_avx512.hpp"
#include "table.hpp"

namespace tokenworks::kernels {
extern const CpuOps kAvx512Ops;
constinit const CpuOps kAvx512Ops = avx512::make_table("avx512");
}  // namespace tokenworks::kernels
