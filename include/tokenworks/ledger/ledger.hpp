#pragma once
// Ledger: the durable books. One thread of its own receives records, groups everything that arrived during the last
// fsync into one transaction, and tells the owners after the commit. Admission never waits for it; only the last chunk
// of an answer does. Every method may be called from any thread; callbacks run on the ledger thread and must only post.
//
// A store that cannot sync: records stay queued in memory in order, nothing is acknowledged, `health()` tells since when;
// the ledger closes and reopens the store until it works again, then goes on with the same records, exactly once.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/ledger/credits.hpp"
#include "tokenworks/ledger/entry.hpp"
#include "tokenworks/ledger/outbox.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::ledger {

enum class ProgressMode : std::uint8_t { cadence, step };

struct LedgerOptions {
  std::string path;                                  // <data_dir>/ledger.sqlite
  ProgressMode progress = ProgressMode::cadence;
  std::int64_t progress_every_ns = 100'000'000;
  std::string build_id;
  std::string vfs;                                   // SQLite VFS name; "" the default. Tests inject faults here
  std::size_t queue_records = 1 << 20;               // beyond it append refuses
};

// What opening found: requests that were running when the last writer died, now settled from their last PROGRESS.
struct Recovery {
  std::int64_t entries = 0;
  std::int64_t settled = 0, released = 0;            // holds ended by this recovery: with / without progress
  std::string writer_id;                             // of this epoch
};

struct Health {
  bool ok = true;
  std::int64_t oldest_unacknowledged_settle_ns = 0;  // age; admission stops above 2 s
  std::int64_t queued = 0;
  std::int64_t failures = 0;                         // commits that failed since start
  std::int64_t refused = 0;                          // records and progress that broke the books' rules since start
  std::string last_error;
};

using OnDurable = std::function<void(const Result<>&)>;

class Ledger {
 public:
  // Opens or creates, migrates forward, verifies the tail, recovers. Errors: io, bad_file (a newer schema, a broken chain).
  static Result<std::unique_ptr<Ledger>> open(const LedgerOptions& options, const Clock& clock);
  virtual ~Ledger() = default;                       // commits what is queued, then closes

  virtual const Recovery& recovery() const = 0;
  virtual Health health() const = 0;
  virtual void on_commit(std::function<void(std::int64_t nanoseconds, std::int64_t entries)> observer) = 0;   // start-up only

  // Queues a record. `durable` is called once: after the commit that holds it, or with an error when the record breaks the
  // books (internal: ends a hold that is not open, settles above it, does not add up; also logged and counted in
  // Health::refused) or the ledger was closed without being able to commit. ledger_unavailable when the queue is full.
  virtual Result<> append(Record record, OnDurable durable = {}) = 0;
  virtual Result<> annotate(Annotation annotation) = 0;
  // The newest state of a running request. cadence mode: packed with all others into one row per cadence; `durable` is
  // called after the row is committed. step mode: committed as soon as the disk allows. Forgotten when the request ends:
  // then the end's own commit covers it and calls `durable`.
  virtual void progress(Progress progress, OnDurable durable = {}) = 0;

  // Administration: each mutation and its audit row in one transaction. Waits for the commit, but not for ever: then
  // ledger_unavailable, and the message says whether nothing was changed or whether that is still open.
  // late_changes(): whether since the last call a change was committed after its caller had been told so; whoever keeps rows
  // in memory reads them again.
  virtual bool late_changes() { return false; }
  virtual Result<> put_key(const KeyRow& row, const AuditEvent& audit) = 0;          // insert or replace by id
  // Both or none, each with its audit row.
  virtual Result<> put_keys(const KeyRow& first, const AuditEvent& first_audit, const KeyRow& second, const AuditEvent& second_audit) {
    if (auto done = put_key(first, first_audit); !done) return done;
    return put_key(second, second_audit);
  }
  virtual Result<std::vector<KeyRow>> keys() = 0;
  virtual Result<> audit(const AuditEvent& event) = 0;                               // mutations outside the store (reload)
  virtual Result<std::vector<AuditEvent>> audit_events(std::int64_t limit) = 0;      // newest first
  // The price books in force from now on and those dated after it; those known already are left as they are. One audit row
  // in any case. They are kept for ever.
  virtual Result<> put_prices(const std::vector<PriceHistoryRow>&, const AuditEvent&) { return {}; }
  virtual Result<std::vector<PriceHistoryRow>> price_history() { return std::vector<PriceHistoryRow>{}; }   // oldest first
  virtual Result<> put_idempotency(const IdempotencyRow& row) = 0;                   // insert or replace by (org, key)
  // As put_idempotency without waiting, for the request path: `durable` is called once after the commit. Rows are removed
  // 25 hours after `created_unix_ns`.
  virtual Result<> queue_idempotency(IdempotencyRow row, OnDurable durable) {
    const Result<> done = put_idempotency(row);
    if (durable) durable(done);
    return {};
  }
  virtual Result<std::vector<IdempotencyRow>> idempotency(std::int64_t not_before_unix_ns) = 0;
  virtual Result<> erase_annotations(const OrganizationId& organization, const AuditEvent& audit) = 0;

