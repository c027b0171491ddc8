// attend_prefill: over a cache of bf16 here; the other elements have files of their own.
#include "kernels/cuda/attend_prefill.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

void attend_prefill_f16(Stream stream, const AttendTiledArgs& a);
void attend_prefill_fp8(Stream stream, const AttendTiledArgs& a);

void attend_prefill(Stream stream, const AttendTiledArgs& a) {
  if (a.attend.rows == 0) return;
  switch (a.attend.kv.element) {
    case Element::f16: return attend_prefill_f16(stream, a);
    case Element::fp8: return attend_prefill_fp8(stream, a);
    default: return attend_prefill_of<bf16>(stream, a);
  }
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
