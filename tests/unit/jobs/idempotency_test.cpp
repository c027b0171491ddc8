#include "tokenworks/jobs/idempotency.hpp"

#include <gtest/gtest.h>

#include "support/paths.hpp"

namespace tokenworks::jobs {
namespace {

constexpr std::int64_t kNoon = 1'780'000'000'000'000'000;

class IdempotencyTest : public ::testing::Test {
 protected:
  void SetUp() override { open(); }
  void open() {
    book_.reset();
    ledger_.reset();
    ledger::LedgerOptions options;
    options.path = dir_.path() + "/ledger.sqlite";
    auto ledger = ledger::Ledger::open(options, clock_);
    ASSERT_TRUE(ledger) << ledger.error().message;
    ledger_ = std::move(*ledger);
    auto book = Idempotency::open(*ledger_, clock_);
    ASSERT_TRUE(book) << book.error().message;
    book_ = std::move(*book);
  }
  auto begin(const std::string& key, const std::string& body, const std::string& organization = "acme") {
    return book_->begin(OrganizationId{organization}, key, sha256(body), RequestId::make_now());
  }
  void finish(const std::string& key, std::string answer, bool keep = true) {
    book_->finish(OrganizationId{"acme"}, key, 200, std::move(answer), Usage{10, 0, 5, 0}, Money{7}, keep);
  }

  test::ScratchDir dir_;
  ManualClock clock_{kNoon};
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<Idempotency> book_;
};

TEST_F(IdempotencyTest, ARepeatWhileRunningIsRefusedAndAfterwardsReplayed) {
  const auto first = begin("k", "body");
  ASSERT_TRUE(first);
  EXPECT_FALSE(first->has_value());
  const auto twin = begin("k", "body");
  ASSERT_FALSE(twin);
  EXPECT_EQ(twin.error().code, Errc::idempotency_in_progress);
  finish("k", "the answer");
  const auto replay = begin("k", "body");
  ASSERT_TRUE(replay);
  ASSERT_TRUE(replay->has_value());
  EXPECT_EQ((*replay)->body, "the answer");
  EXPECT_EQ((*replay)->usage.output, 5);
}

TEST_F(IdempotencyTest, AnotherBodyIsAMismatchAndAnotherOrganizationIsAnotherKey) {
  ASSERT_TRUE(begin("k", "body"));
  EXPECT_EQ(begin("k", "other").error().code, Errc::idempotency_mismatch);
  EXPECT_FALSE(begin("k", "other", "beta")->has_value());
  EXPECT_EQ(begin("", "body").error().code, Errc::invalid_request);
  EXPECT_EQ(begin(std::string(256, 'x'), "body").error().code, Errc::invalid_request);
}

TEST_F(IdempotencyTest, ARestartRemembersAlsoWhatWasRunning) {
  ASSERT_TRUE(begin("done", "body"));
  finish("done", "the answer");
  ASSERT_TRUE(begin("cut", "body"));
  open();
  EXPECT_EQ((*begin("done", "body"))->body, "the answer");
  const auto cut = begin("cut", "body");               // recovery settled it: never run and charged again
  ASSERT_TRUE(cut);
  ASSERT_TRUE(cut->has_value());
  EXPECT_EQ((*cut)->body, "");
}

TEST_F(IdempotencyTest, LargeAnswersAndUnretainedOnesAreKeptAsUsageOnly) {
  ASSERT_TRUE(begin("large", "body"));
  finish("large", std::string(Idempotency::kBodyBytesMax + 1, 'x'));
  EXPECT_EQ((*begin("large", "body"))->body, "");
  EXPECT_EQ((*begin("large", "body"))->usage.input, 10);
  ASSERT_TRUE(begin("private", "body"));
  finish("private", "the answer", false);
  EXPECT_EQ((*begin("private", "body"))->body, "");
}

TEST_F(IdempotencyTest, AForgottenKeyIsFreeAndADayEndsEveryKey) {
  ASSERT_TRUE(begin("k", "body"));
  book_->forget(OrganizationId{"acme"}, "k");
  EXPECT_FALSE(begin("k", "body")->has_value());
  finish("k", "the answer");
  clock_.advance_ns(Idempotency::kKeptNs + 1);
  EXPECT_FALSE(begin("k", "body")->has_value());
}

}  // namespace
}  // namespace tokenworks::jobs
