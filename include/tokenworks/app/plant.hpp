#pragma once
// The composition root: constructs a plant top to bottom, runs it until it is told to stop, destroys it in reverse. Used
// by `tokenworks serve`; nothing else constructs a daemon.
#include <memory>
#include <string>

#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::app {

// Exit codes of INTERFACE "Files and process".
inline constexpr int kOk = 0, kCheckFailed = 1, kBadUsage = 2, kUnreachable = 3, kDeviceLost = 70;

const char* version();                               // "0.1.0"
const char* build_id();                              // "0.1.0+<commit>"

// Everything a start would refuse, without starting: the error's message has every mistake, a line each; a line on what
// the files hold where there is none.
Result<std::string> check(const std::string& config_path);
// Serves until SIGTERM or SIGINT (drains; a second one stops fast); SIGHUP reloads. Start-up errors go to stderr: first the
// list of check(). Blocks the signals it handles in the calling thread first: call it before any other thread exists.
int serve(const std::string& config_path);

// Holds <data_dir>/lock for as long as it lives. `taken`: another process (the daemon) has it.
class DataDirLock {
 public:
  static Result<std::unique_ptr<DataDirLock>> take(const std::string& data_dir, bool& taken);
  ~DataDirLock();
  DataDirLock(const DataDirLock&) = delete;
  DataDirLock& operator=(const DataDirLock&) = delete;

 private:
  explicit DataDirLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace tokenworks::app
