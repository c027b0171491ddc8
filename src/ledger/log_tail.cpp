#include "ledger/log_tail.hpp"

#include <vector>

#include "ledger/wal_index.hpp"

namespace tokenworks::ledger {
namespace {

// https://sqlite.org/fileformat2.html#the_write_ahead_log: a header, then frames of a header and a page. The second number of a
// frame's header is zero but in the last frame of a commit.
constexpr std::int64_t kLogHeader = 32, kFrameHeader = 24;
constexpr std::int64_t kCommitSizeAt = 4;

class Tail {
 public:
  Tail(sqlite3_file* log, std::int64_t frames, std::int64_t page_bytes) : log_(log), frames_(frames), frame_(kFrameHeader + page_bytes) {}

  // SQLITE_OK, or what the file said.
  int write_again() {
    std::int64_t first = frames_;                    // of the last commit
    for (bool commits = false; first > 1; --first) {
      if (const int code = ends_a_commit(first - 1, commits); code != SQLITE_OK) return code;
      if (commits) break;
    }
    if (const int code = copy_onto_itself(0, kLogHeader); code != SQLITE_OK) return code;
    for (std::int64_t i = first; i <= frames_; ++i) {
      if (const int code = copy_onto_itself(place(i), frame_); code != SQLITE_OK) return code;
    }
    return log_->pMethods->xSync(log_, SQLITE_SYNC_NORMAL);
  }

 private:
  std::int64_t place(std::int64_t frame) const { return kLogHeader + (frame - 1) * frame_; }
  int ends_a_commit(std::int64_t frame, bool& yes) {
    unsigned char size[4];
    const int code = log_->pMethods->xRead(log_, size, sizeof size, place(frame) + kCommitSizeAt);
    yes = (size[0] | size[1] | size[2] | size[3]) != 0;
    return code;
  }
  int copy_onto_itself(std::int64_t at, std::int64_t bytes) {
    bytes_.resize(static_cast<std::size_t>(bytes));
    const int code = log_->pMethods->xRead(log_, bytes_.data(), static_cast<int>(bytes), at);
    return code == SQLITE_OK ? log_->pMethods->xWrite(log_, bytes_.data(), static_cast<int>(bytes), at) : code;
  }

  sqlite3_file* log_;
  const std::int64_t frames_, frame_;
  std::vector<char> bytes_;
};

int write_again(const Connection& store) {
  const WalIndex index(store);
  sqlite3_file* log = nullptr;
  if (!index || sqlite3_file_control(store.raw(), "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) != SQLITE_OK) return SQLITE_IOERR;
  if (index.frames() == 0) return SQLITE_OK;
  if (log == nullptr || log->pMethods == nullptr) return SQLITE_IOERR;
  return Tail(log, index.frames(), index.page_bytes()).write_again();
}

}  // namespace

Result<> write_last_commit_again(const Connection& store) {
  if (auto done = store.run("BEGIN IMMEDIATE"); !done) return done;   // nobody else writes to the log meanwhile
  const int code = write_again(store);
  if (auto done = store.run("ROLLBACK"); !done) return done;
  if (code == SQLITE_OK) return {};
  return error(Errc::io, std::string("writing the log's last commit again: ") + sqlite3_errstr(code));
}

}  // namespace tokenworks::ledger
