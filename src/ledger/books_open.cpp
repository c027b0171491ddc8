// Opening: settings, migration, the check of the chain's tail, a new writer epoch, and the recovery of what the last
// one left running. Everything here can be killed at any point and done again: each step is one transaction.
#include <algorithm>

#include "ledger/books.hpp"
#include "ledger/journal.hpp"
#include "ledger/log_tail.hpp"
#include "ledger/rules.hpp"
#include "ledger/schema.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::ledger {
namespace {

constexpr int kTailChecked = 256;                    // entries whose hashes are recomputed at every opening
constexpr std::size_t kRecoveredPerCommit = 5000;

}  // namespace

Result<std::unique_ptr<Books>> Books::connect(const StoreOptions& options, const Clock& clock, Access access) {
  auto store = Connection::open(options.path, options.vfs, access);
  if (!store) return store.error();
  // WAL with FULL: every commit is synced before it returns. Checkpoints are ours (checkpointer.hpp).
  // EXTRA while the mode changes: the old journal's removal must be on the disk before anything relies on the log.
  if (auto done = store->run("PRAGMA synchronous = EXTRA"); !done) return done.error();
  auto mode = store->prepare("PRAGMA journal_mode = WAL");
  if (!mode) return mode.error();
  const auto row = mode->step();
  if (!row) return row.error();
  if (!*row || mode->text(0) != "wal")
    return error(Errc::io, options.path + ": the file system cannot hold a WAL database");
  mode->reset();
  const char* settings = options.planted.synchronous_off ? "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0"
                                                 : "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0";
  if (auto done = store->run(settings); !done) return done.error();
  if (auto done = store->run("PRAGMA cache_size = -65536; PRAGMA temp_store = MEMORY"); !done) return done.error();
  return std::unique_ptr<Books>(new Books(std::move(*store), options, clock));
}

Result<std::unique_ptr<Books>> Books::open(const StoreOptions& options, const Clock& clock, Recovery& recovery) {
  auto made = connect(options, clock, Access::create);
  if (!made) return made.error();
  Books& books = **made;
  if (auto done = write_last_commit_again(books.store_); !done) return error(done.error().code, options.path + ": " + done.error().message);
  if (auto done = migrate(books.store_, migrations(), clock.unix_ns(), options.build_id); !done) {
    return error(done.error().code, options.path + ": " + done.error().message);
  }
  if (auto done = books.prepare(); !done) return done.error();
  const auto previous = books.store_.value("SELECT writer FROM state");
  if (!previous) return previous.error();
  if (auto done = books.begin_epoch(*previous); !done) return done.error();
  if (auto done = books.load(); !done) return done.error();
  if (auto done = books.recover(recovery); !done) return done.error();
  const auto count = books.store_.value(
      "SELECT sum(coalesce((SELECT e.id FROM entries e WHERE e.id > w.number << 40 AND e.id < (w.number + 1) << 40"
      " ORDER BY e.id DESC LIMIT 1), 0) & 0xffffffffff) FROM writers w");
  if (!count) return count.error();
  recovery.entries = *count;
  recovery.writer_id = books.writer_id_;
  return std::move(*made);
}

Result<std::unique_ptr<Books>> Books::resume(const StoreOptions& options, const Clock& clock, std::int64_t writer) {
  auto made = connect(options, clock, Access::read_write);
  if (!made) return made.error();
  Books& books = **made;
  if (auto done = books.prepare(); !done) return done.error();
  const auto current = books.store_.value("SELECT writer FROM state");
  if (!current) return current.error();
  if (*current != writer) return not_ours(books.store_, writer, options.path).error();
  books.writer_ = writer;
  if (auto done = books.load(); !done) return done.error();
  return std::move(*made);
}

Result<> Books::prepare() {
  const std::pair<Statement*, const char*> texts[] = {
      {&begin_, "BEGIN IMMEDIATE"},
      {&commit_, "COMMIT"},
      {&insert_, "INSERT INTO entries(" TOKENWORKS_ENTRY_COLUMNS
                 ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,"
                 " ?21)"},
      {&save_state_, "UPDATE state SET commits = ?1, rolled_through = ?2, minute_from = ?3, rolled = ?6 WHERE"
                     " writer = ?4 AND commits = ?5"},
      {&insert_hold_, "INSERT OR REPLACE INTO open_holds(request, entry, held) VALUES (?1, ?2, ?3)"},
      {&delete_hold_, "DELETE FROM open_holds WHERE request = ?1"},
      {&find_operation_, "SELECT e.type, e.amount, c.series, e.expires FROM entries e JOIN contexts c ON c.id = e.context"
                         " WHERE e.request = ?1"},
      {&write_journal_, "INSERT OR REPLACE INTO progress(id, writer, unix_ns, data) VALUES (1, ?1, ?2, ?3)"},
      {&delete_journal_, "DELETE FROM progress"}};
  for (const auto& [statement, sql] : texts) {
    auto made = store_.prepare(sql);
    if (!made) return made.error();
    *statement = std::move(*made);
  }
  sqlite3_wal_hook(
      store_.raw(),
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<Books*>(self)->wal_pages_ = pages;
        return SQLITE_OK;
      },
      this);
  return {};
}

