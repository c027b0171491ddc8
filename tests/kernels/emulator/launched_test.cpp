// After a run of all tests: every kernel that was launched, by its address in the program, with the most shared memory of its
// launches, into a file beside the program. tests/support/cuda_resources.py names them and sees whether one was never launched.
#include "launched.hpp"

#include <gtest/gtest.h>
#include <link.h>

#include <filesystem>
#include <fstream>

namespace tokenworks::emulator {
namespace {

std::uintptr_t loaded_at() {
  std::uintptr_t base = 0;
  dl_iterate_phdr([](dl_phdr_info* info, std::size_t, void* out) { return *static_cast<std::uintptr_t*>(out) = info->dlpi_addr, 1; }, &base);
  return base;                                       // the first object is the program
}

class WritesLaunched final : public testing::Environment {
 public:
  void TearDown() override {
    const auto& all = *testing::UnitTest::GetInstance();
    if (all.test_to_run_count() != all.total_test_count()) return;   // some kernels had no turn
    const auto program = std::filesystem::read_symlink("/proc/self/exe");
    std::ofstream file(program.string() + ".launched");
    const std::lock_guard lock(launched().mutex);
    for (const auto& [kernel, bytes] : launched().shared_bytes)
      file << std::hex << reinterpret_cast<std::uintptr_t>(kernel) - loaded_at() << std::dec << ' ' << bytes << '\n';
  }
};

const testing::Environment* const kWrites = testing::AddGlobalTestEnvironment(new WritesLaunched);

}  // namespace
}  // namespace tokenworks::emulator
