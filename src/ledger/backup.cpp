#include "ledger/backup.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "ledger/reader.hpp"
#include "ledger/verify.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::ledger {
namespace {

Error os_error(const std::string& what, int code) {
  return error(Errc::io, what + ": " + std::strerror(code));
}

Result<> sync_path(const std::string& path, int flags) {
  const int file = ::open(path.c_str(), flags | O_CLOEXEC);
  if (file < 0) return os_error("cannot open " + path, errno);
  const int failed = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  if (failed != 0) return os_error("cannot sync " + path, failed);
  return {};
}

void remove_store(const std::string& path) {
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) ::unlink((path + suffix).c_str());
}

// All pages in one step: one snapshot of the source, which no commit of the writer can restart.
Result<> copy_pages(const Connection& from, const std::string& to) {
  auto target = Connection::open(to, "", Access::create);
  if (!target) return target.error();
  sqlite3_backup* copy = sqlite3_backup_init(target->raw(), "main", from.raw(), "main");
  if (copy == nullptr) return sqlite_error(target->raw(), "starting the backup");
  sqlite3_backup_step(copy, -1);
  if (sqlite3_backup_finish(copy) != SQLITE_OK) return sqlite_error(target->raw(), "copying the ledger");
  return {};
}

// What verify does not look at: SQLite's own pages and indexes, by one of which a repeated top-up is found, and the texts of
// prices, which explain what was charged.
Result<> check_pages(const std::string& path) {
  const auto store = Connection::open(path, "", Access::read_only);
  if (!store) return store.error();
  auto check = store->prepare("PRAGMA integrity_check(1)");
  if (!check) return check.error();
  const auto row = check->step();
  if (!row) return row.error();
  const std::string found(*row ? check->text(0) : "nothing was checked");
  if (found != "ok") return error(Errc::bad_file, "the file is damaged: " + found);
  auto books = store->prepare("SELECT hash, text FROM price_books");
  if (!books) return books.error();
  for (;;) {
    const auto book = books->step();
    if (!book) return book.error();
    if (!*book) return {};
    if (hex(sha256(books->text(1))) == books->text(0)) continue;
    return error(Errc::bad_file, "the file is damaged: the price book " + std::string(books->text(0)) + " is not what its hash says");
  }
}

}  // namespace

Result<> backup_store(const Connection& from, const std::string& to, bool replace) {
  std::error_code ignored;
  if (!replace && std::filesystem::exists(to, ignored)) {
    return error(Errc::io, to + " exists already; choose another name or remove it first");
  }
  const std::string partial = to + ".partial";
  remove_store(partial);
  const auto make = [&]() -> Result<> {
    if (auto done = copy_pages(from, partial); !done) return done;
    const auto report = verify_file(partial);
    if (!report) return report.error();
    if (!report->ok) return error(Errc::bad_file, "the store does not verify: " + report->first_bad.value_or(""));
    if (auto sound = check_pages(partial); !sound) return sound;
    for (const char* suffix : {"-wal", "-shm"}) ::unlink((partial + suffix).c_str());   // empty: verify only read
    if (auto done = sync_path(partial, O_RDWR); !done) return done;
    if (replace) {                                   // a log of the old store must never meet the new one
      for (const char* suffix : {"-wal", "-shm", "-journal"}) ::unlink((to + suffix).c_str());
    }
    if (::rename(partial.c_str(), to.c_str()) != 0) return os_error("cannot rename " + partial + " to " + to, errno);
    const auto folder = std::filesystem::path(to).parent_path();
    return sync_path(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  };
  const Result<> made = make();
  if (!made) remove_store(partial);
  return made;
}

Result<VerifyReport> verify_file(const std::string& path) {
  const auto reader = Reader::open(path, "");
  if (!reader) return reader.error();
  return verify_store((*reader)->store());
}

Result<std::vector<UsageRow>> usage_of_file(const std::string& path, const UsageQuery& query) {
  const auto reader = Reader::open(path, "");
  if (!reader) return reader.error();
  return (*reader)->usage(query);
}

Result<std::vector<PriceHistoryRow>> price_history_of_file(const std::string& path) {
  const auto reader = Reader::open(path, "");
  if (!reader) return reader.error();
  return (*reader)->price_history();
}

Result<std::vector<BalanceRow>> balances_of_file(const std::string& path) {
  const auto reader = Reader::open(path, "");
  if (!reader) return reader.error();
  return (*reader)->balances();
}

Result<> backup_file(const std::string& path, const std::string& to) {
  const auto reader = Reader::open(path, "");
  if (!reader) return reader.error();
  return backup_store((*reader)->store(), to, false);
}

Result<> restore(const std::string& from, const std::string& to, bool replace) {
  std::error_code ignored;
  if (std::filesystem::equivalent(from, to, ignored))
    return error(Errc::io, from + " and " + to + " are the same file");
  if (!replace && std::filesystem::exists(to, ignored)) {
    return error(Errc::io, to + " exists; a restore replaces a ledger only with --replace, and never one in use");
  }
  const auto reader = Reader::open(from, "");
  if (!reader) return reader.error();
  return backup_store((*reader)->store(), to, replace);
}

}  // namespace tokenworks::ledger
