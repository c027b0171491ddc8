#pragma once
// The PROGRESS journal: the newest state of every running request packed into one blob, outside the chain, replaced at
// every cadence. It exists for one purpose: what a crashed request is settled with.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/ledger/entry.hpp"

namespace tokenworks::ledger {

// u32 count, then per request: id (16), input, cached_input, output, reasoning, charge (i64), lines (u32 length +
// text); SHA-256 of all that at the end. Big-endian.
class JournalWriter {
 public:
  JournalWriter();
  void add(const Progress& progress);
  std::uint32_t count() const { return count_; }
  std::string finish();                              // the object is spent afterwards

 private:
  std::string bytes_;
  std::uint32_t count_ = 0;
};

// Errors: bad_file when the blob is not what finish() made.
Result<std::vector<Progress>> read_journal(std::span<const std::uint8_t> bytes);

}  // namespace tokenworks::ledger
