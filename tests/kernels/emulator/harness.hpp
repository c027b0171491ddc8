#pragma once
// What the kernel tests share: device arrays with values in and out, and a run that says why it failed.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#if defined(TW_ON_DEVICE)                              // tests/gpu: the same tests on a card
#include "gpu/on_device.hpp"
#else
#include "execute.hpp"
#include "runtime.hpp"
#endif

namespace tokenworks::emulator {

template <class T>
class DeviceArray {
 public:
  DeviceArray(EmulatedDevice& device, std::size_t n, const char* what = "array")
      : device_(device), n_(n), data_(static_cast<T*>(device.allocate(n * sizeof(T), what).value())) {}
  DeviceArray(EmulatedDevice& device, const std::vector<T>& values, const char* what = "array")
      : DeviceArray(device, values.size(), what) {
    if (n_ > 0) std::memcpy(data_, values.data(), n_ * sizeof(T));       // nothing has been launched on it yet
  }
  ~DeviceArray() { device_.free(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* get() const { return data_; }
  operator T*() const { return data_; }
  std::size_t size() const { return n_; }
  std::vector<T> values() const { return {data_, data_ + n_}; }          // after run_all

 private:
  EmulatedDevice& device_;
  std::size_t n_;
  T* data_;
};

// Runs what is queued; the fault's text, or empty.
inline std::string run_all(EmulatedDevice& device) {
  const auto done = device.synchronise(device.stream());
  return done ? "" : done.error().message;
}

// While it lives one planted bug is in the kernels, and the order of threads has this seed.
class Planted {
 public:
  explicit Planted(int bug, std::uint64_t seed = 1) { options() = {.seed = seed, .planted = bug}; }
  ~Planted() { options() = {}; }
};

}  // namespace tokenworks::emulator
