#pragma once
// Service: the Ledger of the embedded store. Its thread turns whatever arrived during the last sync into one
// transaction, calls the owners afterwards, and goes on with the same records after a failure. Tuning holds what tests
// change.
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "ledger/books.hpp"
#include "ledger/checkpointer.hpp"
#include "ledger/inbox.hpp"
#include "ledger/reader.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::ledger {

struct Tuning {
  Planted planted;                                   // faults the simulation must find
  CheckpointPace checkpoints;
  RollupPace rollups;
  std::int64_t gather_us = 1'000;                    // between the beginnings of two commits under load; real time
  std::int64_t close_patience_ns = 5'000'000'000;    // how long closing tries to commit on a store that fails
  std::int64_t admin_patience_ns = 10'000'000'000;   // how long an administrative call waits
};

class Service final : public Ledger, public ProgressFollower {
 public:
  static Result<std::unique_ptr<Service>> open(const LedgerOptions& options, const Tuning& tuning, const Clock& clock);
  ~Service() override;

  const Recovery& recovery() const override { return recovery_; }
  Health health() const override;
  void on_commit(std::function<void(std::int64_t, std::int64_t)> observer) override;

  Result<> append(Record record, OnDurable durable) override;
  Result<> book(const Record& record, const AuditEvent& audit) override;
  Result<> annotate(Annotation annotation) override;
  void progress(Progress progress, OnDurable durable) override;
  bool follow(std::shared_ptr<ProgressFeed> feed) override;
  void stir() override;

  // For benches, from the observer: what of the commit it is told of went into accounts and rollups.
  std::int64_t last_rollups_ns() const { return books_ ? books_->rollups_ns() : 0; }

  bool late_changes() override { return late_->exchange(false); }
  Result<> put_key(const KeyRow& row, const AuditEvent& audit) override;
  Result<> put_keys(const KeyRow& first, const AuditEvent& first_audit, const KeyRow& second, const AuditEvent& second_audit) override;
  Result<std::vector<KeyRow>> keys() override;
  Result<> audit(const AuditEvent& event) override;
  Result<std::vector<AuditEvent>> audit_events(std::int64_t limit) override;
  Result<> put_prices(const std::vector<PriceHistoryRow>& rows, const AuditEvent& audit) override;
  Result<std::vector<PriceHistoryRow>> price_history() override;
  Result<> put_idempotency(const IdempotencyRow& row) override;
  Result<> queue_idempotency(IdempotencyRow row, OnDurable durable) override;
  Result<std::vector<IdempotencyRow>> idempotency(std::int64_t not_before_unix_ns) override;
  Result<> erase_annotations(const OrganizationId& organization, const AuditEvent& audit) override;

  Result<> put_events(std::vector<OutboxEvent> events) override;
  Result<std::vector<Delivery>> deliveries_due(const std::string& receiver, std::int64_t unix_ns, std::int64_t most) override;
  Result<std::int64_t> deliveries_pending(const std::string& receiver) override;
  Result<> delivery_tried(const DeliveryOutcome& outcome) override;

  Result<> put_setting(const SettingRow& row, const AuditEvent& audit) override;
  Result<bool> remove_setting(const std::string& kind, const OrganizationId& organization, const std::string& id,
                              const AuditEvent& audit) override;
  Result<std::vector<SettingRow>> settings(const std::string& kind) override;

  Result<std::vector<UsageRow>> usage(const UsageQuery& query) override;
  Result<std::vector<SpendRow>> spend_since(std::int64_t from_unix_ns) override;
  Result<std::vector<TagSpendRow>> spend_by_tag(std::int64_t from_unix_ns) override;
  Result<std::vector<BalanceRow>> balances() override;
  Result<std::vector<Credit>> credits(const OrganizationId& organization) override;
  Result<std::vector<Entry>> entries_of(const RequestId& request) override;
  Result<VerifyReport> verify() override;
  Result<> backup(const std::string& path) override;

 private:
  struct Running {
    Progress newest;
    bool told = false;                               // `newest` says something
    std::shared_ptr<ProgressFeed> feed;              // null: its owner tells
    std::optional<Progress> ahead;                   // what the feed said, above the hold as it is booked by now
    std::vector<OnDurable> waiters;
    std::size_t covered = 0;                         // of waiters: by the journal of the last built transaction
  };
  Service(const LedgerOptions& options, const Tuning& tuning, const Clock& clock, std::unique_ptr<Books> books,
          std::unique_ptr<Checkpointer> checkpointer, Recovery recovery);

  // Any thread.
  Result<> push(Item item);
  Result<> wait(std::function<Result<>(const Connection&)> work);

  // Ledger thread.
  void run();
  std::chrono::nanoseconds patience() const;
  void gather() const;
  void absorb(std::size_t from);
  bool work_due() const;
  bool changed() const { return dirty_ || stirred_.load(); }
  void ask_feeds();
  void attempt();
  Result<> build(std::size_t count);
  Result<> run_task(const TaskItem& task, Result<>& outcome);
  Result<> build_journal(bool all_consumed);
  void committed(std::int64_t nanoseconds);
  void failed(const Error& why);
  void give_up(const Error& why);
  void refused(const Error& why);

  const LedgerOptions options_;
  const Tuning tuning_;
  const StoreOptions store_;
  const Clock& clock_;
  Recovery recovery_;
  ReaderPool readers_;
  Inbox inbox_;
  std::atomic<std::int64_t> queued_{0};              // records neither acknowledged nor refused
  std::atomic<std::int64_t> pending_settle_ns_{0};   // when the oldest SETTLE outside the inbox was queued
  std::atomic<bool> stirred_{false};                 // a feed has news that no journal has asked for
  std::atomic<bool> lost_{false};                    // another writer has the books: nothing is taken any more
  std::shared_ptr<std::atomic<bool>> late_ = std::make_shared<std::atomic<bool>>(false);   // see late_changes(); outlived by tasks
  mutable std::mutex health_mutex_;
  Health health_;                                    // under health_mutex_: ok, failures, refused, last_error
  std::function<void(std::int64_t, std::int64_t)> observer_;   // under health_mutex_

  // Ledger thread only.
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<Books> books_;                     // null between a failure and the reopening
  std::int64_t writer_ = 0;
  std::vector<Item> pending_;
  std::size_t next_ = 0;                             // first of pending_ that is not committed
  std::unordered_map<RequestId, Running> running_;
  bool dirty_ = false, journal_stored_ = false;
  std::int64_t next_journal_ns_ = 0, last_flush_ns_ = 0;
  bool failing_ = false;
  std::int64_t retry_at_ns_ = 0, backoff_ns_ = 0;

  // The transaction that was last built; kept until it is known to be committed.
  std::int64_t attempted_commit_ = 0;
  std::int64_t attempted_entries_ = 0;
  std::chrono::steady_clock::time_point attempted_at_{};
  std::vector<Result<>> outcomes_;                   // of pending_[next_ ...]
  std::unordered_set<RequestId> ended_;              // of running_, by this transaction
  std::vector<RequestId> journaled_;
  std::vector<std::pair<RequestId, Result<>>> dropped_;
  bool journal_after_ = false, ahead_left_ = false, asked_ = false;   // asked: it holds a journal of everything that is news

  std::thread thread_;                               // last: it uses everything above
};

}  // namespace tokenworks::ledger
