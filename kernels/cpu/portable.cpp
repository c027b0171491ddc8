// The ops in plain C++ with GCC's generic vectors: any processor.
#define TW_PATH portable
#define TW_WIDTH 4
#include "linear_portable.hpp"
#include "table.hpp"

namespace tokenworks::kernels {
extern const CpuOps kPortableOps;
constinit const CpuOps kPortableOps = portable::make_table("portable");
}  // namespace tokenworks::kernels
