#pragma once
// What stands in the write-ahead log without being on the disk. A sync that fails drops what was written and leaves it readable
// until the machine stops: a start after the process died finds such a transaction in the log, takes it for committed and builds
// on it, and the syncs that follow do not write it again. After a power cut the log would end before it. So the last transaction
// is written again, byte for byte, and synced, before anything is built on it. Those before it were: each commit waits for its sync.
#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

// Takes the write lock for its time. Any thread; on a connection with the right to write, outside a transaction, that has read.
Result<> write_last_commit_again(const Connection& store);

}  // namespace tokenworks::ledger
