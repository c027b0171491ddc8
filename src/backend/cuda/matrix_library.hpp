#pragma once
// MatrixLibrary: somebody else's matrix multiplication (cuBLASLt on a card, a host body on the emulator), as narrow as
// TunedProducts needs it: the ways it knows for a product, and doing it one of these ways. One thread at a time, the device's.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/ops.hpp"

namespace tokenworks::backend::cuda {

// An algorithm with its settings, opaque; means something to the same library of the same version only.
using Way = std::array<std::uint64_t, 8>;

class MatrixLibrary {
 public:
  virtual ~MatrixLibrary() = default;
  virtual const std::string& version() const = 0;    // "cublasLt 130100": ways of another one are void
  // At most `most` ways for products of these shapes, elements and extras, its own favourite first; none: not for these.
  virtual std::vector<Way> ways(const kernels::cuda::LinearArgs& args, int most) = 0;
  // Enqueues the product; false, with nothing enqueued, when it cannot be done this way.
  virtual bool multiply(const kernels::cuda::LinearArgs& args, const Way& way, kernels::cuda::Stream stream) = 0;
};

}  // namespace tokenworks::backend::cuda
