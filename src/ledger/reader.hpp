#pragma once
// Reader: queries over a read-only connection of its own. Every query is one snapshot: rollups and accounts as far
// as they reach plus the entries behind that, so its sums are exact at the moment of a commit. One query at a
// time; ReaderPool lends one to each calling thread.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "ledger/entry_rows.hpp"
#include "ledger/parts.hpp"
#include "ledger/rollup.hpp"
#include "ledger/sqlite.hpp"
#include "tokenworks/ledger/credits.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::ledger {

class Reader {
 public:
  static Result<std::unique_ptr<Reader>> open(const std::string& path, const std::string& vfs);

  Result<std::vector<UsageRow>> usage(const UsageQuery& query);
  Result<std::vector<SpendRow>> spend_since(std::int64_t from_unix_ns);
  Result<std::vector<TagSpendRow>> spend_by_tag(std::int64_t from_unix_ns);
  Result<std::vector<BalanceRow>> balances();
  Result<std::vector<Credit>> credits(const OrganizationId& organization);
  Result<std::vector<Entry>> entries_of(const RequestId& request);
  Result<std::vector<KeyRow>> keys();
  Result<std::vector<SettingRow>> settings(const std::string& kind);
  Result<std::vector<AuditEvent>> audit_events(std::int64_t limit);
  Result<std::vector<PriceHistoryRow>> price_history();
  Result<std::vector<Delivery>> deliveries_due(const std::string& receiver, std::int64_t unix_ns, std::int64_t most);
  Result<std::int64_t> deliveries_pending(const std::string& receiver);
  Result<std::vector<IdempotencyRow>> idempotency(std::int64_t not_before_unix_ns);
  const Connection& store() const { return store_; }

 private:
  struct Series {
    std::string organization, project, key, model, tier, currency;
  };
  explicit Reader(Connection store) : store_(std::move(store)), entries_(store_) {}

  Result<const Series*> series(std::int64_t id);
  // Calls emit(bucket_unix_s, series, cell) -> Result<> for everything settled in [from, to); inside a transaction.
  template <class Emit>
  Result<> settled(std::int64_t from_ns, std::int64_t to_ns, std::int64_t bucket_seconds, Emit&& emit);
  // `included`: those that the rollups include, else those that they do not.
  template <class Emit>
  Result<> settled_entries(Statement& statement, const Reach& reach, bool included, std::int64_t from_ns,
                           std::int64_t to_ns, std::int64_t bucket_seconds, Emit&& emit);
  Result<std::int64_t> own_series(const std::string& organization, const std::string& currency);
  Result<Reach> reach();                             // inside a transaction

  Connection store_;
  EntryReader entries_;
  Statement find_series_;
  std::unordered_map<std::int64_t, std::unique_ptr<Series>> series_;
  std::map<std::pair<std::string, std::string>, std::int64_t> own_series_;   // by organization and currency
};

class ReaderPool {
 public:
  ReaderPool(std::string path, std::string vfs) : path_(std::move(path)), vfs_(std::move(vfs)) {}

  // Runs query(Reader&) with a reader nobody else uses; one that failed is not used again.
  template <class Query>
  auto with(Query&& query) -> decltype(query(std::declval<Reader&>())) {
    std::unique_ptr<Reader> reader;
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        reader = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    if (!reader) {
      auto made = Reader::open(path_, vfs_);
      if (!made) return made.error();
      reader = std::move(*made);
    }
    auto answer = query(*reader);
    if (answer && !reader->store().in_transaction()) {
      std::lock_guard lock(mutex_);
      if (idle_.size() < kIdle) idle_.push_back(std::move(reader));
    }
    return answer;
  }

 private:
  static constexpr std::size_t kIdle = 4;
  const std::string path_, vfs_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Reader>> idle_;
};

}  // namespace tokenworks::ledger
