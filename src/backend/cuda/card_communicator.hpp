#pragma once
// CardCommunicator: ranks on cards that reach each other's memory. Sums over ranks go through NCCL where it is there (in order on
// the stream, part of a captured step), else through a kernel that reads all ranks' memory between two meetings of their
// threads; gathered columns always the latter way, once a step. What travels in host memory goes by the threads' form.
#include <memory>

#include "backend/cuda/objects.hpp"
#include "tokenworks/backend/communicator.hpp"

namespace tokenworks::backend::cuda {

class CudaBackend;

class DeviceSums {                                   // of one rank
 public:
  virtual ~DeviceSums() = default;
  // Enqueues values[i] = the sum over ranks, as every rank does with as many values; false when it cannot.
  virtual bool sum(float* values, std::size_t count, Stream stream) = 0;
};

// One for each backend, in the order of ranks; `sums` empty: the kernel. Not made (empty) where a card cannot reach another.
std::vector<std::unique_ptr<Communicator>> make_card_communicators(std::span<CudaBackend* const> backends,
                                                                   std::vector<std::unique_ptr<DeviceSums>> sums);

}  // namespace tokenworks::backend::cuda
