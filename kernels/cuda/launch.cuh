#pragma once
// How every kernel is started and where it gets its shared memory, on a device and in the emulator. Kernels live in
// namespace tokenworks::kernels::cuda::TW_TARGET, so that both builds can be in one program.
#include <cstddef>
#include <type_traits>

#include "kernels/cuda/ops.hpp"

#if defined(TW_EMULATE)
#include <functional>
#include <tuple>

#include "tests/kernels/emulator/kernel.hpp"
#define TW_TARGET emulated
#define TW_PLANT(bug) (::tokenworks::emulator::planted(bug))   // true in the test that plants this bug
#define TW_HD
#else
#include <cuda_runtime.h>
#define TW_TARGET native
#define TW_PLANT(bug) false
#define TW_HD __host__ __device__
#endif

namespace tokenworks::emulator {
struct Grid;
void enqueue_kernel(void* stream, const unsigned (&blocks)[3], const unsigned (&threads)[3], std::size_t shared_bytes,
                    const char* name, void (*run)(const void*), const void* arguments, std::size_t bytes);
}  // namespace tokenworks::emulator

namespace tokenworks::kernels::cuda::TW_TARGET {

struct Blocks {
  unsigned x = 1, y = 1, z = 1;
};

struct Launch {
  Blocks blocks;
  unsigned threads = 0;
  std::size_t shared_bytes = 0;
  Stream stream = nullptr;
  const char* name = "";

  Launch(Stream s, Blocks b, unsigned t, std::size_t shared = 0, const char* caller = __builtin_FUNCTION())
      : blocks(b), threads(t), shared_bytes(shared), stream(s), name(caller) {}
};

#if defined(TW_EMULATE)

// A kernel takes exactly one argument, by value, of a type that is plain data.
template <class Args>
struct Call {
  void (*kernel)(Args);
  Args args;
};
template <class Args>
__attribute__((no_sanitize("thread"))) void run_call(const void* call) {   // reads host memory: the arguments
  const auto& c = *static_cast<const Call<Args>*>(call);
  c.kernel(c.args);
}
template <class Args>
void launch(const Launch& how, void (*kernel)(Args), const Args& args) {
  const Call<Args> call{kernel, args};
  const unsigned blocks[3] = {how.blocks.x, how.blocks.y, how.blocks.z}, threads[3] = {how.threads, 1, 1};
  ::tokenworks::emulator::enqueue_kernel(how.stream, blocks, threads, how.shared_bytes, how.name, run_call<Args>, &call,
                                         sizeof call);
}

// The block's shared memory, as the kernel's own struct (plus what the launch gave beyond it).
template <class T>
inline T& shared() {
  return *static_cast<T*>(::tokenworks::emulator::shared_memory(sizeof(T)));
}

#else

template <class Args>
void launch(const Launch& how, void (*kernel)(Args), const Args& args) {
  if (how.shared_bytes > 48 * 1024)
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(how.shared_bytes));
  kernel<<<dim3(how.blocks.x, how.blocks.y, how.blocks.z), how.threads, how.shared_bytes,
           static_cast<cudaStream_t>(how.stream)>>>(args);
}

template <class T>
__device__ __forceinline__ T& shared() {
  extern __shared__ __align__(1024) unsigned char tw_shared[];
  return *reinterpret_cast<T*>(tw_shared);
}

#endif

static inline unsigned divide_up(std::int64_t a, std::int64_t b) { return static_cast<unsigned>((a + b - 1) / b); }

}  // namespace tokenworks::kernels::cuda::TW_TARGET
