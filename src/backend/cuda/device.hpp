#pragma once
// Device: what CudaBackend needs of a CUDA runtime, as an interface of plain types, so that the backend is one source for
// the card (native_device.cpp) and for the emulator of tests/kernels/emulator. As in CUDA: work on a stream is asynchronous
// and in order; an error is sticky and makes everything after it fail. Thread: the owner's, one at a time.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "backend/cuda/matrix_library.hpp"
#include "kernels/cuda/peers.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::backend::cuda {

using kernels::cuda::Stream;

struct DeviceInfo {
  std::string name;                                  // "NVIDIA H200", "emulator"
  std::string architecture;                          // "sm_90"
  std::int32_t multiprocessors = 1;
  std::size_t memory_bytes = 0;
  std::size_t shared_bytes = std::size_t{227} << 10; // the most that a kernel's block may have
  std::int32_t ordinal = 0;                          // among the machine's cards, as CUDA counts them
  std::string driver;                                // its version: "13000", "13000/580.95.05"
  std::string bus;                                   // where it is plugged in, "0000:3b:00"; empty: nowhere
};

// What tests hold against "a steady step allocates nothing and copies only ids".
struct DeviceCounts {
  std::uint64_t allocations = 0, frees = 0, synchronisations = 0, copies_to_device = 0, copies_to_host = 0, launches = 0,
                graph_launches = 0, captures = 0, bytes_to_host = 0, bytes_to_device = 0;
};

class Graph {                                        // recorded work of a stream; freed before its Device
 public:
  virtual ~Graph() = default;
};

class Event {                                        // a place in a stream's work; freed before its Device
 public:
  virtual ~Event() = default;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual const kernels::cuda::CudaOps& ops() const = 0;

  // resource_exhausted with the bytes asked for and what was free. `what` names the memory in messages.
  virtual Result<void*> allocate(std::size_t bytes, const char* what) = 0;
  virtual void free(void* at) = 0;
  // From now on kernels of other cards wait for what this thread enqueues next. To have or free memory, pinned memory too, waits
  // for the kernels of all cards that reach each other, which would be for ever: memory is had in another way from here on, and
  // what is freed stays until the device goes.
  virtual void ranks_meet() = 0;
  virtual Result<void*> allocate_pinned(std::size_t bytes) = 0;        // host memory that copies may read and write later
  virtual void free_pinned(void* at) = 0;
  virtual std::size_t free_bytes() const = 0;

  virtual Stream stream() = 0;                       // the device's main stream
  virtual void copy_to_device(void* to, const void* pinned, std::size_t bytes, Stream stream) = 0;
  virtual void copy_to_host(void* pinned, const void* from, std::size_t bytes, Stream stream) = 0;
  virtual void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream) = 0;
  virtual void fill(void* to, unsigned char value, std::size_t bytes, Stream stream) = 0;   // the device's, or pinned memory
  virtual Result<> synchronise(Stream stream) = 0;   // waits; engine_failed with the device's words once it is lost

  virtual Result<std::unique_ptr<Event>> make_event() = 0;
  virtual void record(Event& event, Stream stream) = 0;   // here, behind all that was enqueued so far
  virtual Result<> wait(const Event& event) = 0;     // as synchronise, but for nothing enqueued after it was recorded

  virtual void begin_capture(Stream stream) = 0;     // until end_capture work on the stream is recorded, not run
  virtual Result<std::unique_ptr<Graph>> end_capture(Stream stream) = 0;
  virtual void launch(const Graph& graph, Stream stream) = 0;

  // Matrix multiplication by somebody else's library, the device's; null: there is none here.
  virtual MatrixLibrary* products() = 0;
  // Kernels over the memory of several cards. `reach`: from now on kernels here may read the other's memory; false: they cannot.
  virtual const kernels::cuda::PeerOps& peer_ops() const = 0;
  virtual bool reach(Device& other) = 0;

  virtual DeviceCounts counts() const = 0;
};

}  // namespace tokenworks::backend::cuda
