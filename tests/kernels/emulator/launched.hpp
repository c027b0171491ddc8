#pragma once
// Which kernels this program has launched, and the most shared memory any launch gave each: a kernel's shared memory is all
// given at its launch, so ptxas does not know it. launched_test.cpp writes it down for the table of tests/support/cuda_resources.py.
#include <cstddef>
#include <map>
#include <mutex>

namespace tokenworks::emulator {

struct Launched {
  std::mutex mutex;
  std::map<const void*, std::size_t> shared_bytes;   // by the address of the kernel
};
Launched& launched();

}  // namespace tokenworks::emulator
