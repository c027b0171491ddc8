// Which tables this machine can run, asked of the processor once.
#include <cstdint>
#include <cstring>
#include <string>

#include "kernels/ops.hpp"
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tokenworks::kernels {

extern const CpuOps kPortableOps;
#if defined(__x86_64__)
extern const CpuOps kAvx2Ops;
extern const CpuOps kAvx512Ops;
#endif

const char* name(CpuPath path) {
  switch (path) {
    case CpuPath::portable: return "portable";
    case CpuPath::avx2: return "avx2";
    case CpuPath::avx512: return "avx512";
  }
  return "unknown";
}

bool machine_has(CpuPath path) {
  if (path == CpuPath::portable) return true;
#if defined(__x86_64__)
  // GCC's builtins also ask XGETBV whether the operating system saves the wide registers.
  static const bool avx2 = [] {
    __builtin_cpu_init();
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }();
  static const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                             __builtin_cpu_supports("avx512vnni");
  return path == CpuPath::avx2 ? avx2 : avx512;
#else
  return false;
#endif
}

CpuPath best_path() {
  return machine_has(CpuPath::avx512) ? CpuPath::avx512
         : machine_has(CpuPath::avx2) ? CpuPath::avx2
                                      : CpuPath::portable;
}

const CpuOps& ops(CpuPath path) {
#if defined(__x86_64__)
  if (path == CpuPath::avx512) return kAvx512Ops;
  if (path == CpuPath::avx2) return kAvx2Ops;
#endif
  (void)path;
  return kPortableOps;
}

std::string processor_name() {
#if defined(__x86_64__)
  unsigned words[12] = {};
  if (__get_cpuid_max(0x80000000u, nullptr) >= 0x80000004u) {
    for (unsigned i = 0; i < 3; ++i)
      __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
    char text[sizeof words + 1] = {};
    std::memcpy(text, words, sizeof words);
    std::string name = text;
    name.erase(0, name.find_first_not_of(' '));
    name.erase(name.find_last_not_of(' ') + 1);
    if (!name.empty()) return name;
  }
#endif
  return "unknown processor";
}

}  // namespace tokenworks::kernels
