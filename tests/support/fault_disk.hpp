#pragma once
// The memory behind FaultVfs: files as the program sees them, as the platters hold them, and the writes in between.
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "support/fault_vfs.hpp"

namespace tokenworks::test {

inline constexpr std::int64_t kSector = 512;
inline constexpr int kShmLocks = 8;                  // SQLITE_SHM_NLOCK

struct PendingWrite {
  bool truncate = false;
  std::int64_t offset = 0;                           // truncate: the new size
  std::string bytes;
};

struct File {
  std::string live, durable;
  std::vector<PendingWrite> pending;                 // since the last successful sync
  std::int64_t sync_errors = 0;                      // counted; a handle that has seen fewer is told at its next sync
  // Locks of the handles on this file, as SQLite's five levels need them.
  int shared = 0, reserved = 0, pending_lock = 0, exclusive = 0;
  // The shared index of a write-ahead log.
  std::vector<std::unique_ptr<std::uint64_t[]>> regions;
  int region_users = 0;
  std::array<int, kShmLocks> shm_shared{}, shm_exclusive{};
};

struct FaultVfs::Disk {
  mutable std::mutex mutex;
  std::string name;
  std::mt19937_64 random;
  std::map<std::string, std::shared_ptr<File>> files;
  std::map<std::string, std::shared_ptr<File>> deleted;   // not yet certain: a cut may bring them back
  std::int64_t generation = 1;                       // handles of an older one are dead
  bool is_dead = false, lose_unsynced = false, is_full = false, reads_short = false;
  std::int64_t sync_count = 0, write_count = 0, cut_sync = 0, cut_write = 0, failing_syncs = 0, failing_database_syncs = 0, failing_reads = 0;
  void* vfs = nullptr;                               // sqlite3_vfs, owned

  void power_off(bool lose);                         // under mutex
  void settle_file(File& file);                      // under mutex: what survives of it
};

// Applies one write to a file image.
void apply_write(std::string& image, const PendingWrite& write);

}  // namespace tokenworks::test
