#include "ledger/checkpointer.hpp"

#include <pthread.h>

#include <algorithm>
#include <memory>

#include "ledger/wal_index.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::ledger {
namespace {

constexpr std::chrono::nanoseconds kRestMax = std::chrono::milliseconds(100);   // a disk that stood still is no reason to

thread_local Checkpointer* this_thread = nullptr;    // whose copying it does

constexpr int kLockTries = 5'000;                    // a millisecond each

// SQLITE_BUSY: another process copies at this moment.
int count_anew(const Connection& store) {
  WalIndex index(store);
  if (!index) return SQLITE_IOERR;
  if (const int code = index.lock_copying(); code != SQLITE_OK) return code;
  index.set_frames_copied(0);
  index.unlock_copying();
  return SQLITE_OK;
}

}  // namespace

Result<std::unique_ptr<Checkpointer>> Checkpointer::open(const std::string& path, const std::string& vfs,
                                                         const CheckpointPace& pace) {
  auto store = Connection::open(path, vfs, Access::read_write);
  if (!store) return store.error();
  if (auto done = store->run("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL"); !done) return done.error();
  if (auto read = store->value("SELECT commits FROM state"); !read) return read.error();   // joins the log's index
  return std::unique_ptr<Checkpointer>(new Checkpointer(std::move(*store), pace));
}

Checkpointer::Checkpointer(Connection store, const CheckpointPace& pace)
    : store_(std::move(store)), pace_(pace), next_at_(pace.pages) {
  if (!pace.background) return;
  if (pace.slice > 0) slice_writes();
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "tw-checkpoint");
}

Checkpointer::~Checkpointer() {
  {
    std::lock_guard lock(mutex_);
    state_ = State::stopping;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  if (sliced_ != nullptr) sliced_->pMethods = plain_;   // closing may copy as well, on this thread
  // What closes last copies the log and deletes it. Another process holds the lock for one copy at most.
  for (int i = 0; doubtful_ && count_anew(store_) == SQLITE_BUSY && i < kLockTries; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// SQLite syncs the database once, after the last page. Its file is the connection's own, so what is put before its writes
// concerns the checkpoint thread alone.
void Checkpointer::slice_writes() {
  sqlite3_file* file = nullptr;
  if (sqlite3_file_control(store_.raw(), "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || file == nullptr) return;
  sliced_ = file;
  plain_ = file->pMethods;
  methods_ = *plain_;
  methods_.xWrite = write_sliced;
  file->pMethods = &methods_;
}

int Checkpointer::write_sliced(sqlite3_file* file, const void* from, int bytes, sqlite3_int64 at) {
  Checkpointer& self = *this_thread;
  if (self.unsynced_ == 0) self.slice_begun_ = std::chrono::steady_clock::now();
  const int code = self.plain_->xWrite(file, from, bytes, at);
  return code == SQLITE_OK ? self.written(file) : code;
}

// The log was synced before the first page, so that pages may reach the disk at any time.
int Checkpointer::written(sqlite3_file* file) {
  if (++unsynced_ < pace_.slice || hurry_.load(std::memory_order_relaxed)) return SQLITE_OK;
  unsynced_ = 0;
  const int code = plain_->xSync(file, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
  if (code != SQLITE_OK) return code;
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - slice_begun_;
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::min(pace_.rest * took, kRestMax), [this] { return state_ == State::stopping || hurry_.load(); });
  return SQLITE_OK;
}

// One pass, by the thread or by the writer's, under pass_mutex_. What is doubtful is not built upon.
int Checkpointer::pass(const Connection& by, int* log, int* copied) {
  if (doubtful_ && count_anew(by) != SQLITE_OK) return SQLITE_BUSY;
  doubtful_ = false;
  const int code = sqlite3_wal_checkpoint_v2(by.raw(), nullptr, SQLITE_CHECKPOINT_PASSIVE, log, copied);
  if (code == SQLITE_OK || code == SQLITE_BUSY) return code;
  log::warn("ledger.checkpoint_failed", {{"error", sqlite3_errmsg(by.raw())}});
  doubtful_ = true;
  return code;
}

void Checkpointer::run() {
  this_thread = this;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return state_ == State::asked || state_ == State::stopping; });
    if (state_ == State::stopping) return;
    lock.unlock();
    int log = 0, copied = 0;
    unsynced_ = 0;
    {
      std::lock_guard passing(pass_mutex_);
      pass(store_, &log, &copied);
    }
    lock.lock();
    log_ = log;
    copied_ = copied;
    if (state_ == State::asked) state_ = State::copied;
  }
}

void Checkpointer::after_commit(const Connection& writer, int wal_pages) {
  if (wal_pages < last_length_) next_at_ = pace_.pages;   // the log began again
  last_length_ = wal_pages;
  if (wal_pages < next_at_) return;
  if (!thread_.joinable()) return finish(writer, wal_pages);
  hurry_ = wal_pages > 3 * pace_.pages / 2;
  int left = 0;
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::asked) return;
    if (state_ == State::idle) {
      state_ = State::asked;
      rounds_ = 1;
    } else {
      left = wal_pages - copied_;
      if (left > kLittle && rounds_ < kRounds && log_ > 0) {
        state_ = State::asked;
        ++rounds_;
      } else {
        state_ = State::idle;
      }
    }
    if (state_ == State::asked) {
      wake_.notify_one();
      return;
    }
  }
  finish(writer, wal_pages);
}

bool Checkpointer::copying() {
  std::lock_guard lock(mutex_);
  return state_ == State::asked;
}

void Checkpointer::copy_now(const Connection& writer) {
  const std::unique_lock passing(pass_mutex_, std::try_to_lock);
  if (passing) pass(writer, nullptr, nullptr);
}

// A failure shows in the next commit, if it lasts; the log simply stays longer. A reader that still needs the log's old
// part keeps it from beginning again: then it may grow by as much once more before the next attempt.
void Checkpointer::finish(const Connection& writer, int wal_pages) {
  copy_now(writer);
  next_at_ = wal_pages + pace_.pages;
}

}  // namespace tokenworks::ledger
