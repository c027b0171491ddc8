#include "backend/cuda/native/native_device.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tokenworks/base/log.hpp"
#if defined(TOKENWORKS_WITH_CUBLAS_LT)
#include "backend/cuda/native/cublas_lt.hpp"
#endif

namespace tokenworks::backend::cuda {
namespace {

struct NativeGraph final : Graph {
  cudaGraphExec_t exec = nullptr;
  ~NativeGraph() override {
    if (exec != nullptr) (void)cudaGraphExecDestroy(exec);
  }
};

// The driver's CUDA version, and its own where the system tells it.
std::string driver_version() {
  int cuda = 0;
  (void)cudaDriverGetVersion(&cuda);
  std::string own;
  std::ifstream("/sys/module/nvidia/version") >> own;
  return std::to_string(cuda) + (own.empty() ? "" : "/" + own);
}

struct NativeEvent final : Event {
  cudaEvent_t event = nullptr;
  ~NativeEvent() override {
    if (event != nullptr) (void)cudaEventDestroy(event);
  }
};

class NativeDevice final : public Device {
 public:
  Result<> open(int ordinal) {
    ordinal_ = ordinal;
    info_.name = fmt::format("number {}", ordinal);  // until it has said its own
    if (!done(cudaSetDevice(ordinal), "choosing the device")) return *failure();
    use();
    cudaDeviceProp p{};
    if (!done(cudaGetDeviceProperties(&p, ordinal), "asking for its properties")) return *failure();
    info_.name = p.name;
    info_.architecture = fmt::format("sm_{}{}", p.major, p.minor);
    info_.multiprocessors = p.multiProcessorCount;
    info_.memory_bytes = p.totalGlobalMem;
    info_.shared_bytes = p.sharedMemPerBlockOptin;
    info_.ordinal = ordinal;
    info_.driver = driver_version();
    info_.bus = fmt::format("{:04x}:{:02x}:{:02x}", p.pciDomainID, p.pciBusID, p.pciDeviceID);
    if (!done(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream")) return *failure();
    open_library();
    return {};
  }
  ~NativeDevice() override {
    use();
    library_.reset();
    for (void* at : freed_) (void)cudaFree(at);
    for (void* at : freed_pinned_)
      if (std::byte* const p = static_cast<std::byte*>(at); p < pinned_later_ || p >= pinned_later_ + kPinnedLater) (void)cudaFreeHost(at);
    if (pinned_later_ != nullptr) (void)cudaFreeHost(pinned_later_);
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }

  const DeviceInfo& info() const override { return info_; }
  const kernels::cuda::CudaOps& ops() const override {   // for one launch
    use();
    ++counts_.launches;
    return *kernels::cuda::device_ops();
  }

  Result<void*> allocate(std::size_t bytes, const char* what) override {
    use();
    ++counts_.allocations;
    void* at = nullptr;
    const cudaError_t code = met_ ? cudaMallocAsync(&at, bytes, stream_) : cudaMalloc(&at, bytes);
    if (code == cudaSuccess) return at;
    (void)cudaGetLastError();                        // running out of memory is not sticky
    return error(Errc::internal, fmt::format("{}: {} bytes asked for, {} of {} free on {}: {}", what, bytes, free_bytes(),
                                             info_.memory_bytes, info_.name, cudaGetErrorString(code)));
  }
  void free(void* at) override {
    if (met_) return freed_.push_back(at);
    use();
    ++counts_.frees;
    (void)cudaFree(at);
  }
  // Seen by others: cudaFree and cudaFreeHost beside collectives hang (NCCL issues 48 and 744, PyTorch's cuda_free_mutex).
  void ranks_meet() override {
    use();
    if (std::exchange(met_, true)) return;
    void* at = nullptr;
    if (cudaMallocHost(&at, kPinnedLater) == cudaSuccess) pinned_later_ = static_cast<std::byte*>(at);
    (void)cudaGetLastError();
  }
  Result<void*> allocate_pinned(std::size_t bytes) override {
    use();
    ++counts_.allocations;
    const std::size_t room = (bytes + 255) / 256 * 256;
    if (pinned_later_ != nullptr && room <= kPinnedLater - pinned_used_)
      return static_cast<void*>(pinned_later_ + std::exchange(pinned_used_, pinned_used_ + room));
    void* at = nullptr;
    const cudaError_t code = cudaMallocHost(&at, bytes);
    if (code == cudaSuccess) return at;
    (void)cudaGetLastError();
    return error(Errc::internal, fmt::format("{} bytes of pinned host memory: {}", bytes, cudaGetErrorString(code)));
  }
  void free_pinned(void* at) override {
    if (met_) return freed_pinned_.push_back(at);
    (void)cudaFreeHost(at);
  }
  std::size_t free_bytes() const override {
    use();
    std::size_t free = 0, total = 0;
    (void)cudaMemGetInfo(&free, &total);
    return free;
  }

  Stream stream() override { return stream_; }
  void copy_to_device(void* to, const void* pinned, std::size_t bytes, Stream stream) override {
    use();
    ++counts_.copies_to_device;
    counts_.bytes_to_device += bytes;
    done(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, native(stream)), "a copy to the device");
  }
  void copy_to_host(void* pinned, const void* from, std::size_t bytes, Stream stream) override {
    use();
    ++counts_.copies_to_host;
    counts_.bytes_to_host += bytes;
    done(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, native(stream)), "a copy to the host");
  }
  void copy_on_device(void* to, const void* from, std::size_t bytes, Stream stream) override {
    use();
    done(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(stream)), "a copy on the device");
  }
  void fill(void* to, unsigned char value, std::size_t bytes, Stream stream) override {
    use();
    done(cudaMemsetAsync(to, value, bytes, native(stream)), "a fill");
  }
  Result<> synchronise(Stream stream) override {
    use();
    ++counts_.synchronisations;
    done(cudaGetLastError(), "a launch");
    done(cudaStreamSynchronize(native(stream)), "a step");
    if (failed_.empty()) return {};
    return *failure();
  }

