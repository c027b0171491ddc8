#include "ledger/checkpointer.hpp"

#include <pthread.h>

#include <memory>

#include "tokenworks/base/log.hpp"

namespace tokenworks::ledger {

Result<std::unique_ptr<Checkpointer>> Checkpointer::open(const std::string& path, const std::string& vfs, int pages,
                                                         bool background) {
  auto store = Connection::open(path, vfs, Access::read_write);
  if (!store) return store.error();
  if (auto done = store->run("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL"); !done) return done.error();
  if (auto read = store->value("SELECT commits FROM state"); !read) return read.error();   // joins the log's index
  return std::unique_ptr<Checkpointer>(new Checkpointer(std::move(*store), pages, background));
}

Checkpointer::Checkpointer(Connection store, int pages, bool background)
    : store_(std::move(store)), pages_(pages), next_at_(pages) {
  if (!background) return;
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
}

void Checkpointer::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return state_ == State::asked || state_ == State::stopping; });
    if (state_ == State::stopping) return;
    lock.unlock();
    int log = 0, copied = 0;
    const int code = sqlite3_wal_checkpoint_v2(store_.raw(), nullptr, SQLITE_CHECKPOINT_PASSIVE, &log, &copied);
    if (code != SQLITE_OK && code != SQLITE_BUSY) {
      log::warn("ledger.checkpoint_failed", {{"error", sqlite3_errmsg(store_.raw())}});
    }
    lock.lock();
    log_ = log;
    copied_ = copied;
    if (state_ == State::asked) state_ = State::copied;
  }
}

void Checkpointer::after_commit(const Connection& writer, int wal_pages) {
  if (wal_pages < last_length_) next_at_ = pages_;   // the log began again
  last_length_ = wal_pages;
  if (wal_pages < next_at_) return;
  if (!thread_.joinable()) return finish(writer, wal_pages);
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

// A failure shows in the next commit, if it lasts; the log simply stays longer. A reader that still needs the log's old
// part keeps it from beginning again: then it may grow by as much once more before the next attempt.
void Checkpointer::finish(const Connection& writer, int wal_pages) {
  sqlite3_wal_checkpoint_v2(writer.raw(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  next_at_ = wal_pages + pages_;
}

}  // namespace tokenworks::ledger
