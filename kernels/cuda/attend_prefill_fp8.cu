// attend_prefill over a cache of fp8.
#include "kernels/cuda/attend_prefill.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

void attend_prefill_fp8(Stream stream, const AttendTiledArgs& a) { attend_prefill_of<fp8>(stream, a); }

}  // namespace tokenworks::kernels::cuda::TW_TARGET
