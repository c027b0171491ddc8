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

  void book(ledger::EntryType type, const RequestId& request) {
    ledger::Record r;
    r.type = type;
    r.unix_ns = kNoon;
    r.request = request;
    r.organization.value = "acme";
    r.currency = "USD";
    r.amount = Money{type == ledger::EntryType::settle ? 7 : 10};
    if (type == ledger::EntryType::settle) {
      r.usage = Usage{10, 0, 5, 0};
      r.lines = {{"output", Money{7}}};
    }
    ASSERT_TRUE(ledger_->append(std::move(r)));
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
  const RequestId running = RequestId::make_now();
  ASSERT_TRUE(book_->begin(OrganizationId{"acme"}, "cut", sha256(std::string_view("body")), running));
  book(ledger::EntryType::hold, running);
  book(ledger::EntryType::settle, running);
  ASSERT_TRUE(begin("begun", "body"));                 // and no hold was taken: nothing can have been charged
  const RequestId released = RequestId::make_now();
  ASSERT_TRUE(book_->begin(OrganizationId{"acme"}, "released", sha256(std::string_view("body")), released));
  book(ledger::EntryType::hold, released);
  book(ledger::EntryType::release, released);
  open();
  EXPECT_EQ((*begin("done", "body"))->body, "the answer");
  const auto cut = begin("cut", "body");               // it was charged: never run and charged again
  ASSERT_TRUE(cut);
  ASSERT_TRUE(cut->has_value());
  EXPECT_EQ((*cut)->status, 0);
  EXPECT_EQ((*cut)->usage.output, 5);
  EXPECT_EQ((*cut)->cost, Money{7});
  for (const char* free : {"begun", "released"}) {
    const auto again = begin(free, "body");
    ASSERT_TRUE(again);
    EXPECT_FALSE(again->has_value()) << free << ": nothing was charged, so it may run again";
  }
}

TEST_F(IdempotencyTest, ARefusalIsForgottenAlsoByARestart) {
  ASSERT_TRUE(begin("refused", "body"));
  book_->forget(OrganizationId{"acme"}, "refused");
  EXPECT_FALSE(begin("refused", "another body")->has_value());
  book_->forget(OrganizationId{"acme"}, "refused");
  open();
  EXPECT_FALSE(begin("refused", "a third body")->has_value());
}

TEST_F(IdempotencyTest, AnErrorThatWasChargedIsRepeatedAsItWas) {
  ASSERT_TRUE(begin("late", "body"));
  book_->finish(OrganizationId{"acme"}, "late", 504, "the error", Usage{10, 0, 3, 0}, Money{4}, true);
  for (int i = 0; i < 2; ++i) {
    const auto replay = begin("late", "body");
    ASSERT_TRUE(replay && replay->has_value());
    EXPECT_EQ((*replay)->status, 504);
    EXPECT_EQ((*replay)->body, "the error");
    EXPECT_EQ((*replay)->cost, Money{4});
    open();
  }
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
