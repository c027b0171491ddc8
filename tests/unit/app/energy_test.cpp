// EnergyMeter: readings on a thread of its own reach the book, and organizations go by their plans' reservations.
#include "app/energy.hpp"

#include <gtest/gtest.h>

#include <atomic>

namespace tokenworks::app {
namespace {

class FakeCards final : public backend::Cards {
 public:
  FakeCards(std::atomic<int>& asked, std::atomic<std::uint64_t>& counter) : asked_(asked), counter_(counter) {}
  std::vector<backend::CardReading> read() override {
    ++asked_;
    return {{.device = "0", .energy_millijoules = counter_}, {.device = "1"}};
  }

 private:
  std::atomic<int>& asked_;
  std::atomic<std::uint64_t>& counter_;
};

TEST(EnergyMeter, TellsTheBookOfEveryReadingAndItsThreadReadsUnasked) {
  std::atomic<int> asked{0};
  std::atomic<std::uint64_t> counter{100};
  ManualClock clock{0};
  EnergyMeter meter(std::make_unique<FakeCards>(asked, counter), clock);
  meter.book().set_model("m", {.cards = {"0"}, .weight_bytes = 1000});
  config::Tenants tenants;
  tenants.plans = {{.name = "reserved", .reserved_tokens_per_second = 7}, {.name = "open"}};
  tenants.organizations = {{.name = "acme", .plan = "open"}, {.name = "globex", .plan = "reserved"}, {.name = "new", .plan = "reserved"}};
  meter.set_tenants(tenants, {{"acme", 0}, {"globex", 1}});
  (void)meter.read();
  counter += 5'000;
  EXPECT_EQ(meter.read().size(), 2u);
  std::uint64_t all = 0;
  for (const auto& e : meter.book().spent()) {
    all += e.millijoules;
    EXPECT_TRUE(e.millijoules == 0 || e.organization == "globex") << "at rest for its reservation";
  }
  EXPECT_EQ(all, 5'000u);
  while (asked < 3) std::this_thread::yield();       // the two above, and the thread's first
}

TEST(EnergyMeter, WithoutCardsThereIsNothingToRead) {
  ManualClock clock{0};
  EnergyMeter meter(nullptr, clock);
  EXPECT_TRUE(meter.read().empty());
  EXPECT_TRUE(meter.book().spent().empty());
}

}  // namespace
}  // namespace tokenworks::app
