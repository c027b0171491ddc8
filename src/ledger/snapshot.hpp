#pragma once
// Snapshot: one read transaction on a reader's connection, from construction to destruction.
#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

// One read transaction: every statement in it sees the same commit.
class Snapshot {
 public:
  explicit Snapshot(const Connection& store) : store_(store), begun_(store.run("BEGIN")) {}
  ~Snapshot() {
    if (store_.in_transaction()) (void)store_.run("ROLLBACK");
  }
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;
  const Result<>& begun() const { return begun_; }

 private:
  const Connection& store_;
  Result<> begun_;
};

}  // namespace tokenworks::ledger
