#include "runtime.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "execute.hpp"
#include "launched.hpp"

namespace tokenworks::kernels::cuda {
const CudaOps* emulated_ops();
const PeerOps* emulated_peer_ops();
}

namespace tokenworks::emulator {

using backend::cuda::Graph;
using backend::cuda::Stream;

namespace {

struct EmulatedGraph final : Graph {
  std::vector<std::shared_ptr<const EmulatedDevice::Work>> work;
};

struct EmulatedEvent final : backend::cuda::Event {
  EmulatedDevice::Queue* queue = nullptr;
  std::uint64_t at = 0;
};

EmulatedDevice::Queue& queue_of(Stream stream) { return *static_cast<EmulatedDevice::Queue*>(stream); }

}  // namespace

Launched& launched() {
  static Launched all;
  return all;
}

// The door through which kernels/cuda/launch.cuh comes.
void enqueue_kernel(void* stream, const unsigned (&blocks)[3], const unsigned (&threads)[3], std::size_t shared_bytes,
                    const char* name, void (*run)(const void*), const void* arguments, std::size_t bytes) {
  Grid grid;
  for (int i = 0; i < 3; ++i) {
    grid.blocks[i] = blocks[i];
    grid.threads[i] = threads[i];
  }
  grid.shared_bytes = shared_bytes;
  grid.name = name;
  grid.together = std::strcmp(name, "sum_once") == 0 || std::strcmp(name, "gather_once") == 0;
  const auto* first = static_cast<const std::byte*>(arguments);
  std::vector<std::byte> copy(first, first + bytes);
  auto& queue = queue_of(stream);
  queue.device->count_launch();
  const void* kernel = nullptr;                      // launch.cuh's Call begins with it
  std::memcpy(&kernel, arguments, sizeof kernel);
  {
    const std::lock_guard lock(launched().mutex);
    std::size_t& largest = launched().shared_bytes[kernel];
    largest = std::max(largest, shared_bytes);
  }
  const std::size_t most = queue.device->info().shared_bytes;
  queue.device->enqueue(queue, [grid, run, most, copy = std::move(copy)]() -> std::string {
    if (grid.shared_bytes > most) return fmt::format("{}: launch refused: {} bytes of shared memory of {}", grid.name, grid.shared_bytes, most);
    return run_grid(grid, [&] { run(copy.data()); });
  });
}

EmulatedDevice::EmulatedDevice(std::size_t memory_bytes) {
  info_.name = "emulator";
  info_.architecture = "sm_90";
  info_.multiprocessors = 4;
  info_.memory_bytes = memory_bytes;
  main_.device = this;
}

EmulatedDevice::~EmulatedDevice() {
  met_ = false;
  for (void* at : freed_) free(at);
  for (const auto& [at, bytes] : pinned_) std::free(reinterpret_cast<void*>(at));
}

const kernels::cuda::CudaOps& EmulatedDevice::ops() const { return *kernels::cuda::emulated_ops(); }

const kernels::cuda::PeerOps& EmulatedDevice::peer_ops() const { return *kernels::cuda::emulated_peer_ops(); }

Result<void*> EmulatedDevice::allocate(std::size_t bytes, const char* what) {
  const Guard guard;
  refuse_in_capture("memory is asked for");
  ++counts_.allocations;
  if (bytes > free_bytes())
    return error(Errc::internal, fmt::format("{}: {} bytes asked for, {} of {} free on {}", what, bytes, free_bytes(),
                                             info_.memory_bytes, info_.name));
  used_ += bytes;
  return memory().allocate(bytes, what);
}

void EmulatedDevice::free(void* at) {
  if (at == nullptr) return;
  if (met_) return freed_.push_back(at);
  refuse_in_capture("memory is freed");
  (void)synchronise(stream());                       // as cudaFree does
  const Guard guard;
  ++counts_.frees;
  const Allocation* a = memory().find(reinterpret_cast<std::uintptr_t>(at));
  if (a != nullptr) used_ -= a->end - a->begin;
  if (!memory().free(at) && failure_.empty()) failure_ = "free of an address that was not allocated";
}

Result<void*> EmulatedDevice::allocate_pinned(std::size_t bytes) {
  refuse_in_capture("pinned memory is asked for");
  ++counts_.allocations;
  if (bytes > pinned_max_) return error(Errc::internal, fmt::format("{} bytes of pinned host memory of {}", bytes, pinned_max_));
  void* at = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  std::memset(at, kPoison, bytes);
  pinned_[reinterpret_cast<std::uintptr_t>(at)] = bytes;
  return at;
}

void EmulatedDevice::free_pinned(void* at) {
  if (met_) return;                           // the destructor has them all
  refuse_in_capture("pinned memory is freed");
  (void)synchronise(stream());
  if (pinned_.erase(reinterpret_cast<std::uintptr_t>(at)) != 0) std::free(at);
}

// What a card does not allow while its stream records: the capture is void, and so is the step.
void EmulatedDevice::refuse_in_capture(const char* what) {
  if (main_.capturing && failure_.empty()) failure_ = fmt::format("{} while a graph is captured", what);
}

std::string EmulatedDevice::check_range(const void* at, std::size_t bytes, const char* what) const {
  const Guard guard;
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const Allocation* a = memory().find(address);
  if (a != nullptr && address + bytes <= a->end) return {};
  return fmt::format("{}: out of bounds: {}", what, memory().describe(address, bytes));
}

std::string EmulatedDevice::check_pinned(const void* at, std::size_t bytes, const char* what) const {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const auto after = pinned_.upper_bound(address);
  if (after != pinned_.begin()) {
    const auto& [begin, size] = *std::prev(after);
    if (address + bytes <= begin + size) return {};
  }
  return fmt::format("{}: {} bytes at {} are not in pinned memory", what, bytes, at);
}

void EmulatedDevice::enqueue(Queue& queue, Work work) {
  auto shared = std::make_shared<const Work>(std::move(work));
  if (queue.capturing)
    queue.captured.push_back(std::move(shared));
  else
    queue.work.push_back(std::move(shared));
}

void EmulatedDevice::copy_to_device(void* to, const void* pinned, std::size_t bytes, Stream stream) {
  ++counts_.copies_to_device;
  counts_.bytes_to_device += bytes;
  enqueue(queue_of(stream), [=, this]() -> std::string {
    if (auto wrong = check_range(to, bytes, "copy to device"); !wrong.empty()) return wrong;
    if (auto wrong = check_pinned(pinned, bytes, "copy to device"); !wrong.empty()) return wrong;
    std::memcpy(to, pinned, bytes);
    return {};
  });
}

void EmulatedDevice::copy_to_host(void* pinned, const void* from, std::size_t bytes, Stream stream) {
  ++counts_.copies_to_host;
  counts_.bytes_to_host += bytes;
  enqueue(queue_of(stream), [=, this]() -> std::string {
    if (auto wrong = check_range(from, bytes, "copy to host"); !wrong.empty()) return wrong;
    if (auto wrong = check_pinned(pinned, bytes, "copy to host"); !wrong.empty()) return wrong;
    std::memcpy(pinned, from, bytes);
    return {};
  });
}

void EmulatedDevice::copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream) {
  enqueue(queue_of(stream), [=, this]() -> std::string {
    if (auto wrong = check_range(from, bytes, "copy on device"); !wrong.empty()) return wrong;
    if (auto wrong = check_range(to, bytes, "copy on device"); !wrong.empty()) return wrong;
    std::memmove(to, from, bytes);
    return {};
  });
}