// A writers row whose genesis commits to the head of the epoch before, hence to everything before.
Result<> Books::begin_epoch(std::int64_t previous) {
  std::string previous_id;
  std::int64_t previous_seq = 0;
  Digest previous_head{};
  if (previous != 0) {
    auto find = store_.prepare(
        "SELECT writer_id, genesis FROM writers WHERE number = ?1");
    if (!find) return find.error();
    find->bind(1, previous);
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row || find->blob(1).size() != previous_head.size()) {
      return error(Errc::bad_file, options_.path + ": the row of writer " + std::to_string(previous) + " is missing");
    }
    previous_id = find->text(0);
    std::copy_n(find->blob(1).begin(), previous_head.size(), previous_head.begin());
    // The tail of the last chain: a damaged or cut end is found before anything is built on it.
    auto tail = store_.prepare("SELECT " TOKENWORKS_ENTRY_COLUMNS
                               " FROM entries WHERE id > ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3");
    if (!tail) return tail.error();
    tail->bind(1, entry_id(previous, 0)).bind(2, entry_id(previous + 1, 0)).bind(3, kTailChecked);
    for (bool first = true;; first = false) {
      const auto more = tail->step();
      if (!more) return more.error();
      if (!*more) break;
      const EntryRow row_view = entry_row(*tail);
      const auto entry = reader_.entry(row_view);
      if (!entry) return entry.error();
      const auto context = reader_.context(row_view.context);
      if (!context) return context.error();
      entry_bytes_.clear();
      append_entry(entry_bytes_, entry->writer_id, entry->seq, row_view.view, (*context)->bytes);
      if (hasher_(entry->prev_hash, entry_bytes_) != entry->hash) {
        return error(Errc::bad_file, options_.path + ": the chain is broken at " + entry->writer_id + "/" +
                                         std::to_string(entry->seq) +
                                         "; run `tokenworks ledger verify` and restore a backup");
      }
      if (first) previous_seq = entry->seq, previous_head = entry->hash;
    }
  }
  writer_ = previous + 1;
  const RequestId unique = RequestId::make_now();
  writer_id_ = "w" + unique.to_string().substr(4);
  const Digest first = genesis(writer_, writer_id_, previous_id, previous_seq, previous_head);
  if (auto done = begin_.run(); !done) return done;
  auto insert = store_.prepare("INSERT INTO writers VALUES (?1, ?2, ?3, ?4, ?5)");
  if (!insert) return insert.error();
  insert->bind(1, writer_).bind(2, writer_id_).bind(3, clock_.unix_ns()).bind(4, options_.build_id).bind(5, first);
  if (auto done = insert->run(); !done) return done;
  auto take_over = store_.prepare("UPDATE state SET writer = ?1, commits = commits + 1 WHERE writer = ?2");
  if (!take_over) return take_over.error();
  take_over->bind(1, writer_).bind(2, previous);
  if (auto done = take_over->run(); !done) return done;
  if (sqlite3_changes(store_.raw()) != 1)
    return error(Errc::io, options_.path + ": another process opened the books just now");
  return commit_.run();
}

Result<> Books::load() {
  auto find = store_.prepare(
      "SELECT s.commits, s.rolled, s.minute_from, w.writer_id, w.genesis,"
      " coalesce((SELECT max(id) FROM entries), 0) FROM state s JOIN writers w ON w.number = s.writer");
  if (!find) return find.error();
  const auto row = find->step();
  if (!row) return row.error();
  if (!*row || find->blob(4).size() != head_.size())
    return error(Errc::bad_file, options_.path + ": the writer's row is missing");
  commits_ = find->integer(0);
  if (!reach_.read(find->blob(1)))
    return error(Errc::bad_file, options_.path + ": state.rolled has not the right length");
  minute_from_ = find->integer(2);
  writer_id_ = find->text(3);
  std::copy_n(find->blob(4).begin(), head_.size(), head_.begin());
  last_id_ = find->integer(5);
  find->reset();
  if (last_id_ == 0) minute_from_ = std::max(minute_from_, minutes_kept_from(clock_.unix_ns()));   // new books
  if (reach_.most() > last_id_) {
    return error(Errc::bad_file,
                 options_.path + ": entries are missing at the end: the rollups reach further than the chain");
  }
  if (writer_of(last_id_) == writer_) {
    seq_ = seq_of(last_id_);
    auto last = store_.prepare("SELECT hash FROM entries WHERE id = ?1");
    if (!last) return last.error();
    last->bind(1, last_id_);
    const auto there = last->step();
    if (!there) return there.error();
    if (last->blob(0).size() == head_.size()) std::copy_n(last->blob(0).begin(), head_.size(), head_.begin());
  }
  if (auto done = load_holds(); !done) return done;
  return fold_tail();
}

