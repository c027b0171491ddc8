#pragma once
// Communicator: what the ranks of one model say to each other during a step. One thread owns one rank and makes all its calls;
// every rank makes the same calls in the same order. Values are host memory: the form made of CPU threads adds in the order of
// ranks, so that every rank holds the same bits after a sum whatever the timing. Other forms (NCCL, peer copies) would stand
// behind the same interface. A rank that leaves ends the call of every other with engine_failed: nobody waits for the dead.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks::backend {

class Communicator {
 public:
  virtual ~Communicator() = default;                 // leaves, if it has not
  virtual std::int32_t rank() const = 0;
  virtual std::int32_t size() const = 0;

  virtual Result<> all_reduce(std::span<float> values) = 0;            // the sum over ranks; as many values in each
  // all [size * mine.size()] = what each rank brought, by rank.
  virtual Result<> all_gather(std::span<const float> mine, std::span<float> all) = 0;
  virtual Result<> broadcast(std::span<std::byte> data, std::int32_t from) = 0;
  virtual Result<> barrier() = 0;
  virtual void leave() = 0;                          // for good; any thread
};

// One per rank, for threads of this process.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(std::int32_t size);

}  // namespace tokenworks::backend
