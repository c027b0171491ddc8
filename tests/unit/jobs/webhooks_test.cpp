// Webhooks over a real ledger, a clock that the test moves and a receiver that does what it is told: nothing is lost, nothing
// reaches a receiver that looks at ids twice, whatever fails.
#include "tokenworks/jobs/webhooks.hpp"

#include <gtest/gtest.h>

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "jobs/courier.hpp"
#include "support/paths.hpp"
#include "tokenworks/base/base64.hpp"

namespace tokenworks::jobs {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000, kNoon = 1'780'000'000 * kSecond;
const auto kNever = [] { return false; };

billing::BudgetEvent threshold(std::int64_t percent, const std::string& organization = "acme") {
  billing::BudgetEvent e;
  e.organization = organization;
  e.budget = "organization " + organization + ", 5 USD per month";
  e.percent = percent;
  e.period_start_s = 1'777'000'000;
  e.amount = Money{5'000'000'000};
  e.spent = Money{9'007'199'254'740'993};
  e.currency = "USD";
  return e;
}

config::Plant::Webhook webhook(const std::string& name, std::vector<std::string> events = {"*"}) {
  return {name, "https://" + name + ".example/hook", "a secret", std::move(events), {}};
}

class WebhooksTest : public ::testing::Test {
 protected:
  void SetUp() override { open(); }
  void open() {
    ledger_.reset();
    ledger::LedgerOptions options;
    options.path = dir_.path() + "/ledger.sqlite";
    auto made = ledger::Ledger::open(options, clock_);
    ASSERT_TRUE(made) << made.error().message;
    ledger_ = std::move(*made);
  }
  WebhookParts parts() {
    return {clock_, *ledger_, "plant one",
            [this](const Post& post, const std::function<bool()>&) -> Result<int> {
              posts_.push_back(post);
              if (answers_.empty()) return 204;
              const int status = answers_.front();
              answers_.pop_front();
              if (status == 0) return error(Errc::io, "no answer: connection refused");
              return status;
            },
            [] { return std::uint64_t{0}; }};
  }
  void tell(const gateway::EventSink::Events& events) {
    ASSERT_TRUE(ledger_->put_events(events));
    ASSERT_TRUE(ledger_->audit({kNoon, "local", "test", "", "", ""}));   // waits for a commit, hence for the events'
  }

  test::ScratchDir dir_;
  ManualClock clock_{kNoon};
  std::unique_ptr<ledger::Ledger> ledger_;
  std::vector<Post> posts_;
  std::deque<int> answers_;                          // 0: no connection; empty: 204
};

std::string header(const Post& post, const std::string& name) {
  for (const auto& [key, value] : post.headers) {
    if (key == name) return value;
  }
  return "";
}

// Computed with Python: hmac.new(secret, b"id.timestamp.body", "sha256"), as the Standard Webhooks specification says.
TEST(WebhookSignature, IsThatOfTheStandardWebhooksSpecification) {
  const std::string secret = *from_base64("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  EXPECT_EQ(webhook_signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, R"({"test": 2432232314})"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

TEST(WebhookRetry, DoublesToAnHourAndJittersWithinTheUpperHalf) {
  EXPECT_EQ(retry_delay_ns(1, 0), kSecond / 2);
  EXPECT_EQ(retry_delay_ns(1, static_cast<std::uint64_t>(kSecond / 2)), kSecond);
  EXPECT_EQ(retry_delay_ns(5, 0), 8 * kSecond);
  EXPECT_EQ(retry_delay_ns(40, 0), 1800 * kSecond);
  for (std::uint64_t r = 0; r < 100'000; r += 977) {
    for (std::int64_t attempt = 1; attempt < 20; ++attempt) {
      const std::int64_t delay = retry_delay_ns(attempt, r * 0x9e3779b97f4a7c15u);
      const std::int64_t whole = std::min(kSecond << std::min<std::int64_t>(attempt - 1, 12), 3600 * kSecond);
      ASSERT_GE(delay, whole / 2);
      ASSERT_LE(delay, whole);
    }
  }
}

TEST_F(WebhooksTest, AnEventHasOneIdWhoeverTellsItAndEachReceiverWantsItsOwnTypes) {
  auto one = Webhooks::make(parts());
  WebhookParts other = parts();
  other.id_secret = "plant two";
  auto two = Webhooks::make(std::move(other));
  // Their threads find an empty outbox: nothing is written here.
  for (auto* w : {one.get(), two.get()}) w->configure({webhook("all"), webhook("money", {"credit.expired"}), webhook("budget", {"budget.threshold"})});
  const auto first = one->budget_threshold(threshold(80), kNoon), again = one->budget_threshold(threshold(80), kNoon + kSecond);
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(first[0].receiver, "all");
  EXPECT_EQ(first[1].receiver, "budget");
  EXPECT_EQ(first[0].id, again[0].id);
  std::set<std::string> ids{first[0].id};
  EXPECT_TRUE(ids.insert(one->budget_threshold(threshold(90), kNoon)[0].id).second);
  EXPECT_TRUE(ids.insert(one->budget_threshold(threshold(80, "beta"), kNoon)[0].id).second);
  EXPECT_TRUE(ids.insert(two->budget_threshold(threshold(80), kNoon)[0].id).second) << "another plant's event is another event";
  EXPECT_NE(first[0].body.find(R"("spent":"9007199.254740993")"), std::string::npos) << first[0].body;
  EXPECT_NE(first[0].body.find(R"("id":")" + first[0].id), std::string::npos);
  billing::Balance::Lapse lapse;
  lapse.amount = Money{3};
  const auto expired = one->credit_expired("acme", "USD", lapse, RequestId::make_now(), kNoon);
  ASSERT_EQ(expired.size(), 2u);
  EXPECT_EQ(expired[1].receiver, "money");
  EXPECT_NE(expired[0].body.find(R"("amount":"0.000000003")"), std::string::npos) << expired[0].body;
  one->configure({});
  EXPECT_TRUE(one->budget_threshold(threshold(80), kNoon).empty());
}

TEST_F(WebhooksTest, WhatIsNotTakenIsTriedAgainLaterUnderTheSameIdAndThenNeverAgain) {
  const WebhookParts all = parts();
  Courier courier(all, webhook("w"));
  tell({{"evt_1", "w", "budget.threshold", "{\"a\":1}", kNoon}});
  answers_ = {500, 0, 302, 204};
  for (const std::int64_t wait_ms : {500, 1000, 2000}) {
    EXPECT_FALSE(courier.pass(kNever));
    const std::size_t sent = posts_.size();
    clock_.advance_ns(wait_ms * 1'000'000 - 1);
    EXPECT_FALSE(courier.pass(kNever));
    EXPECT_EQ(posts_.size(), sent) << "too early";
    clock_.advance_ns(1);
  }
  EXPECT_FALSE(courier.pass(kNever));
  ASSERT_EQ(posts_.size(), 4u);
  for (const Post& post : posts_) {
    EXPECT_EQ(post.body, "{\"a\":1}");
    EXPECT_EQ(header(post, "webhook-id"), "evt_1");
    EXPECT_EQ(header(post, "webhook-signature"), webhook_signature("a secret", "evt_1", std::stoll(header(post, "webhook-timestamp")), post.body));
  }
  EXPECT_EQ(header(posts_[0], "webhook-timestamp"), "1780000000");
  EXPECT_EQ(header(posts_[3], "webhook-timestamp"), "1780000003") << "each attempt is signed anew";
  tell({{"evt_1", "w", "budget.threshold", "{\"a\":1}", kNoon + 5}});   // told again
  open();                                            // and after a restart
  const WebhookParts fresh = parts();
  Courier later(fresh, webhook("w"));
  tell({{"evt_1", "w", "budget.threshold", "{\"a\":1}", kNoon + 6}});
  clock_.advance_ns(100'000 * kSecond);
  EXPECT_FALSE(later.pass(kNever));
  EXPECT_EQ(posts_.size(), 4u);
  const auto status = courier.status();
  EXPECT_EQ(status.delivered, 1);
  EXPECT_EQ(status.failed, 3);
  EXPECT_EQ(status.pending, 0);
}

TEST_F(WebhooksTest, WhileASecretIsChangedBothSignTheNewOneFirst) {
  const WebhookParts all = parts();
  config::Plant::Webhook changing = webhook("w");
  changing.secret = "the new one";
  changing.old_secret = "a secret";
  Courier courier(all, changing);
  tell({{"evt_1", "w", "budget.threshold", "{}", kNoon}});
  EXPECT_FALSE(courier.pass(kNever));
  ASSERT_EQ(posts_.size(), 1u);
  const std::int64_t at = std::stoll(header(posts_[0], "webhook-timestamp"));
  EXPECT_EQ(header(posts_[0], "webhook-signature"),
            webhook_signature("the new one", "evt_1", at, "{}") + " " + webhook_signature("a secret", "evt_1", at, "{}"));
}

TEST_F(WebhooksTest, AfterThreeDaysOfFailuresAnEventIsGivenUp) {
  const WebhookParts all = parts();
  Courier courier(all, webhook("w"));
  tell({{"evt_1", "w", "budget.threshold", "{}", kNoon}});
  int attempts = 0;
  while (courier.status().given_up == 0 && attempts < 1000) {
    answers_ = {503};
    courier.pass(kNever);
    ++attempts;
    EXPECT_TRUE(attempts < 2 || courier.status().given_up == 1 || courier.status().pending == 1);
    clock_.advance_ns(3600 * kSecond);
  }
  EXPECT_EQ(attempts, 73) << "once an hour for three days";
  EXPECT_EQ(posts_.size(), 73u);
  courier.pass(kNever);
  EXPECT_EQ(posts_.size(), 73u);
}

TEST_F(WebhooksTest, OneThatFailsKeepsNothingFromTheOthersAndManyComeInTurn) {
  const WebhookParts all = parts();
  Courier bad(all, webhook("bad")), good(all, webhook("good"));
  gateway::EventSink::Events events;
  for (int i = 0; i < 200; ++i) {
    events.push_back({"evt_" + std::to_string(i), "good", "t", "{}", kNoon});
    events.push_back({"evt_" + std::to_string(i), "bad", "t", "{}", kNoon});
  }
  tell(events);
  answers_ = std::deque<int>(64, 500);
  EXPECT_TRUE(bad.pass(kNever)) << "more is due";
  posts_.clear();
  while (good.pass(kNever)) continue;
  ASSERT_EQ(posts_.size(), 200u);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(header(posts_[static_cast<std::size_t>(i)], "webhook-id"), "evt_" + std::to_string(i));
  EXPECT_EQ(bad.status().failed, 64);
}

TEST_F(WebhooksTest, ItStopsBetweenAttemptsAndAnAttemptCutShortIsNoFailure) {
  const WebhookParts all = parts();
  Courier courier(all, webhook("w"));
  tell({{"evt_1", "w", "t", "{}", kNoon}, {"evt_2", "w", "t", "{}", kNoon}});
  EXPECT_FALSE(courier.pass([] { return true; }));
  EXPECT_TRUE(posts_.empty());
  answers_ = {0};
  EXPECT_FALSE(courier.pass([this] { return !posts_.empty(); }));   // asked to stop while the first is on its way
  EXPECT_EQ(courier.status().failed, 0);
  posts_.clear();
  EXPECT_FALSE(courier.pass(kNever));
  EXPECT_EQ(posts_.size(), 2u);
}

// A ledger that cannot write: it passes everything on but the outcomes.
class StuckLedger final : public ledger::Ledger {
 public:
  explicit StuckLedger(ledger::Ledger& inner) : inner_(inner) {}
  bool stuck = false;

  Result<std::vector<ledger::Delivery>> deliveries_due(const std::string& r, std::int64_t now, std::int64_t most) override {
    return inner_.deliveries_due(r, now, most);
  }
  Result<> delivery_tried(const ledger::DeliveryOutcome& o) override {
    if (stuck) return error(Errc::ledger_unavailable, "the disk is full");
    return inner_.delivery_tried(o);
  }
  const ledger::Recovery& recovery() const override { return inner_.recovery(); }
  ledger::Health health() const override { return inner_.health(); }
  void on_commit(std::function<void(std::int64_t, std::int64_t)>) override {}
  Result<> append(ledger::Record r, ledger::OnDurable d) override { return inner_.append(std::move(r), std::move(d)); }
  Result<> annotate(ledger::Annotation) override { return {}; }
  void progress(ledger::Progress, ledger::OnDurable) override {}
  Result<> put_key(const ledger::KeyRow&, const ledger::AuditEvent&) override { return {}; }
  Result<std::vector<ledger::KeyRow>> keys() override { return inner_.keys(); }
  Result<> audit(const ledger::AuditEvent& e) override { return inner_.audit(e); }
  Result<std::vector<ledger::AuditEvent>> audit_events(std::int64_t n) override { return inner_.audit_events(n); }
  Result<> put_idempotency(const ledger::IdempotencyRow&) override { return {}; }
  Result<std::vector<ledger::IdempotencyRow>> idempotency(std::int64_t n) override { return inner_.idempotency(n); }
  Result<> erase_annotations(const OrganizationId&, const ledger::AuditEvent&) override { return {}; }
  Result<std::vector<ledger::UsageRow>> usage(const ledger::UsageQuery& q) override { return inner_.usage(q); }
  Result<std::vector<ledger::SpendRow>> spend_since(std::int64_t n) override { return inner_.spend_since(n); }
  Result<std::vector<ledger::BalanceRow>> balances() override { return inner_.balances(); }
  Result<std::vector<ledger::Entry>> entries_of(const RequestId& r) override { return inner_.entries_of(r); }
  Result<ledger::VerifyReport> verify() override { return inner_.verify(); }
  Result<> backup(const std::string& p) override { return inner_.backup(p); }

 private:
  ledger::Ledger& inner_;
};

TEST_F(WebhooksTest, WhatWasTakenIsNotSentAgainWhileTheBooksCannotSaySo) {
  StuckLedger stuck(*ledger_);
  const WebhookParts all{clock_, stuck, "plant one", parts().send, [] { return std::uint64_t{0}; }};
  Courier courier(all, webhook("w"));
  tell({{"evt_1", "w", "t", "{}", kNoon}, {"evt_2", "w", "t", "{}", kNoon}});
  stuck.stuck = true;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(courier.pass(kNever));
  EXPECT_EQ(posts_.size(), 1u) << "nothing new is begun either";
  stuck.stuck = false;
  EXPECT_FALSE(courier.pass(kNever));
  EXPECT_EQ(posts_.size(), 2u);
  EXPECT_EQ(header(posts_[1], "webhook-id"), "evt_2");
}

// The threads: what is told arrives at each receiver, one of which hangs until the end.
TEST_F(WebhooksTest, ThreadsDeliverBesideAReceiverThatHangs) {
  std::mutex mutex;
  std::condition_variable arrived;
  std::map<std::string, int> taken;
  WebhookParts all = parts();
  all.send = [&](const Post& post, const std::function<bool()>& stopped) -> Result<int> {
    if (post.url.find("hangs") != std::string::npos) {
      while (!stopped()) std::this_thread::yield();
      return error(Errc::io, "stopped");
    }
    std::lock_guard lock(mutex);
    ++taken[post.url + " " + header(post, "webhook-id")];
    arrived.notify_all();
    return 200;
  };
  auto webhooks = Webhooks::make(std::move(all));
  webhooks->configure({webhook("one"), webhook("hangs"), webhook("two")});
  for (const std::int64_t percent : {50, 80}) tell(webhooks->budget_threshold(threshold(percent), kNoon));
  {
    std::unique_lock lock(mutex);
    EXPECT_TRUE(arrived.wait_for(lock, std::chrono::seconds(60), [&] { return taken.size() == 4; }));
  }
  webhooks->configure({webhook("two")});             // ends the one that hangs
  webhooks.reset();
  for (const auto& [what, times] : taken) EXPECT_EQ(times, 1) << what;
  EXPECT_EQ(*ledger_->deliveries_pending("hangs"), 2);
  EXPECT_EQ(*ledger_->deliveries_pending("one"), 0);
}

}  // namespace
}  // namespace tokenworks::jobs
