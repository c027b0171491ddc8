#include "tokenworks/base/byte_source.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tokenworks {
namespace {

Error out_of_range(const ByteSource& source, std::uint64_t offset, std::uint64_t bytes) {
  return error(Errc::bad_file, source.name() + ": bytes " + std::to_string(offset) + "+" + std::to_string(bytes) +
                                   " are outside the file of " + std::to_string(source.size()) + " bytes");
}

class Mapped final : public ByteSource {
 public:
  Mapped(std::string name, const std::byte* data, std::uint64_t size) : name_(std::move(name)), data_(data), size_(size) {}
  ~Mapped() override {
    if (size_ > 0) munmap(const_cast<std::byte*>(data_), size_);
  }
  const std::string& name() const override { return name_; }
  std::uint64_t size() const override { return size_; }
  const std::byte* data() const override { return data_; }
  Result<> read(std::uint64_t offset, std::span<std::byte> into) const override {
    if (offset > size_ || into.size() > size_ - offset) return out_of_range(*this, offset, into.size());
    if (!into.empty()) std::memcpy(into.data(), data_ + offset, into.size());
    return {};
  }

 private:
  std::string name_;
  const std::byte* data_;
  std::uint64_t size_;
};

class InMemory final : public ByteSource {
 public:
  InMemory(std::string name, std::string bytes) : name_(std::move(name)), bytes_(std::move(bytes)) {}
  const std::string& name() const override { return name_; }
  std::uint64_t size() const override { return bytes_.size(); }
  const std::byte* data() const override { return reinterpret_cast<const std::byte*>(bytes_.data()); }
  Result<> read(std::uint64_t offset, std::span<std::byte> into) const override {
    if (offset > size() || into.size() > size() - offset) return out_of_range(*this, offset, into.size());
    if (!into.empty()) std::memcpy(into.data(), data() + offset, into.size());
    return {};
  }

 private:
  std::string name_;
  std::string bytes_;
};

}  // namespace

Result<std::shared_ptr<const ByteSource>> map_file(const std::string& path) {
  const auto refused = [&](const char* what) {
    return error(Errc::io, path + ": cannot " + what + ": " + std::strerror(errno));
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);   // a pipe without a writer is refused, not waited for
  if (fd < 0) return refused("open");
  struct stat status {};
  if (fstat(fd, &status) != 0) {
    const Error e = refused("stat");
    close(fd);
    return e;
  }
  if (!S_ISREG(status.st_mode)) {
    close(fd);
    return error(Errc::io, path + ": is not a regular file");
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  const void* data = nullptr;
  if (size > 0) {
    data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      const Error e = refused("map");
      close(fd);
      return e;
    }
  }
  close(fd);
  return std::shared_ptr<const ByteSource>(std::make_shared<Mapped>(path, static_cast<const std::byte*>(data), size));
}

std::shared_ptr<const ByteSource> memory_source(std::string name, std::string bytes) {
  return std::make_shared<InMemory>(std::move(name), std::move(bytes));
}

}  // namespace tokenworks
