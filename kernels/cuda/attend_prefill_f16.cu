// attend_prefill over a cache of f16.
#include "kernels/cuda/attend_prefill.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

void attend_prefill_f16(Stream stream, const AttendTiledArgs& a) { attend_prefill_of<f16>(stream, a); }

}  // namespace tokenworks::kernels::cuda::TW_TARGET
