#pragma once
// Where settles wait: the ledger thread's time in pieces (building entries, writing rollups, writing and syncing the log,
// finishing a checkpoint, anything between two commits), beside what the checkpoint thread did meanwhile, for all settles and
// for the slowest hundredth. Fed from the ledger thread through its observer and through callbacks; printed as JSON.
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "timed_vfs.hpp"

namespace tokenworks::bench {

class Anatomy {
 public:
  // Ledger thread, from the observer: a commit that took `took_ns` and ended now; of it `rollups_ns` for accounts and rollups.
  void commit(std::int64_t took_ns, std::int64_t rollups_ns);
  // Ledger thread: a settle that was handed over at `asked_ns` (CLOCK_MONOTONIC) has its answer now.
  void settle(std::int64_t asked_ns);
  // After the ledger is closed. Fields of a JSON object.
  std::string report();

 private:
  enum Piece : std::uint8_t { between, entries, rollups, log_write, log_sync, finish, pieces };
  struct Span {
    std::int64_t begun = 0, ended = 0;
    Piece piece = between;
  };
  struct Settle {
    std::int64_t asked = 0, done = 0;
  };
  struct Sum {
    std::array<std::int64_t, pieces> by_piece{};
    std::int64_t total = 0, beside_write = 0, beside_sync = 0, without_processor = 0, count = 0;
  };
  void add(std::int64_t begun, std::int64_t ended, Piece piece);
  Sum sum(std::int64_t from_ns) const;               // of settles that took so long or longer
  std::string syncs() const;

  std::vector<Span> spans_;                          // of the ledger thread, one after another
  std::vector<Settle> settles_;
  std::vector<FileTime> beside_;                     // of the checkpoint thread
  struct Delay {
    std::int64_t begun = 0, ended = 0, ns = 0;
  };
  std::vector<Delay> delays_;                        // waiting for a processor, from commit to commit
  std::int64_t last_end_ = 0, last_delay_ = 0;
};

}  // namespace tokenworks::bench
