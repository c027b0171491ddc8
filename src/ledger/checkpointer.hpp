#pragma once
// Checkpointer: moves committed pages from the write-ahead log into the database file without making a settle wait. The
// bulk is copied by a thread of its own while the ledger thread goes on committing; when only little is left, the
// ledger thread copies the rest itself between two commits, after which SQLite reuses the log from its beginning.
//
// Its connection also keeps the shared index of the log alive while the ledger thread closes and reopens a suspect
// connection: a transaction whose sync failed can then not come back to life by a recovery of the log; the retry
// overwrites it.
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

class Checkpointer {
 public:
  // `pages`: length of the log from which on it is copied. `background` false: all work on the ledger thread (tests).
  static Result<std::unique_ptr<Checkpointer>> open(const std::string& path, const std::string& vfs, int pages,
                                                    bool background);
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Ledger thread, after each commit on `writer`: looks at the log's length and starts or finishes a checkpoint.
  void after_commit(const Connection& writer, int wal_pages);

 private:
  Checkpointer(Connection store, int pages, bool background);
  void run();
  void finish(const Connection& writer, int wal_pages);

  enum class State : std::uint8_t { idle, asked, copied, stopping };
  static constexpr int kLittle = 100;                // pages the ledger thread may copy itself: a few milliseconds, syncs included
  static constexpr int kRounds = 8;                  // background passes before it does so regardless

  Connection store_;
  const int pages_;
  int next_at_;                                      // ledger thread: the log's length that starts the next pass
  int rounds_ = 0, last_length_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  State state_ = State::idle;                        // under mutex_
  int log_ = 0, copied_ = 0;                         // under mutex_: what the last pass found and did
  std::thread thread_;
};

}  // namespace tokenworks::ledger