void EmulatedDevice::fill(void* to, unsigned char value, std::size_t bytes, Stream stream) {
  enqueue(queue_of(stream), [=, this]() -> std::string {
    if (auto wrong = check_range(to, bytes, "fill"); !wrong.empty() && !check_pinned(to, bytes, "fill").empty()) return wrong;
    std::memset(to, value, bytes);
    return {};
  });
}

Result<> EmulatedDevice::synchronise(Stream stream) {
  Queue& queue = queue_of(stream);
  return run_until(queue, queue.end());
}

Result<std::unique_ptr<backend::cuda::Event>> EmulatedDevice::make_event() { return std::make_unique<EmulatedEvent>(); }

void EmulatedDevice::record(backend::cuda::Event& event, Stream stream) {
  auto& e = static_cast<EmulatedEvent&>(event);
  e.queue = &queue_of(stream);
  e.at = e.queue->end();
  if (e.queue->capturing && failure_.empty()) failure_ = "an event in a stream that is being captured";
}

Result<> EmulatedDevice::wait(const backend::cuda::Event& event) {
  const auto& e = static_cast<const EmulatedEvent&>(event);
  return run_until(*e.queue, e.at);
}

Result<> EmulatedDevice::run_until(Queue& queue, std::uint64_t end) {
  ++counts_.synchronisations;
  if (queue.capturing && failure_.empty()) failure_ = "synchronisation of a stream that is being captured";
  while (queue.begun < end && failure_.empty()) {
    const auto next = std::move(queue.work.front());
    queue.work.pop_front();
    ++queue.begun;
    failure_ = (*next)();
  }
  if (failure_.empty()) return {};
  queue.begun = queue.end();
  queue.work.clear();
  return error(Errc::engine_failed, fmt::format("the device {} failed: {}", info_.name, failure_));
}

void EmulatedDevice::begin_capture(Stream stream) {
  Queue& queue = queue_of(stream);
  ++counts_.captures;
  queue.capturing = true;
  queue.captured.clear();
}

Result<std::unique_ptr<Graph>> EmulatedDevice::end_capture(Stream stream) {
  Queue& queue = queue_of(stream);
  queue.capturing = false;
  auto graph = std::make_unique<EmulatedGraph>();
  graph->work = std::move(queue.captured);
  queue.captured.clear();
  return std::unique_ptr<Graph>(std::move(graph));
}

void EmulatedDevice::launch(const Graph& graph, Stream stream) {
  ++counts_.graph_launches;
  auto& queue = queue_of(stream);
  for (const auto& work : static_cast<const EmulatedGraph&>(graph).work) queue.work.push_back(work);
}

}  // namespace tokenworks::emulator
