#pragma once
// The first region of the log's shared index, as https://sqlite.org/walformat.html (section 2) lays it down; its numbers are in the
// host's byte order. For what SQLite has no call for.
#include <sqlite3.h>

#include <cstdint>

#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

class WalIndex {
 public:
  static constexpr int kCheckpointLock = 1;          // slots, counted from the write lock's

  // Of a connection that has read; not to outlive it.
  explicit WalIndex(const Connection& store);
  explicit operator bool() const { return region_ != nullptr; }

  std::uint32_t frames() const { return at(16); }    // of all commits
  std::uint32_t page_bytes() const;
  void set_frames_copied(std::uint32_t count);       // under the checkpoint lock

  int lock(int slot) { return methods_->xShmLock(file_, slot, 1, SQLITE_SHM_LOCK | SQLITE_SHM_EXCLUSIVE); }
  void unlock(int slot) { methods_->xShmLock(file_, slot, 1, SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE); }

 private:
  std::uint32_t at(int offset) const;

  sqlite3_file* file_ = nullptr;
  const sqlite3_io_methods* methods_ = nullptr;
  unsigned char* region_ = nullptr;
};

}  // namespace tokenworks::ledger
