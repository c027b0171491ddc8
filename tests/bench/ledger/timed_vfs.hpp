#pragma once
// A SQLite VFS over the default one that notes when which thread wrote and synced which file of a database: the write-ahead log
// or the database itself. For benches: it says where a commit's time goes. Every thread has a list of its own.
#include <cstdint>
#include <string>
#include <vector>

namespace tokenworks::bench {

enum class FileWork : std::uint8_t { log_write, log_sync, base_write, base_sync };

struct FileTime {
  std::int64_t begun_ns = 0, ended_ns = 0;           // CLOCK_MONOTONIC; writes without a pause between them are one
  FileWork work = FileWork::log_write;
  std::int64_t calls = 0;
};

// Registers it and returns its name.
const char* timed_vfs();
// What the calling thread noted since it last asked.
std::vector<FileTime> take_file_times();
// What all threads but the calling one noted since they were last asked.
std::vector<FileTime> take_others_file_times();

}  // namespace tokenworks::bench
