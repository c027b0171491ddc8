#pragma once
// The first region of the log's shared index, as https://sqlite.org/walformat.html (section 2) lays it down; its numbers are in the
// host's byte order. For what SQLite has no call for.
#include <sqlite3.h>

#include <cstdint>

#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

class WalIndex {
 public:
  // Of a connection that has read; not to outlive it.
  explicit WalIndex(const Connection& store);
  explicit operator bool() const { return region_ != nullptr; }

  std::uint32_t frames() const;                      // of all commits
  std::uint32_t page_bytes() const;
  void set_frames_copied(std::uint32_t count);       // under lock_copying()

  // The lock of those who copy. SQLITE_OK, or SQLite's code.
  int lock_copying() { return methods_->xShmLock(file_, kCheckpointLock, 1, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE); }
  void unlock_copying() { methods_->xShmLock(file_, kCheckpointLock, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE); }

 private:
  static constexpr int kCheckpointLock = 1;          // slots are counted from the write lock's

  sqlite3_file* file_ = nullptr;
  const sqlite3_io_methods* methods_ = nullptr;
  unsigned char* region_ = nullptr;
};

}  // namespace tokenworks::ledger
