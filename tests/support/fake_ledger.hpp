#pragma once
// FakeLedger: the Ledger's contract over plain lists. It keeps what was appended, checks that every hold ends exactly once
// and within itself, and fires durable callbacks when it is told to. Thread-safe.
#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::test {

class FakeLedger final : public ledger::Ledger {
 public:
  // What tests set before admission reads it.
  std::vector<ledger::UsageRow> usage_rows;          // given for every query whose range holds the row's bucket
  std::vector<ledger::SpendRow> spend_rows;
  std::vector<ledger::BalanceRow> balance_rows;
  std::map<std::string, std::vector<ledger::Credit>> credit_rows;   // by organization
  std::vector<ledger::TagSpendRow> tag_rows;
  std::vector<ledger::KeyRow> key_rows;
  std::vector<ledger::SettingRow> setting_rows;
  bool fires_at_once = true;                         // false: callbacks wait for commit()

  // Refuses that many appends with ledger_unavailable, as a full queue does.
  void refuse_appends(int count) { set([&] { refuse_ = count; }); }
  void refuse_reads(bool refuse) { set([&] { refuse_reads_ = refuse; }); }
  void set_oldest_settle_ns(std::int64_t age) { set([&] { health_.oldest_unacknowledged_settle_ns = age; }); }
  std::vector<ledger::OutboxEvent> outbox() const { return get(outbox_); }   // events without an entry
  void keep_records(bool keep) { set([&] { keep_ = keep; }); }

  // Calls every callback that waits.
  void commit(const Result<>& outcome = {}) {
    std::vector<ledger::OnDurable> ready;
    set([&] { ready.swap(waiting_); });
    for (auto& durable : ready) durable(outcome);
  }

  std::vector<ledger::Record> records() const { return get(records_); }
  std::vector<ledger::Record> records_of(const RequestId& request) const {
    std::vector<ledger::Record> some;
    for (const auto& record : records()) {
      if (record.request == request) some.push_back(record);
    }
    return some;
  }
  std::vector<ledger::Annotation> annotations() const { return get(annotations_); }
  std::vector<ledger::Progress> progresses() const { return get(progresses_); }
  std::size_t open_holds() const {
    std::lock_guard lock(mutex_);
    return open_.size();
  }
  std::int64_t open_nano(const std::string& organization) const {
    std::lock_guard lock(mutex_);
    std::int64_t sum = 0;
    for (const auto& [request, hold] : open_) sum += hold.organization == organization ? hold.nano : 0;
    return sum;
  }
  std::int64_t settled_nano(const std::string& organization) const {
    std::lock_guard lock(mutex_);
    const auto it = settled_.find(organization);
    return it == settled_.end() ? 0 : it->second;
  }
  std::int64_t adjusted_nano(const std::string& organization) const {   // TOPUP and ADJUST
    std::lock_guard lock(mutex_);
    const auto it = adjusted_.find(organization);
    return it == adjusted_.end() ? 0 : it->second;
  }
  std::int64_t ended() const {
    std::lock_guard lock(mutex_);
    return ended_;
  }

  const ledger::Recovery& recovery() const override { return recovery_; }
  ledger::Health health() const override { return get(health_); }
  void on_commit(std::function<void(std::int64_t, std::int64_t)>) override {}

  Result<> append(ledger::Record record, ledger::OnDurable durable) override {
    {
      std::lock_guard lock(mutex_);
      if (refuse_ > 0) {
        --refuse_;
        return error(Errc::ledger_unavailable, "the ledger's queue is full");
      }
      check(record);
      if (keep_) records_.push_back(std::move(record));
      if (!fires_at_once) {
        if (durable) waiting_.push_back(std::move(durable));
        return {};
      }
    }
    if (durable) durable({});
    return {};
  }
  Result<> annotate(ledger::Annotation annotation) override {
    set([&] { annotations_.push_back(std::move(annotation)); });
    return {};
  }
  void progress(ledger::Progress progress, ledger::OnDurable durable) override {
    std::lock_guard lock(mutex_);
    const auto it = open_.find(progress.request);
    EXPECT_TRUE(it != open_.end()) << "progress of a request that holds nothing";
    if (it != open_.end()) {
      EXPECT_LE(progress.charge.nano, it->second.nano);
    }
    if (keep_) progresses_.push_back(std::move(progress));
    if (durable) waiting_.push_back(std::move(durable));
  }

