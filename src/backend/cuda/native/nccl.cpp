#include "backend/cuda/native/nccl.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include <type_traits>
#include <utility>

#include "backend/cuda/native/find_library.hpp"

namespace tokenworks::backend::cuda {
namespace {

struct Functions {
  decltype(&ncclCommInitAll) init_all;
  decltype(&ncclCommDestroy) destroy;
  decltype(&ncclAllReduce) all_reduce;
  decltype(&ncclGetErrorString) words;

  bool find(void* library) {
    const auto get = [&](const char* name, auto& function) { return look_up(library, name, function); };
    return get("ncclCommInitAll", init_all) && get("ncclCommDestroy", destroy) && get("ncclAllReduce", all_reduce) && get("ncclGetErrorString", words);
  }
};

class NcclSums final : public DeviceSums {
 public:
  NcclSums(const Functions& f, ncclComm_t rank) : f_(f), rank_(rank) {}
  ~NcclSums() override { (void)f_.destroy(rank_); }
  bool sum(float* values, std::size_t count, Stream stream) override {
    return f_.all_reduce(values, values, count, ncclFloat32, ncclSum, rank_, static_cast<cudaStream_t>(stream)) == ncclSuccess;
  }

 private:
  Functions f_;
  ncclComm_t rank_;
};

}  // namespace

Result<std::vector<std::unique_ptr<DeviceSums>>> open_nccl(std::span<const std::int32_t> ordinals) {
  void* const library = find_library("libnccl.so.2");  // stays: it unloads badly
  if (library == nullptr) return error(Errc::engine_failed, "libnccl.so.2 was not found; TOKENWORKS_CUDA_LIBRARIES can name its folder");
  Functions f{};
  if (!f.find(library)) return error(Errc::engine_failed, "libnccl.so.2 lacks functions");
  int before = 0;                                    // the calling thread's device is none of its business
  const bool known = cudaGetDevice(&before) == cudaSuccess;
  std::vector<ncclComm_t> ranks(ordinals.size());
  const std::vector<int> devices(ordinals.begin(), ordinals.end());
  const ncclResult_t code = f.init_all(ranks.data(), static_cast<int>(devices.size()), devices.data());
  if (known) (void)cudaSetDevice(before);
  if (code != ncclSuccess)
    return error(Errc::engine_failed, fmt::format("NCCL does not start: {}", f.words(code)));
  std::vector<std::unique_ptr<DeviceSums>> all;
  for (ncclComm_t rank : ranks) all.push_back(std::make_unique<NcclSums>(f, rank));
  return all;
}

}  // namespace tokenworks::backend::cuda
