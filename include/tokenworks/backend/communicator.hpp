#pragma once
// Communicator: what the ranks of one model say to each other during a step. One thread owns one rank and makes all its calls;
// every rank makes the same calls in the same order. The form made of CPU threads adds in the order of ranks, so that every rank
// holds the same bits after a sum whatever the timing; what lies in a backend's memory it carries through the host. Cards that
// reach each other have a form that does not. A rank that leaves ends the call of every other with engine_failed: nobody waits
// for the dead. Destroyed before the backends it was made for.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks::backend {

class Backend;
class Buffer;

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

  // In order with this rank's backend, whose buffers hold fp32. values [rows, columns], the step's rows: the sum over ranks.
  virtual Result<> all_reduce(Backend& backend, Buffer& values, std::int32_t rows, std::int32_t columns);
  // all [rows, sum of widths] = mine [rows, widths[rank]] of every rank side by side; the first rank's only is filled, the same
  // buffer in every call.
  virtual Result<> gather_columns(Backend& backend, const Buffer& mine, std::int32_t rows, std::span<const std::int32_t> widths, Buffer& all);
  // True: the two above stand in order on the backend's stream, no thread waits for another's, and what the first rank samples
  // reaches the others' next step: steps may overlap. Every rank then begins and ends the step's sampling.
  virtual bool on_stream() const { return false; }

 private:
  std::vector<float> host_, gathered_;               // on the way
};

// One per rank, for threads of this process.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(std::int32_t size);
// One per rank, in the form these backends are best served by; says in the log which.
std::vector<std::unique_ptr<Communicator>> make_communicators(std::span<Backend* const> backends);

}  // namespace tokenworks::backend