  Result<> put_events(std::vector<ledger::OutboxEvent> events) override {
    set([&] { outbox_.insert(outbox_.end(), events.begin(), events.end()); });
    return {};
  }
  Result<> put_key(const ledger::KeyRow&, const ledger::AuditEvent&) override { return {}; }
  Result<std::vector<ledger::KeyRow>> keys() override { return key_rows; }
  Result<std::vector<ledger::SettingRow>> settings(const std::string&) override { return setting_rows; }
  Result<std::vector<ledger::Credit>> credits(const OrganizationId& of) override { return credit_rows[of.value]; }
  Result<std::vector<ledger::TagSpendRow>> spend_by_tag(std::int64_t from_unix_ns) override {
    if (get(refuse_reads_)) return error(Errc::io, "the disk is away");
    std::vector<ledger::TagSpendRow> rows;
    for (const auto& row : tag_rows) {
      if ((row.bucket_unix_s + 900) * 1'000'000'000 > from_unix_ns) rows.push_back(row);
    }
    return rows;
  }
  Result<> audit(const ledger::AuditEvent&) override { return {}; }
  Result<std::vector<ledger::AuditEvent>> audit_events(std::int64_t) override { return std::vector<ledger::AuditEvent>{}; }
  Result<> put_idempotency(const ledger::IdempotencyRow&) override { return {}; }
  Result<std::vector<ledger::IdempotencyRow>> idempotency(std::int64_t) override { return std::vector<ledger::IdempotencyRow>{}; }
  Result<> erase_annotations(const OrganizationId&, const ledger::AuditEvent&) override { return {}; }

  Result<std::vector<ledger::UsageRow>> usage(const ledger::UsageQuery& query) override {
    if (get(refuse_reads_)) return error(Errc::io, "the disk is away");
    std::vector<ledger::UsageRow> rows;
    for (const auto& row : usage_rows) {
      const std::int64_t at = row.bucket_unix_s * 1'000'000'000;
      if (at >= query.from_unix_ns && at < query.to_unix_ns) rows.push_back(row);
    }
    return rows;
  }
  Result<std::vector<ledger::SpendRow>> spend_since(std::int64_t from_unix_ns) override {
    if (get(refuse_reads_)) return error(Errc::io, "the disk is away");
    std::vector<ledger::SpendRow> rows;
    for (const auto& row : spend_rows) {
      if (row.hour_unix_s * 1'000'000'000 >= from_unix_ns) rows.push_back(row);
    }
    return rows;
  }
  Result<std::vector<ledger::BalanceRow>> balances() override { return balance_rows; }
  Result<std::vector<ledger::Entry>> entries_of(const RequestId&) override { return std::vector<ledger::Entry>{}; }
  Result<ledger::VerifyReport> verify() override { return ledger::VerifyReport{}; }
  Result<> backup(const std::string&) override { return {}; }

 private:
  struct Open {
    std::string organization;
    std::int64_t nano = 0;
  };

  template <class F>
  void set(const F& change) {
    std::lock_guard lock(mutex_);
    change();
  }
  template <class T>
  T get(const T& value) const {
    std::lock_guard lock(mutex_);
    return value;
  }

  // The rules a real ledger refuses to break.
  void check(const ledger::Record& r) {
    using Type = ledger::EntryType;
    if (r.type == Type::topup || r.type == Type::adjust) {
      EXPECT_TRUE(operations_.insert(r.request).second) << "booked twice under one id";
      adjusted_[r.organization.value] += r.amount.nano;
      return;
    }
    EXPECT_GE(r.amount.nano, 0);
    EXPECT_GT(r.unix_ns, 0);
    if (r.type == Type::hold) {
      EXPECT_TRUE(open_.emplace(r.request, Open{r.organization.value, r.amount.nano}).second) << "held twice";
      return;
    }
    const auto it = open_.find(r.request);
    ASSERT_TRUE(it != open_.end()) << "a " << static_cast<int>(r.type) << " for a request that holds nothing";
    if (r.type == Type::extend) {
      it->second.nano += r.amount.nano;
      return;
    }
    if (r.type == Type::settle) {
      EXPECT_LE(r.amount.nano, it->second.nano) << "settled above its hold";
      std::int64_t lines = 0;
      for (const auto& [name, amount] : r.lines) lines += amount.nano;
      EXPECT_EQ(lines, r.amount.nano) << "lines do not add up";
      settled_[r.organization.value] += r.amount.nano;
    } else {
      EXPECT_EQ(r.amount.nano, it->second.nano) << "a release gives back exactly all that is held";
    }
    open_.erase(it);
    ++ended_;
  }

  mutable std::mutex mutex_;
  ledger::Recovery recovery_;
  ledger::Health health_;
  int refuse_ = 0;
  bool keep_ = true, refuse_reads_ = false;
  std::vector<ledger::OutboxEvent> outbox_;
  std::vector<ledger::Record> records_;
  std::vector<ledger::Annotation> annotations_;
  std::vector<ledger::Progress> progresses_;
  std::vector<ledger::OnDurable> waiting_;
  std::map<RequestId, Open> open_;
  std::map<std::string, std::int64_t> settled_, adjusted_;
  std::set<RequestId> operations_;
  std::int64_t ended_ = 0;
};

}  // namespace tokenworks::test
