#pragma once
// What the NVIDIA driver of this machine says, asked through libcuda.so.1 by dlopen: the daemon starts without a driver and
// can say why it runs where it runs. No CUDA header is needed. Thread-safe; every call asks anew.
#include <cstddef>
#include <string>
#include <vector>

namespace tokenworks::backend::cuda {

struct DriverDevice {
  std::string name;
  std::size_t memory_bytes = 0;
  int major = 0, minor = 0;                          // compute capability
  int multiprocessors = 0;
  std::vector<int> peers;                            // devices whose memory it can reach
};
struct Driver {
  std::string problem;                               // empty: the driver works; else why there is none to use
  int version = 0;                                   // 13000: CUDA 13.0
  std::vector<DriverDevice> devices;
  bool usable() const { return problem.empty() && !devices.empty(); }
};
Driver probe_driver();

}  // namespace tokenworks::backend::cuda
