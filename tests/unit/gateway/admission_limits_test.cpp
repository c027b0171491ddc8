#include <thread>

#include "admission_fixture.hpp"

namespace tokenworks::gateway {
namespace {

constexpr std::int64_t kMilli = 1'000'000;

class AdmissionLimits : public AdmissionTest {};

TEST_F(AdmissionLimits, RequestsPerMinuteAreExactAndTheWaitIsTrueToTheMillisecond) {
  plan().requests_per_minute = 2;
  open();
  clock.advance_ns(123 * kMilli);
  EXPECT_TRUE(admit(ask(1, 1)));
  clock.advance_ns(20'456 * kMilli);
  EXPECT_TRUE(admit(ask(1, 1)));
  clock.advance_ns(kSecond);
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_EQ(last_error.code, Errc::rate_limit_exceeded);
  EXPECT_NE(last_error.message.find("requests per minute: limit 2, used 2"), std::string::npos) << last_error.message;
  ASSERT_GT(last_error.retry_after_ms, 0);
  clock.advance_ns((last_error.retry_after_ms - 1) * kMilli);
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_EQ(last_error.retry_after_ms, 1);
  clock.advance_ns(kMilli);
  EXPECT_TRUE(admit(ask(1, 1)));
}

TEST_F(AdmissionLimits, PlacesAreGivenBackWhenTheRequestIsOver) {
  plan().concurrent_requests = 2;
  open();
  auto first = admit(ask(1, 1)), second = admit(ask(1, 1));
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_EQ(last_error.code, Errc::concurrency_limit_exceeded);
  EXPECT_GT(last_error.retry_after_ms, 0);
  first.reset();
  EXPECT_TRUE(admit(ask(1, 1)));
  EXPECT_EQ(standing().running, 1);
}

TEST_F(AdmissionLimits, AProjectNarrowsAndTheOrganizationHoldsForAll) {
  plan().requests_per_minute = 3;
  acme().projects[1].requests_per_minute = 1;
  open();
  const auto search = member("acme", "search");
  EXPECT_TRUE(admit(ask(1, 1), search));
  EXPECT_FALSE(admit(ask(1, 1), search));
  EXPECT_NE(last_error.message.find("project acme/search"), std::string::npos);
  EXPECT_TRUE(admit(ask(1, 1)));
  EXPECT_TRUE(admit(ask(1, 1)));
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_NE(last_error.message.find("organization acme"), std::string::npos);
}

TEST_F(AdmissionLimits, TokenWindowsReserveTheChunkAndGetTheUnusedPartBack) {
  plan().tokens_per_minute = 1000;
  plan().reserve_output_tokens = 100;
  open();
  auto first = admit(ask(300, 100));
  ASSERT_TRUE(first);
  EXPECT_EQ(first->hold.rates().remaining_tokens, 600);
  EXPECT_EQ(first->entrance.rates().remaining_tokens, 600);
  EXPECT_EQ(first->entrance.rates().limit_tokens, 1000);
  EXPECT_EQ(first->entrance.rates().limit_requests, -1);
  EXPECT_FALSE(admit(ask(501, 100)));
  EXPECT_EQ(last_error.code, Errc::rate_limit_exceeded);
  ASSERT_TRUE(first->hold.settle(used(300, 10), "stop", {}));
  EXPECT_EQ(first->hold.rates().remaining_tokens, 690);
  EXPECT_TRUE(admit(ask(590, 100)));                 // released whole at once: nothing was generated
  EXPECT_TRUE(admit(ask(590, 100)));
}

TEST_F(AdmissionLimits, ALongAnswerTakesItsWindowInChunksAndWaitsWhenItIsFull) {
  plan().tokens_per_minute = 250;
  plan().reserve_output_tokens = 100;
  open();
  auto admitted = admit(ask(10, 1000));
  ASSERT_TRUE(admitted);
  EXPECT_TRUE(admitted->hold.chunked());
  EXPECT_EQ(admitted->hold.granted_output(), 100);
  clock.advance_ns(10 * kSecond);
  EXPECT_EQ(*admitted->hold.extend(), 200);
  EXPECT_EQ(*admitted->hold.extend(), 240) << "what is free, if it is less than a chunk";
  const auto full = admitted->hold.extend();
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Errc::rate_limit_exceeded);
  clock.advance_ns((full.error().retry_after_ms - 1) * kMilli);
  EXPECT_FALSE(admitted->hold.extend());
  clock.advance_ns(kMilli);
  EXPECT_EQ(*admitted->hold.extend(), 340) << "the first chunk and the prompt have left the window";
  ASSERT_TRUE(admitted->hold.settle(used(10, 250), "stop", {}));
  EXPECT_EQ(admitted->hold.rates().remaining_tokens, 250 - 140 - 10) << "returned from the newest chunk first";
}

TEST_F(AdmissionLimits, ALimitBelowTheChunkStillServesAndAPromptAboveTheLimitIsToldSo) {
  plan().tokens_per_minute = 50;
  open();
  auto small = admit(ask(10, 2000, 2));
  ASSERT_TRUE(small);
  EXPECT_EQ(small->hold.granted_output(), 20);
  EXPECT_FALSE(admit(ask(50, 1)));
  EXPECT_EQ(last_error.code, Errc::rate_limit_exceeded);
  EXPECT_EQ(last_error.retry_after_ms, -1);
  EXPECT_NE(last_error.message.find("never fit"), std::string::npos);
}

TEST_F(AdmissionLimits, ARefusalFurtherDownTheLineReturnsTheWindow) {
  plan().tokens_per_minute = 1000;
  budget(1);
  open();
  EXPECT_FALSE(admit(ask(500, 500)));
  EXPECT_EQ(last_error.code, Errc::insufficient_quota);
  tenants.organizations[0].budgets.clear();
  ASSERT_TRUE(admission->reload(tenants, book()));
  EXPECT_TRUE(admit(ask(500, 500)));
}

TEST_F(AdmissionLimits, AReloadThatLowersALimitCountsWhatWasTakenBefore) {
  open();
  EXPECT_TRUE(admit(ask(1, 1)));
  EXPECT_TRUE(admit(ask(1, 1)));
  plan().requests_per_minute = 2;
  ASSERT_TRUE(admission->reload(tenants, book()));
  EXPECT_FALSE(admit(ask(1, 1)));
  plan().requests_per_minute = 3;
  ASSERT_TRUE(admission->reload(tenants, book()));
  EXPECT_TRUE(admit(ask(1, 1)));
}

TEST_F(AdmissionLimits, AWallClockThatIsSetBackFreesNothing) {
  plan().requests_per_minute = 1;
  budget(10 * kInput + 20 * kOutput);
  open();
  ASSERT_TRUE(admit(ask(10, 20))->hold.settle(used(10, 20), "length", {}));
  clock.step_wall_ns(-3600 * kSecond);
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_EQ(last_error.code, Errc::rate_limit_exceeded);
  clock.advance_ns(61 * kSecond);
  EXPECT_FALSE(admit(ask(1, 1)));
  EXPECT_EQ(last_error.code, Errc::insufficient_quota);
}

TEST_F(AdmissionLimits, OnlyKeysThatMayUseModelsEnter) {
  open();
  for (const auto role : {tenancy::Role::billing, tenancy::Role::auditor, tenancy::Role::operator_, tenancy::Role::security_officer,
                          tenancy::Role::model_owner}) {
    auto who = member();
    who.role = role;
    EXPECT_FALSE(admit(ask(1, 1), who));
    EXPECT_EQ(last_error.code, Errc::insufficient_permissions);
  }
  EXPECT_FALSE(admit(ask(1, 1), member("nobody")));
  tenancy::Principal plant;
  EXPECT_FALSE(admit(ask(1, 1), plant));
  auto admin = member();
  admin.role = tenancy::Role::org_admin;
  EXPECT_TRUE(admit(ask(1, 1), admin));
}

TEST_F(AdmissionLimits, SixtyFourAtOnceOnWindowsAndPlacesForSevenGiveSeven) {
  for (const bool places : {false, true}) {
    auto mine = tenants;
    (places ? mine.plans[0].concurrent_requests : mine.plans[0].tokens_per_minute) = places ? 7 : 7 * 30;
    admission = *Admission::make(clock, ledger, {}, mine, book());
    std::atomic<int> in{0}, out{0}, arrived{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < 64; ++i) {
      clients.emplace_back([&] {
        const auto who = member();
        auto entrance = admission->enter(who);
        auto hold = entrance ? admission->admit(who, *entrance, ask(10, 20), {}) : entrance.error();
        ++(hold ? in : out);
        ++arrived;
        while (arrived.load() < 64) std::this_thread::yield();   // all at once: nobody leaves before the last has asked
        if (hold) {
          EXPECT_TRUE(hold->settle(used(10, 20), "length", {}));
        }
      });
    }
    for (auto& client : clients) client.join();
    EXPECT_EQ(in.load(), 7);
    EXPECT_EQ(out.load(), 57);
  }
}

}  // namespace
}  // namespace tokenworks::gateway
