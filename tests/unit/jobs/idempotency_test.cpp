#include "tokenworks/jobs/idempotency.hpp"

#include <gtest/gtest.h>

#include "support/paths.hpp"

namespace tokenworks::jobs {
namespace {

constexpr std::int64_t kNoon = 1'780'000'000'000'000'000;

class IdempotencyTest : public ::testing::Test {
 protected:
  void SetUp() override { open(); }
  void open(IdempotencyBounds bounds = {}) {
    book_.reset();
    ledger_.reset();
    ledger::LedgerOptions options;
    options.path = dir_.path() + "/ledger.sqlite";
    auto ledger = ledger::Ledger::open(options, clock_);
    ASSERT_TRUE(ledger) << ledger.error().message;
    ledger_ = std::move(*ledger);
    auto book = Idempotency::open(*ledger_, clock_, bounds);
    ASSERT_TRUE(book) << book.error().message;
    book_ = std::move(*book);
  }
  auto begin(const std::string& key, const std::string& body, const std::string& organization = "acme") {
    return book_->begin(OrganizationId{organization}, key, sha256(body), RequestId::make_now());
  }
  void finish(const std::string& key, std::string answer, bool keep = true) {
    book_->finish(OrganizationId{"acme"}, key, 200, std::move(answer), Usage{10, 0, 5, 0}, Money{7}, keep);
  }

  // A request of `organization` that is answered with `bytes` bytes.
  void answered(const std::string& organization, const std::string& key, std::size_t bytes, std::int32_t status = 200) {
    ASSERT_FALSE(begin(key, "body", organization)->has_value());
    book_->finish(OrganizationId{organization}, key, status, std::string(bytes, 'x'), Usage{10, 0, 5, 0}, Money{7}, true);
  }
  // What a repeat gets: the length of the content; its usage is always there, and it never runs again.
  std::size_t repeated(const std::string& organization, const std::string& key) {
    const auto row = begin(key, "body", organization);
    EXPECT_TRUE(row && row->has_value()) << organization << "/" << key << " would be charged again";
    if (!row || !row->has_value()) return SIZE_MAX;
    EXPECT_EQ((*row)->usage.output, 5);
    EXPECT_EQ((*row)->cost, Money{7});
    return (*row)->body.size();
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

TEST_F(IdempotencyTest, BeyondAnOrganizationsBoundTheOldestAnswerIsRepeatedAsItsUsageAlone) {
  open({.bytes = 10'000, .bytes_per_organization = 250});
  for (const char* key : {"a", "b", "c"}) answered("acme", key, 100);
  answered("beta", "a", 250);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(repeated("acme", "a"), 0u);
    EXPECT_EQ(repeated("acme", "b"), 100u);
    EXPECT_EQ(repeated("acme", "c"), 100u);
    EXPECT_EQ(repeated("beta", "a"), 250u) << "what another organization keeps is its own";
    EXPECT_EQ(book_->bytes_kept(), 450);
    open({.bytes = 10'000, .bytes_per_organization = 100'000});   // what went is gone from the file as well
  }
  open({.bytes = 10'000, .bytes_per_organization = 100});   // a smaller bound holds from the start
  EXPECT_EQ(repeated("acme", "b"), 0u);
  EXPECT_EQ(repeated("acme", "c"), 100u);
  EXPECT_EQ(repeated("beta", "a"), 0u);
  answered("acme", "too large by itself", 101);
  EXPECT_EQ(repeated("acme", "too large by itself"), 0u);
}

TEST_F(IdempotencyTest, ARestartKnowsWhichAnswersAreTheOldestWhateverTheirKeysAreCalled) {
  const IdempotencyBounds bounds{.bytes = 10'000, .bytes_per_organization = 300};
  open(bounds);
  for (const char* key : {"c", "a", "b"}) {
    answered("acme", key, 100);
    clock_.advance_ns(1'000'000'000);
  }
  open(bounds);
  answered("acme", "0", 100);
  EXPECT_EQ(repeated("acme", "c"), 0u) << "the oldest";
  for (const char* key : {"a", "b", "0"}) EXPECT_EQ(repeated("acme", key), 100u) << key;
  clock_.advance_ns(Idempotency::kKeptNs - 2'500'000'000);
  EXPECT_FALSE(begin("c", "body")->has_value()) << "its day is over";
  EXPECT_EQ(repeated("acme", "b"), 100u) << "a second short of it";
}

TEST_F(IdempotencyTest, BeyondTheBoundOfAllWhoeverKeepsTheMostGivesWay) {
  open({.bytes = 1000, .bytes_per_organization = 1000});
  answered("small", "only", 100);
  for (int i = 0; i < 20; ++i) answered("large", std::to_string(i), 100);
  EXPECT_EQ(book_->bytes_kept(), 1000);
  EXPECT_EQ(repeated("small", "only"), 100u) << "the oldest of all, and nobody else may push it out";
  for (int i = 0; i < 20; ++i) EXPECT_EQ(repeated("large", std::to_string(i)), i < 11 ? 0u : 100u) << i;
  answered("large", "an error that was charged", 100, 504);
  book_->forget(OrganizationId{"large"}, "19");
  EXPECT_EQ(book_->bytes_kept(), 900);
  clock_.advance_ns(Idempotency::kKeptNs + 1);
  EXPECT_FALSE(begin("only", "body", "small")->has_value());
  EXPECT_EQ(book_->bytes_kept(), 0) << "a day ends everything";
}

TEST_F(IdempotencyTest, WithoutRoomEveryAnswerIsRepeatedAsItsUsageAlone) {
  open({.bytes = 0, .bytes_per_organization = 0});
  answered("acme", "k", 10);
  EXPECT_EQ(repeated("acme", "k"), 0u);
}

TEST_F(IdempotencyTest, AnOrganizationWithTooManyKeysIsRefusedNewOnesAndNoneIsGivenUpBeforeItsDay) {
  const auto refused = [this](const std::string& key) {
    const auto answer = begin(key, "body");
    return !answer && answer.error().code == Errc::rate_limit_exceeded && answer.error().retry_after_ms > 0;
  };
  open({.keys_per_organization = 3});
  answered("acme", "one", 10);
  clock_.advance_ns(3600 * 1'000'000'000ll);
  answered("acme", "two", 10);
  ASSERT_FALSE(begin("runs", "body")->has_value());
  EXPECT_TRUE(refused("four"));
  EXPECT_TRUE(refused("four")) << "a refusal must not take a place";
  answered("other", "four", 10);                     // its own count
  EXPECT_EQ(repeated("acme", "one"), 10u);           // the oldest as well
  book_->forget(OrganizationId{"acme"}, "runs");     // nothing ran: its place is free
  answered("acme", "four", 10);
  EXPECT_TRUE(refused("five"));
  open({.keys_per_organization = 3});                // a restart counts what it reads again
  EXPECT_TRUE(refused("five"));
  EXPECT_EQ(repeated("acme", "two"), 10u);
  clock_.advance_ns(Idempotency::kKeptNs - 3600 * 1'000'000'000ll + 1);   // a day over the first
  answered("acme", "five", 10);
  EXPECT_TRUE(refused("six"));
  open({.keys_per_organization = 1});                // a smaller bound takes none away
  for (const char* key : {"two", "four", "five"}) EXPECT_EQ(repeated("acme", key), 10u);
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