Result<> Books::load_holds() {
  auto find = store_.prepare(
      "SELECT o.request, o.entry, o.held, s.organization, s.currency FROM open_holds o JOIN entries e ON e.id = o.entry"
      " JOIN contexts c ON c.id = e.context JOIN series s ON s.id = c.series");
  if (!find) return find.error();
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) return {};
    RequestId request;
    if (find->blob(0).size() != request.bytes.size())
      return error(Errc::bad_file, options_.path + ": an open hold has no id");
    std::copy_n(find->blob(0).begin(), request.bytes.size(), request.bytes.begin());
    const auto organization = dictionary_.organization(std::string(find->text(3)), std::string(find->text(4)));
    if (!organization) return organization.error();
    holds_[request] = {find->integer(2), *organization, find->integer(1), true};
  }
}

// Entries that were committed after the last flush of accounts and rollups.
Result<> Books::fold_tail() {
  auto tail = store_.prepare("SELECT " TOKENWORKS_ENTRY_COLUMNS " FROM entries WHERE id > ?1 ORDER BY id");
  if (!tail) return tail.error();
  tail->bind(1, reach_.least());
  for (;;) {
    const auto more = tail->step();
    if (!more) return more.error();
    if (!*more) return {};
    const EntryRow row = entry_row(*tail);
    const auto context = reader_.context(row.context);
    if (!context) return context.error();
    const Record& fields = (*context)->fields;
    const auto organization = dictionary_.organization(fields.organization.value, fields.currency);
    if (!organization) return organization.error();
    if (!parse_lines(row.view.lines, line_views_))
      return error(Errc::bad_file, options_.path + ": an entry's charge lines are damaged");
    Result<> refusal;
    const Dictionary::Known known{row.context, (*context)->series, *organization};
    if (auto done = move_money(row.view, known, refusal); !done) return done;
    post(row.id, row.view, known);
  }
}

// Every hold that an earlier epoch left open ends now: settled with its last PROGRESS, or released when it has none.
// The journal stays until the last of them is booked, so a kill in between changes nothing.
Result<> Books::recover(Recovery& recovery) {
  std::unordered_map<RequestId, Progress> journal;
  {
    auto find = store_.prepare("SELECT data FROM progress");
    if (!find) return find.error();
    const auto row = find->step();
    if (!row) return row.error();
    if (*row) {
      auto all = read_journal(find->blob(0));
      if (!all) return error(all.error().code, options_.path + ": " + all.error().message);
      for (Progress& progress : *all) journal.emplace(progress.request, std::move(progress));
    }
  }
  std::vector<std::pair<std::int64_t, RequestId>> open;   // in the order in which they were opened
  for (const auto& [request, hold] : holds_) open.emplace_back(hold.entry, request);
  std::sort(open.begin(), open.end());
  auto find = store_.prepare("SELECT " TOKENWORKS_ENTRY_COLUMNS " FROM entries WHERE id = ?1");
  if (!find) return find.error();
  for (std::size_t at = 0; at < open.size();) {
    if (auto done = begin(); !done) return done;
    for (const std::size_t end = std::min(open.size(), at + kRecoveredPerCommit); at < end; ++at) {
      find->bind(1, open[at].first);
      const auto row = find->step();
      if (!row) return row.error();
      const auto opened =
          *row ? reader_.entry(entry_row(*find)) : Result<Entry>(error(Errc::bad_file, "an open hold has no entry"));
      if (!opened) return error(opened.error().code, options_.path + ": " + opened.error().message);
      find->reset();
      Record end_record = *opened;
      end_record.unix_ns = std::max(clock_.unix_ns(), opened->unix_ns);
      end_record.finish_reason = "crash";
      end_record.build_id = options_.build_id.empty() ? opened->build_id : options_.build_id;
      const auto progress = journal.find(open[at].second);
      if (progress != journal.end()) {
        end_record.type = EntryType::settle;
        end_record.usage = progress->second.usage;
        end_record.amount = progress->second.charge;
        end_record.lines = progress->second.lines;
      } else {
        end_record.type = EntryType::release;
        end_record.usage = {};
        end_record.amount = {held(open[at].second)};
      }
      Result<> refusal;
      if (auto done = apply(end_record, refusal); !done) return done;
      if (!refusal) return error(Errc::bad_file, options_.path + ": recovery: " + refusal.error().message);
      ++(progress != journal.end() ? recovery.settled : recovery.released);
    }
    if (auto done = commit({.rows = 0}); !done) return done;
  }
  if (!journal.empty() || rollups_pending()) {
    if (auto done = begin(); !done) return done;
    if (auto done = write_journal({}); !done) return done;
    if (auto done = commit({.rows = SIZE_MAX}); !done) return done;
  }
  if (!open.empty()) {
    log::warn("ledger.recovered", {{"settled", recovery.settled}, {"released", recovery.released}});
  }
  return {};
}

}  // namespace tokenworks::ledger
