// Nvml through a library of the test's own: what is there is read, what is lacking stays empty, a missing library says so.
#include "backend/cuda/nvml.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "backend/cuda/cuda_backend.hpp"
#include "runtime.hpp"
#include "tokenworks/backend/cards.hpp"

namespace tokenworks::backend::cuda {
namespace {

TEST(Nvml, ReadsWhatTheCardTellsAndLeavesTheRestEmpty) {
  const auto nvml = Nvml::open(TW_FAKE_NVML);
  ASSERT_TRUE(nvml) << nvml.error().message;
  EXPECT_EQ((*nvml)->devices(), 2u);
  EXPECT_EQ((*nvml)->confidential_computing(), "on (production)");
  const auto first = (*nvml)->read(0), again = (*nvml)->read(0), second = (*nvml)->read(1);
  ASSERT_TRUE(first && again && second);
  EXPECT_EQ(first->bus, "0000:3b:00");
  EXPECT_EQ(second->bus, "0000:af:00");
  EXPECT_EQ(first->temperature_celsius, 41u);
  EXPECT_EQ(first->power_milliwatts, 350000u);
  EXPECT_EQ(*again->energy_millijoules - *first->energy_millijoules, 1000u);
  EXPECT_EQ(first->memory_used_bytes, 60u);
  EXPECT_EQ(first->memory_total_bytes, 100u);
  EXPECT_FALSE(first->ecc_errors);                   // the card has no such memory
  EXPECT_EQ(second->ecc_errors, 7u);
  EXPECT_EQ(first->throttle_reasons, 4u);
  EXPECT_FALSE(second->energy_millijoules);          // the card does not count
  EXPECT_EQ((*nvml)->read(2).error().code, Errc::invalid_request);
}

TEST(Cards, AreWhatNvmlTellsInUnitsOfTheMetrics) {
  setenv("TOKENWORKS_NVML", TW_FAKE_NVML, 1);
  const auto cards = Cards::open();
  unsetenv("TOKENWORKS_NVML");
  ASSERT_TRUE(cards);
  const auto read = cards->read();
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].device, "0");
  EXPECT_EQ(read[0].power_watts, 350.0);
  EXPECT_TRUE(read[0].energy_millijoules);
  EXPECT_FALSE(read[1].energy_millijoules);
  EXPECT_FALSE(read[1].throttle_reasons);
}

// CUDA and NVML count cards differently: they are told apart by where they are plugged in.
TEST(Cards, OfBackendsAreFoundByTheirPlace) {
  setenv("TOKENWORKS_NVML", TW_FAKE_NVML, 1);
  const auto cards = Cards::open();
  unsetenv("TOKENWORKS_NVML");
  ASSERT_TRUE(cards);
  std::vector<std::unique_ptr<Backend>> backends;
  for (const char* const bus : {"0000:af:00", "", "0000:3b:00"}) {
    auto device = std::make_unique<emulator::EmulatedDevice>();
    device->set_bus(bus);
    backends.push_back(std::make_unique<CudaBackend>(std::move(device), CudaOptions{}));
  }
  EXPECT_EQ(names_of_cards(backends, cards->read()), (std::vector<std::string>{"1", "0"}));
  EXPECT_EQ(names_of_cards({}, cards->read()), std::vector<std::string>{});
}

TEST(Nvml, AMachineWithoutADriverSaysSo) {
  const auto none = Nvml::open("libtokenworks-no-such-library.so");
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("no NVIDIA driver"), std::string::npos) << none.error().message;
}

}  // namespace
}  // namespace tokenworks::backend::cuda
