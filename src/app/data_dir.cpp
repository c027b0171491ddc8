#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tokenworks/app/plant.hpp"

namespace tokenworks::app {

Result<std::unique_ptr<DataDirLock>> DataDirLock::take(const std::string& data_dir, bool& taken) {
  taken = false;
  std::error_code failed;
  if (!std::filesystem::exists(data_dir, failed)) {
    std::filesystem::create_directories(data_dir, failed);
    if (failed) return error(Errc::io, data_dir + ": cannot create the data directory: " + failed.message());
    ::chmod(data_dir.c_str(), 0700);
  }
  const std::string path = data_dir + "/lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    const bool denied = errno == EACCES || errno == EPERM;
    return error(Errc::io, path + ": cannot open: " + std::strerror(errno) + (denied ? "; run this as the user who owns " + data_dir : ""));
  }
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    taken = errno == EWOULDBLOCK;
    const Error e = error(Errc::io, path + (taken ? ": another tokenworks process uses this data directory" : ": cannot lock: ") +
                                        (taken ? "" : std::strerror(errno)));
    ::close(fd);
    return e;
  }
  return std::unique_ptr<DataDirLock>(new DataDirLock(fd));
}

DataDirLock::~DataDirLock() { ::close(fd_); }

}  // namespace tokenworks::app
