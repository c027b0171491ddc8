#pragma once
// Checkpointer: moves committed pages from the write-ahead log into the database file without making a settle wait. The
// bulk is copied by a thread of its own while the ledger thread goes on committing; when only little is left, the
// ledger thread copies the rest itself between two commits, after which SQLite reuses the log from its beginning.
//
// The copying is paced: a slice of pages is synced by itself, and rested after in proportion to what it took. All of them in one
// sync at the end would stand before the log's own syncs in the disk's queue for as long as the disk needs for them.
//
// SQLite counts pages as copied that it has not synced, when a pass ends before the log does. A sync of the database that fails
// later drops such pages for good, while the log they could be read from is given up after the next pass that goes well. So after
// a failed pass the count begins anew, and everything in the log is copied once more.
//
// Its connection also keeps the shared index of the log alive while the ledger thread closes and reopens a suspect
// connection: a transaction whose sync failed can then not come back to life by a recovery of the log; the retry
// overwrites it.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

struct CheckpointPace {
  int pages = 32768;                                 // length of the log from which on it is copied: 128 MiB
  int slice = 64;                                    // pages that are synced together; 0: all
  int rest = 3;                                      // after a slice, times what it took
  bool background = true;                            // false: all work on the ledger thread (tests)
};

class Checkpointer {
 public:
  static Result<std::unique_ptr<Checkpointer>> open(const std::string& path, const std::string& vfs, const CheckpointPace& pace);
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Ledger thread, after each commit on `writer`: looks at the log's length and starts or finishes a checkpoint.
  void after_commit(const Connection& writer, int wal_pages);
  bool copying();                                    // the thread is at work

  // Ledger thread: one pass by itself, now, unless the thread is at work.
  void copy_now(const Connection& writer);

 private:
  Checkpointer(Connection store, const CheckpointPace& pace);
  void run();
  int pass(const Connection& by, int* log, int* copied);
  void slice_writes();
  static int write_sliced(sqlite3_file* file, const void* from, int bytes, sqlite3_int64 at);
  int written(sqlite3_file* file);
  void finish(const Connection& writer, int wal_pages);

  enum class State : std::uint8_t { idle, asked, copied, stopping };
  static constexpr int kLittle = 100;                // pages the ledger thread may copy itself: a few milliseconds, syncs included
  static constexpr int kRounds = 8;                  // background passes before it does so regardless

  sqlite3_io_methods methods_{};                     // of the thread's file: the connection's own, but for writes
  const sqlite3_io_methods* plain_ = nullptr;
  sqlite3_file* sliced_ = nullptr;
  Connection store_;                                 // after what its file uses
  const CheckpointPace pace_;
  int unsynced_ = 0;                                 // checkpoint thread: pages of the slice
  std::chrono::steady_clock::time_point slice_begun_{};
  std::atomic<bool> hurry_{false};                   // the log grows faster than it is copied
  int next_at_;                                      // ledger thread: the log's length that starts the next pass
  int rounds_ = 0, last_length_ = 0;
  std::mutex pass_mutex_;                            // one pass at a time
  bool doubtful_ = false;                            // under pass_mutex_: a pass failed, and the count still stands
  std::mutex mutex_;
  std::condition_variable wake_;
  State state_ = State::idle;                        // under mutex_
  int log_ = 0, copied_ = 0;                         // under mutex_: what the last pass found and did
  std::thread thread_;
};

}  // namespace tokenworks::ledger
