#pragma once
// The kernel tests of tests/kernels/emulator on a card: what they call EmulatedDevice is a card whose memory the host may touch
// as well, so that the same sources run. It is pinned host memory, which a card sees at the host's address: slow, and there
// wherever a card is, as managed memory is not. Only with TW_ON_DEVICE, built where nvcc is.
#include <memory>

#include "backend/cuda/device.hpp"

namespace tokenworks::emulator {

inline constexpr unsigned char kPoison = 0xFF;

struct Options {
  std::uint64_t seed = 1;
  int planted = 0;
};
Options& options();                                  // means nothing here

class EmulatedDevice final : public backend::cuda::Device {
 public:
  explicit EmulatedDevice(std::size_t memory_bytes = 0);
  const backend::cuda::DeviceInfo& info() const override { return inner_->info(); }
  const kernels::cuda::CudaOps& ops() const override { return inner_->ops(); }
  Result<void*> allocate(std::size_t bytes, const char* what) override;
  void free(void* at) override;
  void ranks_meet() override { inner_->ranks_meet(); }
  Result<void*> allocate_pinned(std::size_t bytes) override { return inner_->allocate_pinned(bytes); }
  void free_pinned(void* at) override { inner_->free_pinned(at); }
  std::size_t free_bytes() const override { return inner_->free_bytes(); }
  backend::cuda::Stream stream() override { return inner_->stream(); }
  void copy_to_device(void* to, const void* pinned, std::size_t n, backend::cuda::Stream s) override { inner_->copy_to_device(to, pinned, n, s); }
  void copy_to_host(void* pinned, const void* from, std::size_t n, backend::cuda::Stream s) override { inner_->copy_to_host(pinned, from, n, s); }
  void copy_on_device(void* to, const void* from, std::size_t n, backend::cuda::Stream s) override { inner_->copy_on_device(to, from, n, s); }
  void fill(void* to, unsigned char value, std::size_t n, backend::cuda::Stream s) override { inner_->fill(to, value, n, s); }
  Result<> synchronise(backend::cuda::Stream s) override;
  Result<std::unique_ptr<backend::cuda::Event>> make_event() override { return inner_->make_event(); }
  void record(backend::cuda::Event& e, backend::cuda::Stream s) override { inner_->record(e, s); }
  Result<> wait(const backend::cuda::Event& e) override { return inner_->wait(e); }
  void begin_capture(backend::cuda::Stream s) override { inner_->begin_capture(s); }
  Result<std::unique_ptr<backend::cuda::Graph>> end_capture(backend::cuda::Stream s) override { return inner_->end_capture(s); }
  void launch(const backend::cuda::Graph& g, backend::cuda::Stream s) override { inner_->launch(g, s); }
  backend::cuda::MatrixLibrary* products() override { return inner_->products(); }
  const kernels::cuda::PeerOps& peer_ops() const override { return inner_->peer_ops(); }
  bool reach(backend::cuda::Device&) override { return true; }   // one memory of one card
  backend::cuda::DeviceCounts counts() const override {
    auto all = inner_->counts();
    all.allocations += allocations_, all.frees += frees_;
    return all;
  }
  void lose(const std::string& why) { lost_ = why; }

 private:
  std::unique_ptr<backend::cuda::Device> inner_;
  std::string lost_;
  std::uint64_t allocations_ = 0, frees_ = 0;        // of what stands in for the card's own memory
};

}  // namespace tokenworks::emulator
