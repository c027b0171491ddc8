#pragma once
// cuBLASLt behind MatrixLibrary, found at run time: the daemon starts without it. It is looked for in the folders (or their
// lib/) that TOKENWORKS_CUDA_LIBRARIES lists, then as any library is. Compiled where its header was found.
#include <memory>
#include <string>

#include "backend/cuda/matrix_library.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::backend::cuda {

// A handle and a workspace on the current device. engine_failed with the reason when there is no such library.
Result<std::unique_ptr<MatrixLibrary>> open_cublas_lt();

}  // namespace tokenworks::backend::cuda
