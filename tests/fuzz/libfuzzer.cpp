// libFuzzer's entry points: one program for all targets; TOKENWORKS_TEST_FUZZ_TARGET names the one to run (tests/fuzz/run).
#include <cstdint>
#include <cstring>

#include "fuzz/targets.hpp"

namespace {
const tokenworks::fuzz::Target* chosen = nullptr;
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const char* name = std::getenv("TOKENWORKS_TEST_FUZZ_TARGET");
  for (const auto& target : tokenworks::fuzz::kTargets) {
    if (name != nullptr && std::strcmp(name, target.name) == 0) chosen = &target;
  }
  if (chosen == nullptr) {
    std::fprintf(stderr, "TOKENWORKS_TEST_FUZZ_TARGET must name a target:");
    for (const auto& target : tokenworks::fuzz::kTargets) std::fprintf(stderr, " %s", target.name);
    std::fprintf(stderr, "\n");
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > chosen->bytes_max) return -1;
  chosen->run({reinterpret_cast<const char*>(data), size});
  return 0;
}
