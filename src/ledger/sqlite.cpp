#include "ledger/sqlite.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tokenworks::ledger {
namespace {

constexpr int kBusyTimeoutMs = 5000;

}  // namespace

Error sqlite_error(sqlite3* connection, std::string_view what) {
  const int code = connection != nullptr ? sqlite3_extended_errcode(connection) : SQLITE_NOMEM;
  std::string message(what);
  const char* file = connection != nullptr ? sqlite3_db_filename(connection, "main") : nullptr;
  if (file != nullptr && *file != '\0') message = std::string(file) + ": " + message;
  message += ": ";
  message += connection != nullptr ? sqlite3_errmsg(connection) : "out of memory";
  message += " (SQLite " + std::to_string(code) + ")";
  const int primary = code & 0xff;
  const bool bad = primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_SCHEMA;
  return error(bad ? Errc::bad_file : Errc::io, std::move(message));
}

Result<bool> Statement::step() {
  if (bad_bind_ != SQLITE_OK) {
    const int code = std::exchange(bad_bind_, SQLITE_OK);
    sqlite3_reset(handle_);
    return error(Errc::io, std::string("binding a value: ") + sqlite3_errstr(code));
  }
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  Error failed = sqlite_error(sqlite3_db_handle(handle_), std::string_view(sqlite3_sql(handle_)).substr(0, 60));
  sqlite3_reset(handle_);
  return failed;
}

Result<> Statement::run() {
  for (;;) {
    const auto row = step();
    if (!row) return row.error();
    if (!*row) break;
  }
  sqlite3_reset(handle_);
  return {};
}

std::string_view Statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(handle_, column));
  return bytes == nullptr ? std::string_view{}
                          : std::string_view(bytes, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column)));
}

std::span<const std::uint8_t> Statement::blob(int column) const {
  const auto* bytes = static_cast<const std::uint8_t*>(sqlite3_column_blob(handle_, column));
  if (bytes == nullptr) return {};
  return {bytes, static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

Result<Connection> Connection::open(const std::string& path, const std::string& vfs, Access access) {
  int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  flags |= access == Access::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
  if (access == Access::create) flags |= SQLITE_OPEN_CREATE;
  if (access == Access::create && vfs.empty()) {     // SQLite would let everybody read key hashes and charges
    if (const int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600); file >= 0) ::close(file);
  }
  Connection made;
  if (sqlite3_open_v2(path.c_str(), &made.handle_, flags, vfs.empty() ? nullptr : vfs.c_str()) != SQLITE_OK) {
    std::string reason = made.handle_ != nullptr ? sqlite3_errmsg(made.handle_) : "out of memory";
    const int system = made.handle_ != nullptr ? sqlite3_system_errno(made.handle_) : 0;
    if (system != 0) reason += std::string(" (") + std::strerror(system) + ")";
    if (system == EACCES || system == EPERM) reason += "; run this as the user who owns it";
    return error(Errc::io, "cannot open the ledger " + path + ": " + reason);
  }
  sqlite3_busy_timeout(made.handle_, kBusyTimeoutMs);
  return made;
}

Result<Statement> Connection::prepare(std::string_view sql) const {
  sqlite3_stmt* handle = nullptr;
  if (sqlite3_prepare_v3(handle_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT, &handle,
                         nullptr) != SQLITE_OK) {
    return sqlite_error(handle_, sql.substr(0, 60));
  }
  return Statement(handle);
}

Result<> Connection::run(const char* sql) const {
  if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
    return sqlite_error(handle_, std::string_view(sql).substr(0, 60));
  }
  return {};
}

Result<std::int64_t> Connection::value(const char* sql) const {
  auto statement = prepare(sql);
  if (!statement) return statement.error();
  const auto row = statement->step();
  if (!row) return row.error();
  return *row ? statement->integer(0) : std::int64_t{0};
}

}  // namespace tokenworks::ledger
