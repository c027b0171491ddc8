#pragma once
// Which price books were in force when. Their texts stay for ever, under their hash; the history says what each start and
// reload applied. Writing runs inside the ledger thread's transaction; reading is Reader's.
#include <vector>

#include "ledger/sqlite.hpp"
#include "tokenworks/ledger/rows.hpp"

namespace tokenworks::ledger {

// False, and nothing written, when these are the books that were applied last.
Result<bool> write_prices(const Connection& store, const std::vector<PriceHistoryRow>& rows);

}  // namespace tokenworks::ledger
