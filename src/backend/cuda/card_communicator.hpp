#pragma once
// CardCommunicator: ranks on cards that reach each other's memory. Sums over ranks, columns gathered on the first and the ids it
// draws stand in order on the streams; no thread waits for another's, so steps may overlap, and all but the ids are part of a
// captured step. Small sums, and all where there is no NCCL, are one kernel a rank over mailboxes in the cards' memory
// (peers.hpp); large ones go through NCCL. What travels in host memory goes by the threads' form. A rank that leaves also ends
// the others' waiting on the cards; a kernel that is told nothing for 20 s fails its card.
#include <memory>
#include <span>
#include <vector>

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

class SharedIds {                                    // of one rank: what the first draws, for everybody's next step
 public:
  virtual ~SharedIds() = default;
  virtual bool first() const = 0;
  virtual const std::int32_t* ids() const = 0;       // where they are on this rank's card; not the first's
  // Enqueues the giving or the getting of `count` ids, as every rank does; `drawn` is the first's.
  virtual Result<> share(const std::int32_t* drawn, std::size_t count, Stream stream) = 0;
};

// Up to so many bytes a sum is latency, and one kernel is quicker than NCCL's rings: what others measured, not we.
constexpr std::size_t once_bytes(std::size_t ranks) { return ranks <= 4 ? std::size_t{512} << 10 : std::size_t{256} << 10; }

// One for each backend, in the order of ranks; `large` empty: the kernel does all. Not made (empty) where a card cannot reach
// another. A mebibyte on each card from the first sum on.
std::vector<std::unique_ptr<Communicator>> make_card_communicators(std::span<CudaBackend* const> backends,
                                                                   std::vector<std::unique_ptr<DeviceSums>> large);

}  // namespace tokenworks::backend::cuda
