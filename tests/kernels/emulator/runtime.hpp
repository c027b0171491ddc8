#pragma once
// EmulatedDevice: the CUDA runtime's half of the emulator behind backend::cuda::Device. Work is queued on its stream and runs
// at the next synchronisation, or up to an event that is waited for, so host memory that changed under an asynchronous copy is noticed as it would be on a card;
// capture records the queue, replay queues it again. A kernel's fault is sticky. Counts what tests want counted.
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "backend/cuda/device.hpp"

namespace tokenworks::emulator {

class EmulatedDevice final : public backend::cuda::Device {
 public:
  explicit EmulatedDevice(std::size_t memory_bytes = std::size_t{1} << 30);
  ~EmulatedDevice() override;

  const backend::cuda::DeviceInfo& info() const override { return info_; }
  const kernels::cuda::CudaOps& ops() const override;
  Result<void*> allocate(std::size_t bytes, const char* what) override;
  void free(void* at) override;
  void ranks_meet() override { met_ = true; }
  Result<void*> allocate_pinned(std::size_t bytes) override;
  void free_pinned(void* at) override;
  std::size_t free_bytes() const override { return info_.memory_bytes - used_; }
  backend::cuda::Stream stream() override { return &main_; }
  void copy_to_device(void* to, const void* pinned, std::size_t bytes, backend::cuda::Stream stream) override;
  void copy_to_host(void* pinned, const void* from, std::size_t bytes, backend::cuda::Stream stream) override;
  void copy_on_device(void* to, const void* from, std::size_t bytes, backend::cuda::Stream stream) override;
  void fill(void* to, unsigned char value, std::size_t bytes, backend::cuda::Stream stream) override;
  Result<> synchronise(backend::cuda::Stream stream) override;
  Result<std::unique_ptr<backend::cuda::Event>> make_event() override;
  void record(backend::cuda::Event& event, backend::cuda::Stream stream) override;
  Result<> wait(const backend::cuda::Event& event) override;
  void begin_capture(backend::cuda::Stream stream) override;
  Result<std::unique_ptr<backend::cuda::Graph>> end_capture(backend::cuda::Stream stream) override;
  void launch(const backend::cuda::Graph& graph, backend::cuda::Stream stream) override;
  backend::cuda::MatrixLibrary* products() override { return library_.get(); }
  const kernels::cuda::PeerOps& peer_ops() const override;
  bool reach(backend::cuda::Device&) override { return reaches_; }   // one memory holds all devices' allocations
  void set_driver(const std::string& driver) { info_.driver = driver; }
  void set_bus(const std::string& bus) { info_.bus = bus; }
  void set_shared_bytes(std::size_t bytes) { info_.shared_bytes = bytes; }
  void set_reaches(bool reaches) { reaches_ = reaches; }
  void set_products(std::unique_ptr<backend::cuda::MatrixLibrary> library) { library_ = std::move(library); }
  backend::cuda::DeviceCounts counts() const override { return counts_; }

  // The pinned memory that was asked for with so many bytes; null: none.
  const std::byte* pinned_of(std::size_t bytes) const {
    for (const auto& [at, size] : pinned_)
      if (size == bytes) return reinterpret_cast<const std::byte*>(at);
    return nullptr;
  }
  // What somebody else on the card leaves, from now on.
  void leave_free(std::size_t bytes) { info_.memory_bytes = used_ + bytes; }
  // How much pinned memory there is at all.
  void set_pinned_max(std::size_t bytes) { pinned_max_ = bytes; }
  // What a card that falls off the bus does: everything from now on fails with this.
  void lose(const std::string& why) { failure_ = why; }
  const std::string& failure() const { return failure_; }

  using Work = std::function<std::string()>;         // an error, or empty
  struct Queue {
    EmulatedDevice* device = nullptr;
    std::deque<std::shared_ptr<const Work>> work;
    std::uint64_t begun = 0;                         // pieces of work that left the queue
    std::uint64_t end() const { return begun + work.size(); }
    bool capturing = false;
    std::vector<std::shared_ptr<const Work>> captured;
  };
  void enqueue(Queue& queue, Work work);
  std::size_t waiting() const { return main_.work.size(); }   // enqueued on the main stream and not run yet
  void count_launch() { ++counts_.launches; }

 private:
  Result<> run_until(Queue& queue, std::uint64_t end);
  void refuse_in_capture(const char* what);
  std::string check_range(const void* at, std::size_t bytes, const char* what) const;
  std::string check_pinned(const void* at, std::size_t bytes, const char* what) const;

  std::unique_ptr<backend::cuda::MatrixLibrary> library_;
  backend::cuda::DeviceInfo info_;
  Queue main_;
  std::size_t used_ = 0, pinned_max_ = std::size_t{1} << 30;
  bool reaches_ = true, met_ = false;
  std::vector<void*> freed_;                         // since ranks met
  std::map<std::uintptr_t, std::size_t> pinned_;     // bytes by address
  std::string failure_;
  backend::cuda::DeviceCounts counts_;
};

}  // namespace tokenworks::emulator
