#pragma once
// Copying whole stores: a consistent copy while the writer goes on, and putting a copy back in place.
#include <string>

#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

// One read snapshot of `from` into the new file `to`; synced, verified, then renamed into place.
Result<> backup_store(const Connection& from, const std::string& to, bool replace);

}  // namespace tokenworks::ledger
