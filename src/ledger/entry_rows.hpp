#pragma once
// Reading entries back: one column list, one mapping from a row to a view or an owned Entry, and the small caches that
// turn context and writer numbers into what they stand for (both tables only ever grow). One thread, one connection.
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ledger/canonical.hpp"
#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

// An entry's primary key is its writer's number and its place in that writer's chain: appends go to the end of the
// tree.
inline constexpr int kSeqBits = 40;
constexpr std::int64_t entry_id(std::int64_t writer, std::int64_t seq) { return writer << kSeqBits | seq; }
constexpr std::int64_t writer_of(std::int64_t id) { return id >> kSeqBits; }
constexpr std::int64_t seq_of(std::int64_t id) { return id & ((std::int64_t{1} << kSeqBits) - 1); }

#define TOKENWORKS_ENTRY_COLUMNS                                                                                  \
  "id, schema_version, type, time, request, context, input, cached_input, output, reasoning, amount, held, lines, " \
  "finish_reason, retry_count, token_commitment, attestation_id, receipt_id, hash, expires, tags"

struct EntryRow {
  std::int64_t id = 0, context = 0;
  EntryView view;
  std::span<const std::uint8_t> hash;
};
// The row a statement over TOKENWORKS_ENTRY_COLUMNS stands on; views live until its next step.
EntryRow entry_row(const Statement& statement);

// The tags column: 16 bytes each.
std::vector<TagHash> tag_hashes(std::span<const std::uint8_t> bytes);

struct Context {
  Record fields;                                     // only what a context says
  std::int64_t series = 0;
  std::string bytes;                                 // append_context(fields)
};

class EntryReader {
 public:
  explicit EntryReader(const Connection& store) : store_(store) {}
  Result<const Context*> context(std::int64_t id);
  Result<const std::string*> writer_id(std::int64_t number);
  Result<Entry> entry(const EntryRow& row);          // owned; fills prev_hash with a look at the entry before

 private:
  const Connection& store_;
  Statement find_context_, find_writer_, find_hash_;
  std::unordered_map<std::int64_t, std::unique_ptr<Context>> contexts_;
  std::unordered_map<std::int64_t, std::unique_ptr<std::string>> writers_;
};

}  // namespace tokenworks::ledger
