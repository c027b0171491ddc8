#include "tokenworks/trust/server_key.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace tokenworks::trust {
namespace {

constexpr std::size_t kBytes = 32;

Error refused(const std::string& path, const std::string& what) {
  return error(Errc::io, path + ": cannot " + what + ": " + std::strerror(errno));
}

Result<> create(const std::string& path) {
  std::array<std::uint8_t, kBytes> secret;
  random_bytes(secret);
  const std::string text = hex(secret) + "\n";
  const std::string temporary = path + ".new";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return refused(path, "create");
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  ::close(fd);
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) return refused(path, "write");
  return {};
}

}  // namespace

Result<ServerKey> ServerKey::open(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) return refused(path, "read");
    if (auto made = create(path); !made) return made.error();
    if (::stat(path.c_str(), &status) != 0) return refused(path, "read");
  }
  if ((status.st_mode & 077) != 0) {
    return error(Errc::io, path + ": other users may read the server's secret; run: chmod 600 " + path);
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return refused(path, "read");
  std::array<char, 2 * kBytes> text;
  const ssize_t got = ::read(fd, text.data(), text.size());
  ::close(fd);
  std::array<std::uint8_t, kBytes> secret;
  if (got != static_cast<ssize_t>(text.size()) || !from_hex(std::string_view(text.data(), text.size()), secret)) {
    return error(Errc::io, path + ": is not a server key of 64 hex digits; restore it from a backup, or remove it to start a new one");
  }
  ServerKey key;
  key.secret_.assign(reinterpret_cast<const char*>(secret.data()), secret.size());
  return key;
}

std::string ServerKey::derive(std::string_view purpose) const {
  const Digest derived = hmac_sha256(secret_, purpose);
  return std::string(reinterpret_cast<const char*>(derived.data()), derived.size());
}

}  // namespace tokenworks::trust
