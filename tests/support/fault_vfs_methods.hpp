#pragma once
// Between FaultVfs and SQLite: the tables of C functions SQLite calls.
#include "support/fault_disk.hpp"

namespace tokenworks::test {

void register_vfs(FaultVfs::Disk& disk);
void unregister_vfs(FaultVfs::Disk& disk);

}  // namespace tokenworks::test
