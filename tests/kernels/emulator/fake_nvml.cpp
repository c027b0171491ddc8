// A libnvidia-ml for tests: two cards, the second without an energy counter. Every reading moves, so that differences can be
// told: card 0 has used 1000 mJ more at each question.
#include <cstddef>

namespace {
unsigned long long energy = 5000;
int cards[2] = {0, 1};
constexpr int kNotSupported = 3;
}  // namespace

extern "C" {
struct Memory {
  unsigned long long total, free, used;
};
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
const char* nvmlErrorString(int) { return "a fake error"; }
int nvmlDeviceGetCount_v2(unsigned* n) { return *n = 2, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void** handle) { return *handle = &cards[i], 0; }
struct Pci {                                         // as nvml.h has it
  char legacy[16];
  unsigned domain, bus, device, id, subsystem;
  char text[32];
};
int nvmlDeviceGetPciInfo_v3(void* handle, Pci* p) {
  *p = {"", 0, *static_cast<int*>(handle) == 0 ? 0x3bu : 0xafu, 0, 0, 0, ""};
  return 0;
}
int nvmlSystemGetConfComputeState(unsigned* state) { return state[0] = 2, state[1] = 1, state[2] = 0, 0; }
int nvmlDeviceGetTemperature(void*, int, unsigned* v) { return *v = 41, 0; }
int nvmlDeviceGetPowerUsage(void*, unsigned* v) { return *v = 350000, 0; }
int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* v) {
  if (*static_cast<int*>(handle) != 0) return kNotSupported;
  *v = energy += 1000;
  return 0;
}
int nvmlDeviceGetTotalEccErrors(void* handle, int kind, int since, unsigned long long* v) {
  if (*static_cast<int*>(handle) != 1 || kind != 1 || since != 0) return kNotSupported;   // uncorrected, since the driver was loaded
  return *v = 7, 0;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void* handle, unsigned long long* v) {
  if (*static_cast<int*>(handle) != 0) return kNotSupported;
  return *v = 4, 0;
}
int nvmlDeviceGetMemoryInfo(void*, Memory* m) { return *m = {100, 40, 60}, 0; }
}
