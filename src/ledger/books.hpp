#pragma once
// Books: one writer epoch over one connection: the chain's head, the open holds, the accounts, and the transaction that
// is being built. Whatever it holds in memory follows from the store, so after a failed commit the whole object is
// thrown away and `resume` reads what was really committed. Validation needs no SELECT except for what memory never saw
// (a new account, a new context, the id of a TOPUP). Ledger thread only.
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ledger/account_table.hpp"
#include "ledger/credit_table.hpp"
#include "ledger/dictionary.hpp"
#include "ledger/entry_rows.hpp"
#include "ledger/sqlite.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::ledger {

// Faults that the simulation plants to prove that it would find them; never set elsewhere.
struct Planted {
  bool synchronous_off = false;                      // commits are not synced
  bool acknowledge_early = false;                    // owners are told before the commit
  bool forget_release = false;                       // a RELEASE is acknowledged and not booked
  bool forget_progress = false;                      // the journal is acknowledged and not written
};

struct StoreOptions {
  std::string path, vfs, build_id;
  Planted planted = {};
};

// When accounts and rollups are written: a part once it is `every_ns` old or `behind` entries behind, so that a query adds a
// bounded number of entries itself, however fast they come; in turn, until `rows` rows or more are written with one commit.
struct RollupPace {
  std::size_t rows = 32;                             // SIZE_MAX: all parts, whatever their age
  std::int64_t every_ns = 1'000'000'000;
  std::int64_t behind = 16'384;
};

class Books {
 public:
  // Opens or creates the store, migrates, checks the tail, begins a new writer epoch and ends the holds of earlier
  // ones.
  static Result<std::unique_ptr<Books>> open(const StoreOptions& options, const Clock& clock, Recovery& recovery);
  // After a failure: the same epoch again, from what the store holds. ledger_unavailable when another writer began an
  // epoch meanwhile: this one must never write again.
  static Result<std::unique_ptr<Books>> resume(const StoreOptions& options, const Clock& clock, std::int64_t writer);

  std::int64_t writer() const { return writer_; }
  const std::string& writer_id() const { return writer_id_; }
  std::int64_t commits() const { return commits_; }  // transactions committed on the store, ever
  std::int64_t entries_in_transaction() const { return entries_; }
  std::size_t open_holds() const { return holds_.size(); }
  // What is held for a request, or -1 when it has no open hold.
  std::int64_t held(const RequestId& request) const;

  // One transaction: begin, any number of the middle ones, commit. A returned error means the store failed and the
  // object must be thrown away; what merely breaks the books' rules comes out in `refusal` and leaves the transaction
  // as it was.
  Result<> begin();
  Result<> apply(const Record& record, Result<>& refusal);
  Result<> write_journal(std::string_view bytes);    // "": delete it
  Result<> commit(const RollupPace& rollups);        // with the transaction, what of accounts and rollups is due
  const Connection& store() const { return store_; }
  bool rollups_pending() const { return reach_.least() != last_id_; }
  std::size_t rollup_cells() const { return rollups_.cells(); }
  int wal_pages() const { return wal_pages_; }       // in the write-ahead log after the last commit
  std::int64_t rollups_ns() const { return rollups_ns_; }   // what of the last commit went into accounts and rollups

 private:
  struct Hold {
    std::int64_t held = 0, organization = 0, entry = 0;
    bool stored = false;                             // open_holds has the row, with this amount
  };
  struct Move {                                      // a posting on its way to its account
    AccountTable::Node* node;
    std::int64_t debit, credit;
  };
  Books(Connection store, const StoreOptions& options, const Clock& clock)
      : store_(std::move(store)), options_(options), clock_(clock), dictionary_(store_), accounts_(store_),
        rollups_(store_), credits_(store_), tags_(store_), reader_(store_) {}
  static Result<std::unique_ptr<Books>> connect(const StoreOptions& options, const Clock& clock, Access access);
  Result<> prepare();
  Result<> begin_epoch(std::int64_t previous);
  Result<> load();                                   // memory from the store
  Result<> load_holds();
  Result<> fold_tail();
  Result<> recover(Recovery& recovery);

  Result<> check_hold(const Record& record, std::int64_t organization, std::int64_t& held) const;
  Result<> check_operation(const Record& record, const Dictionary::Known& known, Result<>& refusal, bool& booked);
  Result<> move_money(const EntryView& view, const Dictionary::Known& known, Result<>& refusal);
  void post(std::int64_t id, const EntryView& view, const Dictionary::Known& known);   // what move_money found
  Result<> flush(const RollupPace& pace);
  Result<> flush_part(std::size_t part, std::size_t& written);
  Result<> insert(std::int64_t id, const EntryView& view, std::int64_t context, const Digest& hash);
  void book_hold(const Record& record, std::int64_t id, std::int64_t organization);
  Result<> write_holds();
  Result<> prune();
  static Result<> not_ours(const Connection& store, std::int64_t writer, const std::string& path);

  Connection store_;
  const StoreOptions options_;
  const Clock& clock_;
  Dictionary dictionary_;
  AccountTable accounts_;
  RollupTable rollups_;
  CreditTable credits_;
  TagTable tags_;
  EntryReader reader_;
  ChainHasher hasher_;
  Statement begin_, commit_, insert_, save_state_, insert_hold_, delete_hold_, find_operation_, write_journal_;
  Statement delete_journal_;

  std::int64_t writer_ = 0, seq_ = 0, last_id_ = 0, commits_ = 0, minute_from_ = 0;
  std::int64_t entries_ = 0;                         // in the running transaction
  std::string writer_id_;
  Digest head_{};
  std::unordered_map<RequestId, Hold> holds_;
  std::vector<RequestId> changed_, ended_;           // holds to write and rows to delete with this transaction
  int wal_pages_ = 0;
  std::int64_t rollups_ns_ = 0;

  Reach reach_;                                      // what the stored parts include
  std::array<bool, kParts> dirty_{};                 // parts with something to write
  std::array<std::int64_t, kParts> written_ns_{};    // steady
  std::size_t next_part_ = 0;
  std::vector<std::uint8_t> reach_bytes_;

  std::string context_bytes_, entry_bytes_, lines_;  // scratch, to keep their capacity
  std::vector<Line> line_views_;
  std::vector<std::uint8_t> tag_bytes_;
  std::vector<Move> moves_;
  CreditTable::Slot* credit_slot_ = nullptr;
};

}  // namespace tokenworks::ledger