  // A TOPUP or ADJUST and its audit row in one transaction; the same entry again is acknowledged and changes nothing.
  // idempotency_mismatch: its id was used for another one. Waits for the commit.
  virtual Result<> book(const Record& record, const AuditEvent&) { return append(record); }

  // The outbox. Events that no entry causes are queued here, the others come with their Record; what is known changes nothing.
  virtual Result<> put_events(std::vector<OutboxEvent>) { return {}; }
  // What is due to a receiver, oldest first.
  virtual Result<std::vector<Delivery>> deliveries_due(const std::string& /*receiver*/, std::int64_t /*unix_ns*/,
                                                       std::int64_t /*most*/) {
    return std::vector<Delivery>{};
  }
  virtual Result<std::int64_t> deliveries_pending(const std::string& /*receiver*/) { return 0; }
  virtual Result<> delivery_tried(const DeliveryOutcome&) { return {}; }   // waits for the commit

  // Settings: small objects set through the API. Insert or replace by (kind, organization, id); remove tells whether there
  // was one (the audit row is written only then).
  virtual Result<> put_setting(const SettingRow&, const AuditEvent&) { return no_store("settings"); }
  virtual Result<bool> remove_setting(const std::string& /*kind*/, const OrganizationId&, const std::string& /*id*/,
                                      const AuditEvent&) {
    return no_store("settings").error();
  }
  virtual Result<std::vector<SettingRow>> settings(const std::string& /*kind*/) { return std::vector<SettingRow>{}; }

  // Reading, over connections of its own: sees what is committed, blocks no writer.
  virtual Result<std::vector<UsageRow>> usage(const UsageQuery& query) = 0;
  virtual Result<std::vector<SpendRow>> spend_since(std::int64_t from_unix_ns) = 0;  // settled, by org, project, key, model, hour
  virtual Result<std::vector<BalanceRow>> balances() = 0;                            // TOPUP + ADJUST - SETTLE per organization
  // Settled spend per tag in quarters of an hour, from the one that holds `from_unix_ns` on.
  virtual Result<std::vector<TagSpendRow>> spend_by_tag(std::int64_t /*from_unix_ns*/) {
    return std::vector<TagSpendRow>{};
  }
  // Every credit of an organization, spent ones included, in the order in which they are spent.
  virtual Result<std::vector<Credit>> credits(const OrganizationId&) { return std::vector<Credit>{}; }
  virtual Result<std::vector<Entry>> entries_of(const RequestId& request) = 0;
  virtual Result<VerifyReport> verify() = 0;
  virtual Result<> backup(const std::string& path) = 0;   // online, consistent, verified; refuses an existing file

 private:
  static Result<> no_store(const char* what) {
    return error(Errc::internal, std::string("this ledger keeps no ") + what);
  }
};

// Verification and usage without a daemon: opens read-only, recovers nothing.
Result<VerifyReport> verify_file(const std::string& path);
Result<std::vector<UsageRow>> usage_of_file(const std::string& path, const UsageQuery& query);
Result<std::vector<PriceHistoryRow>> price_history_of_file(const std::string& path);
Result<std::vector<BalanceRow>> balances_of_file(const std::string& path);
Result<> backup_file(const std::string& path, const std::string& to);
// Puts the verified store `from` in the place of `to` by rename. Nothing may have `to` open (the caller holds the data
// directory's lock). Refuses a `from` that does not verify, and an existing `to` unless `replace`.
Result<> restore(const std::string& from, const std::string& to, bool replace = false);

}  // namespace tokenworks::ledger
