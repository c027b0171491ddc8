#pragma once
// Ownership and error text over SQLite's C interface: a connection, a prepared statement. Nothing more: every SQL text
// stands where it is used. A connection and its statements belong to one thread at a time (opened without SQLite's own
// mutex); statements must die before their connection.
#include <sqlite3.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "tokenworks/base/result.hpp"

namespace tokenworks::ledger {

class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* handle) : handle_(handle) {}
  ~Statement() { sqlite3_finalize(handle_); }
  Statement(Statement&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), bad_bind_(other.bad_bind_) {}
  Statement& operator=(Statement&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(bad_bind_, other.bad_bind_);
    return *this;
  }
  explicit operator bool() const { return handle_ != nullptr; }

  // Parameters count from 1. Text and blobs are not copied: they must stay until reset.
  Statement& bind(int at, std::int64_t value) { return note(sqlite3_bind_int64(handle_, at, value)); }
  Statement& bind(int at, std::string_view text) {
    return note(sqlite3_bind_text64(handle_, at, text.data() != nullptr ? text.data() : "", text.size(), SQLITE_STATIC,
                                    SQLITE_UTF8));
  }
  Statement& bind(int at, std::span<const std::uint8_t> bytes) {
    return note(bytes.empty() ? sqlite3_bind_zeroblob(handle_, at, 0)
                              : sqlite3_bind_blob64(handle_, at, bytes.data(), bytes.size(), SQLITE_STATIC));
  }
  Statement& bind_null(int at) { return note(sqlite3_bind_null(handle_, at)); }

  Result<bool> step();                               // true: there is a row
  Result<> run();                                    // steps to the end and resets
  void reset() { sqlite3_reset(handle_); }

  // Columns of the row, counted from 0. Text and blobs live until the next step or reset.
  std::int64_t integer(int column) const { return sqlite3_column_int64(handle_, column); }
  std::string_view text(int column) const;
  std::span<const std::uint8_t> blob(int column) const;
  bool null(int column) const { return sqlite3_column_type(handle_, column) == SQLITE_NULL; }

 private:
  Statement& note(int code) {
    if (code != SQLITE_OK) bad_bind_ = code;
    return *this;
  }
  sqlite3_stmt* handle_ = nullptr;
  int bad_bind_ = SQLITE_OK;
};

enum class Access : std::uint8_t { read_only, read_write, create };

class Connection {
 public:
  Connection() = default;
  ~Connection() { sqlite3_close_v2(handle_); }
  Connection(Connection&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Connection& operator=(Connection&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }

  // `vfs`: "" for the default. Errors: io (the message names the path and SQLite's reason).
  static Result<Connection> open(const std::string& path, const std::string& vfs, Access access);

  sqlite3* raw() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }
  Result<Statement> prepare(std::string_view sql) const;
  Result<> run(const char* sql) const;               // one or more statements, rows ignored
  Result<std::int64_t> value(const char* sql) const; // the first column of the first row; 0 without a row
  bool in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

 private:
  sqlite3* handle_ = nullptr;
};

// "what: SQLite's message (extended code)"; corruption is bad_file, all else io.
Error sqlite_error(sqlite3* connection, std::string_view what);

}  // namespace tokenworks::ledger
