#include "backend/cuda/driver.hpp"

#include <dlfcn.h>

#include <memory>

namespace tokenworks::backend::cuda {
namespace {

// Of the driver's interface (cuda.h): functions, and the attributes asked for.
constexpr int kMultiprocessors = 16, kMajor = 75, kMinor = 76;

struct Functions {
  int (*init)(unsigned) = nullptr;
  int (*version)(int*) = nullptr;
  int (*count)(int*) = nullptr;
  int (*get)(int*, int) = nullptr;
  int (*name)(char*, int, int) = nullptr;
  int (*memory)(std::size_t*, int) = nullptr;
  int (*attribute)(int*, int, int) = nullptr;
  int (*peer)(int*, int, int) = nullptr;
  int (*words)(int, const char**) = nullptr;
};

template <class F>
bool find(void* library, const char* symbol, F& function) {
  function = reinterpret_cast<F>(dlsym(library, symbol));
  return function != nullptr;
}

std::string words_of(const Functions& f, int code) {
  const char* text = nullptr;
  if (f.words(code, &text) == 0 && text != nullptr) return text;
  return "error " + std::to_string(code);
}

}  // namespace

Driver probe_driver() {
  Driver d;
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);   // stays: the runtime wants it next, and it unloads badly
  if (library == nullptr) {
    d.problem = "no NVIDIA driver is installed (libcuda.so.1 was not found)";
    return d;
  }
  Functions f;
  void* const l = library;
  if (!find(l, "cuInit", f.init) || !find(l, "cuDriverGetVersion", f.version) || !find(l, "cuDeviceGetCount", f.count) ||
      !find(l, "cuDeviceGet", f.get) || !find(l, "cuDeviceGetName", f.name) || !find(l, "cuDeviceTotalMem_v2", f.memory) ||
      !find(l, "cuDeviceGetAttribute", f.attribute) || !find(l, "cuDeviceCanAccessPeer", f.peer) ||
      !find(l, "cuGetErrorString", f.words)) {
    d.problem = "libcuda.so.1 lacks functions of the driver interface";
    return d;
  }
  if (const int code = f.init(0); code != 0) {
    d.problem = "the NVIDIA driver does not start: " + words_of(f, code);
    return d;
  }
  (void)f.version(&d.version);
  int count = 0;
  if (const int code = f.count(&count); code != 0) {
    d.problem = "the NVIDIA driver lists no devices: " + words_of(f, code);
    return d;
  }
  if (count == 0) d.problem = "the NVIDIA driver is here, but no device";
  for (int i = 0; i < count; ++i) {
    DriverDevice device;
    int handle = 0;
    char name[256] = {};
    if (f.get(&handle, i) != 0) continue;
    (void)f.name(name, sizeof name - 1, handle);
    device.name = name;
    (void)f.memory(&device.memory_bytes, handle);
    (void)f.attribute(&device.major, kMajor, handle);
    (void)f.attribute(&device.minor, kMinor, handle);
    (void)f.attribute(&device.multiprocessors, kMultiprocessors, handle);
    for (int j = 0; j < count; ++j) {
      int other = 0, can = 0;
      if (j != i && f.get(&other, j) == 0 && f.peer(&can, handle, other) == 0 && can != 0) device.peers.push_back(j);
    }
    d.devices.push_back(std::move(device));
  }
  return d;
}

}  // namespace tokenworks::backend::cuda
