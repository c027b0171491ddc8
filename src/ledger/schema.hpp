#pragma once
// The store's tables and how an older file becomes today's. docs/ledger_format.md describes every table; the two change
// together. A migration runs in one transaction with the row that records it, so a kill leaves the old version or the
// new one. Versions only grow; a file from a newer program is refused, never touched.
#include <cstdint>
#include <span>

#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

inline constexpr std::int32_t kApplicationId = 0x54574c31;   // "TWL1": PRAGMA application_id of a ledger

inline constexpr std::int32_t kStoreVersion = 3;     // PRAGMA user_version of today's file

struct Migration {
  std::int32_t version;                              // the version the file has afterwards
  const char* sql;
  Result<> (*fill)(const Connection&) = nullptr;     // after the SQL, in the same transaction: what SQL cannot compute
};
std::span<const Migration> migrations();

// Brings the file forward over `steps` (ascending). Errors: bad_file for another program's file or a newer version.
Result<> migrate(const Connection& store, std::span<const Migration> steps, std::int64_t unix_ns,
                 std::string_view build_id);
// For readers: ok when the file is a ledger of exactly this program's version.
Result<> check_version(const Connection& store);

}  // namespace tokenworks::ledger
