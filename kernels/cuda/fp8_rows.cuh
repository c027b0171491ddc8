#pragma once
// What leaves rows in fp8 shares: the scale of a row is its largest magnitude / 448, found by the whole block.
#include "kernels/cuda/numbers.cuh"

namespace tokenworks::kernels::cuda::TW_TARGET {

struct RowShared {
  float scratch[32];
};

// `largest`: of the elements this thread has seen. Stores the row's scale and returns what elements are multiplied by.
__device__ __forceinline__ float store_row_scale(float largest, float* scale_of_row, RowShared& s) {
  largest = block_reduce<true>(largest, s.scratch);
  const float scale = largest > 0 ? largest / kFp8Max : 1;
  if (TW_PLANT(4) || threadIdx.x == 0) *scale_of_row = scale;
  return 1 / scale;
}

}  // namespace tokenworks::kernels::cuda::TW_TARGET
