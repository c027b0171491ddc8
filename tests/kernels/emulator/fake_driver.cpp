// A libcuda.so.1 for tests: two cards of the H200's kind that reach each other, of which a driver can tell everything and the
// CUDA runtime gets nothing: what a plant is to say of cards that are there and cannot be had.
#include <cstddef>
#include <cstdio>

namespace {
constexpr int kNoSuchDevice = 101;
}

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* v) { return *v = 13000, 0; }
int cuDeviceGetCount(int* n) { return *n = 2, 0; }
int cuDeviceGet(int* device, int i) { return *device = i, i < 2 ? 0 : kNoSuchDevice; }
int cuDeviceGetName(char* to, int room, int) { return std::snprintf(to, static_cast<std::size_t>(room), "NVIDIA H200"), 0; }
int cuDeviceTotalMem_v2(std::size_t* bytes, int) { return *bytes = std::size_t{143771} << 20, 0; }
int cuDeviceGetAttribute(int* value, int which, int) {
  return *value = which == 16 ? 132 : which == 75 ? 9 : 0, 0;        // multiprocessors; compute capability 9.0
}
int cuDeviceCanAccessPeer(int* can, int, int) { return *can = 1, 0; }
int cuGetErrorString(int, const char** text) { return *text = "an error of the fake driver", 0; }
}
