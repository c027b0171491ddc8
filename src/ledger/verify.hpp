#pragma once
// Verification: recomputes everything the books claim from the entries alone, in one read snapshot: every hash, the
// link of every epoch, the life of every hold, every account, every rollup, the list of open holds. Beside a running
// writer.
#include "ledger/sqlite.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::ledger {

// An error when the store cannot be read; a report with first_bad when it can and is wrong.
Result<VerifyReport> verify_store(const Connection& store);

}  // namespace tokenworks::ledger