  Result<std::unique_ptr<Event>> make_event() override {
    use();
    auto made = std::make_unique<NativeEvent>();
    if (!done(cudaEventCreateWithFlags(&made->event, cudaEventDisableTiming), "making an event")) return *failure();
    return std::unique_ptr<Event>(std::move(made));
  }
  void record(Event& event, Stream stream) override {
    use();
    done(cudaEventRecord(static_cast<NativeEvent&>(event).event, native(stream)), "marking the end of a step");
  }
  Result<> wait(const Event& event) override {
    use();
    ++counts_.synchronisations;
    done(cudaGetLastError(), "a launch");
    done(cudaEventSynchronize(static_cast<const NativeEvent&>(event).event), "a step");
    if (failed_.empty()) return {};
    return *failure();
  }

  void begin_capture(Stream stream) override {
    use();
    ++counts_.captures;
    done(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeThreadLocal), "beginning a graph");
  }
  Result<std::unique_ptr<Graph>> end_capture(Stream stream) override {
    use();
    cudaGraph_t recorded = nullptr;
    if (!done(cudaStreamEndCapture(native(stream), &recorded), "ending a graph")) return *failure();
    auto graph = std::make_unique<NativeGraph>();
    const bool made = done(cudaGraphInstantiate(&graph->exec, recorded, 0), "instantiating a graph");
    (void)cudaGraphDestroy(recorded);
    if (!made) return *failure();
    return std::unique_ptr<Graph>(std::move(graph));
  }
  void launch(const Graph& graph, Stream stream) override {
    use();
    ++counts_.graph_launches;
    done(cudaGraphLaunch(static_cast<const NativeGraph&>(graph).exec, native(stream)), "launching a graph");
  }
  MatrixLibrary* products() override { return library_.get(); }
  const kernels::cuda::PeerOps& peer_ops() const override {
    use();
    return *kernels::cuda::device_peer_ops();
  }
  bool reach(Device& other) override {
    if (other.info().ordinal == ordinal_) return true;
    use();
    int can = 0;
    if (cudaDeviceCanAccessPeer(&can, ordinal_, other.info().ordinal) != cudaSuccess || can == 0) return false;
    const cudaError_t code = cudaDeviceEnablePeerAccess(other.info().ordinal, 0);
    (void)cudaGetLastError();                        // being enabled already is no failure
    return code == cudaSuccess || code == cudaErrorPeerAccessAlreadyEnabled;
  }
  DeviceCounts counts() const override { return counts_; }

 private:
  void open_library() {
#if defined(TOKENWORKS_WITH_CUBLAS_LT)
    auto found = open_cublas_lt();
    if (found) library_ = std::move(*found);
    else log::warn("no_cublaslt", {{"why", found.error().message}, {"instead", "the own kernels multiply all matrices"}});
#endif
  }
  // The runtime's notion of the current device is a thread's: a rank's thread is not the one that opened the device.
  void use() const {
    static thread_local int current = -1;
    if (current == ordinal_) return;
    (void)cudaSetDevice(ordinal_);
    current = ordinal_;
  }
  static cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream); }
  // Keeps the first error: a device that failed stays failed.
  bool done(cudaError_t code, const char* what) {
    if (code == cudaSuccess) return true;
    if (failed_.empty()) failed_ = fmt::format("{}: {} ({})", what, cudaGetErrorString(code), cudaGetErrorName(code));
    return false;
  }
  std::unique_ptr<Error> failure() const {
    return std::make_unique<Error>(error(Errc::engine_failed, fmt::format("the device {} failed: {}", info_.name, failed_)));
  }

  DeviceInfo info_;
  int ordinal_ = 0;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<MatrixLibrary> library_;
  std::string failed_;
  static constexpr std::size_t kPinnedLater = std::size_t{64} << 20;
  bool met_ = false;
  std::byte* pinned_later_ = nullptr;                // had before anybody waits, handed out afterwards
  std::size_t pinned_used_ = 0;
  std::vector<void*> freed_, freed_pinned_;          // since then
  mutable DeviceCounts counts_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_native_device(int ordinal) {
  auto device = std::make_unique<NativeDevice>();
  if (auto opened = device->open(ordinal); !opened) return opened.error();
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace tokenworks::backend::cuda
