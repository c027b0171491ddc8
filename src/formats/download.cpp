#include "formats/download.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tokenworks/base/byte_source.hpp"
#include "tokenworks/base/crypto.hpp"
#include "tokenworks/formats/inspect.hpp"

namespace tokenworks::formats {
namespace {

using Steady = std::chrono::steady_clock;
constexpr auto kProgressEvery = std::chrono::milliseconds(100);

Error system_error(const std::string& path, const char* what) {
  return error(Errc::io, path + ": cannot " + what + ": " + std::strerror(errno));
}

// A bare file name stands in the working directory.
std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// The .part file: opened, locked, at its end. One download at a time per target, also across processes.
class Part {
 public:
  ~Part() {
    if (fd_ >= 0) close(fd_);
  }
  Result<> open(const std::string& path) {
    path_ = path;
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) return system_error(path, "create");
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) return error(Errc::io, path + ": another process is downloading this file");
    struct stat status {};
    if (fstat(fd_, &status) != 0) return system_error(path, "stat");
    size_ = static_cast<std::uint64_t>(status.st_size);
    return {};
  }
  std::uint64_t size() const { return size_; }
  Result<> empty() {
    if (ftruncate(fd_, 0) != 0) return system_error(path_, "empty");
    size_ = 0;
    return {};
  }
  Result<> append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return system_error(path_, "write");
      size_ += static_cast<std::uint64_t>(n);
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return {};
  }
  Result<> finish(const std::string& target) {       // durable before it has its name
    if (fsync(fd_) != 0) return system_error(path_, "sync");
    if (rename(path_.c_str(), target.c_str()) != 0) return system_error(target, "rename to");
    return {};
  }

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t n = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

// "bytes 100-199/200" -> {100, 200}; the total may be "*".
struct ContentRange {
  std::uint64_t begin = 0, total = 0;
};
std::optional<ContentRange> content_range(std::string_view header) {
  if (!header.starts_with("bytes ")) return std::nullopt;
  header.remove_prefix(6);
  const std::size_t dash = header.find('-'), slash = header.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || dash > slash) return std::nullopt;
  const auto begin = number(header.substr(0, dash));
  if (!begin) return std::nullopt;
  return ContentRange{*begin, number(header.substr(slash + 1)).value_or(0)};
}

std::string read_tag(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string tag;
  std::getline(in, tag);
  return tag;
}

// A strong validator that If-Range accepts: an entity tag, or the date of the last change.
std::string validator(const HttpAnswer& answer) {
  const std::string tag = answer.header("etag");
  if (!tag.empty() && !tag.starts_with("W/")) return tag;
  return answer.header("last-modified");
}

class Running {
 public:
  Running(Fetcher& fetcher, const Download& what, const OnProgress& on_progress)
      : fetcher_(fetcher), what_(what), on_progress_(on_progress), tag_path_(what.target + ".part.tag") {}

  Result<std::uint64_t> run() {
    const std::string part_path = what_.target + ".part";
    if (auto ok = part_.open(part_path); !ok) return ok.error();
    std::error_code ignored;
    if (what_.immutable && std::filesystem::exists(what_.target, ignored)) {   // another process finished it meanwhile
      std::filesystem::remove(part_path, ignored);
      return std::uint64_t{0};
    }
    started_ = Steady::now();
    if (auto all = fetch_all(); !all) {
      if (part_.size() == 0) remove_part(part_path);   // nothing to go on from
      return all.error();
    }
    if (auto ok = verify(part_path); !ok) {
      remove_part(part_path);
      return ok.error();
    }
    if (auto ok = part_.finish(what_.target); !ok) return ok.error();
    std::filesystem::remove(tag_path_, ignored);
    report(true);
    return fetched_;
  }

 private:
  Error cancelled() const { return error(Errc::cancelled, what_.shown + ": stopped; the next run goes on from here"); }

  void remove_part(const std::string& part_path) const {
    std::error_code ignored;
    std::filesystem::remove(part_path, ignored);
    std::filesystem::remove(tag_path_, ignored);
  }

  Result<> fetch_all() {
    for (int attempt = 1;; ++attempt) {
      auto once = fetch_rest();
      if (once) return {};
      if (once.error().code != Errc::io || final_ || attempt >= what_.attempts) return once.error();
      if (!wait(attempt)) return cancelled();
    }
  }

  Result<> fetch_rest() {
    std::vector<std::string> headers;
    const std::string tag = read_tag(tag_path_);
    const bool provable = what_.immutable || !what_.sha256.empty();  // a rest that does not fit would be found out
    if (part_.size() > 0 && !provable && tag.empty()) {
      if (auto ok = part_.empty(); !ok) return ok.error();
    }
    if (part_.size() > 0 && what_.size > 0 && part_.size() == what_.size) return {};
    if (part_.size() > 0) {
      headers.push_back("Range: bytes=" + std::to_string(part_.size()) + "-");
      if (!what_.immutable && !tag.empty()) headers.push_back("If-Range: " + tag);
    }
    failure_.reset();
    final_ = false;
    const Fetcher::Sink sink{[&](const HttpAnswer& head) { return begin(head); },
                             [&](std::string_view bytes) { return take(bytes); }, [&] { return report(false); }};
    auto answer = fetcher_.download(what_.url, headers, sink);
    if (failure_) return *failure_;
    if (!answer) return answer.error().code == Errc::cancelled ? cancelled() : answer.error();
    if (answer->status == 416 && part_.size() > 0) {                // our part is as long as the file, or longer
      const auto range = answer->header("content-range");
      if (range == "bytes */" + std::to_string(part_.size())) return {};
      if (auto ok = part_.empty(); !ok) return ok.error();
      return error(Errc::io, what_.shown + ": the server has less than was fetched before; starting again");
    }
    if (answer->status / 100 != 2) {
      final_ = answer->status / 100 == 4 && answer->status != 408 && answer->status != 429;
      return refusal(*answer, false);
    }
    if (total_ > 0 && part_.size() < total_) {
      return error(Errc::io,
                   fmt::format("{}: the connection ended after {} of {} bytes", what_.shown, part_.size(), total_));
    }
    return {};
  }

  bool begin(const HttpAnswer& head) {
    const auto fail = [&](Error e, bool final) { return failure_ = std::move(e), final_ = final, false; };
    const auto length = number(head.header("content-length"));
    if (head.status == 206) {
      const auto range = content_range(head.header("content-range"));
      if (!range || range->begin != part_.size() || (range->total > 0 && range->total < range->begin)) {
        part_.empty();
        return fail(error(Errc::io, what_.shown + ": the server answered another range than was asked for"), false);
      }
      total_ = range->total;
    } else {                                                        // the whole file, asked for or not
      if (part_.size() > 0) {
        if (auto ok = part_.empty(); !ok) return fail(ok.error(), true);
      }
      total_ = length.value_or(0);
    }
    if (total_ == 0) total_ = what_.size;
    if (what_.size > 0 && total_ != what_.size) {
      return fail(error(Errc::bad_file, fmt::format("{}: the server offers {} bytes; {} were announced", what_.shown,
                                                    total_, what_.size)),
                  true);
    }
    std::error_code ec;
    const auto space = std::filesystem::space(folder_of(what_.target), ec);
    if (!ec && total_ > part_.size() && space.available < total_ - part_.size()) {
      return fail(error(Errc::io, fmt::format("{}: needs {} and the disk has {} free", what_.target,
                                              format_bytes(total_ - part_.size()), format_bytes(space.available))),
                  true);
    }
    if (!what_.immutable) std::ofstream(tag_path_, std::ios::binary) << validator(head) << '\n';
    return true;
  }

  bool take(std::string_view bytes) {
    if (total_ > 0 && bytes.size() > total_ - part_.size()) {
      return failure_ = error(Errc::bad_file, what_.shown + ": the server sends more than it announced"), final_ = true,
             false;
    }
    if (auto ok = part_.append(bytes); !ok) return failure_ = ok.error(), final_ = true, false;
    fetched_ += bytes.size();
    return report(false);
  }

  // False when the caller wants to stop.
  bool report(bool at_end) {
    const auto now = Steady::now();
    if (!on_progress_ || (!at_end && now - reported_ < kProgressEvery)) return !stopped_;
    reported_ = now;
    PullProgress p{.file = what_.shown,
                   .bytes = part_.size(),
                   .total = std::max(total_, what_.size),
                   .index = what_.index,
                   .count = what_.count};
    const double seconds = std::chrono::duration<double>(now - started_).count();
    if (seconds > 0) p.bytes_per_second = static_cast<double>(fetched_) / seconds;
    if (p.total >= p.bytes && p.bytes_per_second > 0) {
      p.seconds_left = static_cast<double>(p.total - p.bytes) / p.bytes_per_second;
    }
    if (!on_progress_(p)) stopped_ = true;
    return !stopped_;
  }

  bool wait(int attempt) {
    const auto until =
        Steady::now() + std::chrono::milliseconds(what_.retry_delay_ms) * (1 << std::min(attempt - 1, 6));
    while (Steady::now() < until) {
      std::this_thread::sleep_for(std::min<Steady::duration>(kProgressEvery, until - Steady::now()));
      if (!report(false)) return false;
    }
    return true;
  }

  Result<> verify(const std::string& path) {
    const auto compare = [&](const Result<std::string>& got, const std::string& wanted, const char* kind) -> Result<> {
      if (!got) return got.error();
      if (*got == wanted) return {};
      return error(Errc::bad_file, fmt::format("{}: its {} is {}, expected was {}; what was fetched is deleted",
                                               what_.shown, kind, *got, wanted));
    };
    if (!what_.sha256.empty()) return compare(sha256_of_file(path), what_.sha256, "sha256");
    if (!what_.git_sha1.empty()) return compare(git_sha1_of_file(path), what_.git_sha1, "git blob hash");
    return {};
  }

  Fetcher& fetcher_;
  const Download& what_;
  const OnProgress& on_progress_;
  const std::string tag_path_;
  Part part_;
  std::optional<Error> failure_;
  bool final_ = false;                               // no retry can help
  bool stopped_ = false;
  std::uint64_t total_ = 0, fetched_ = 0;
  Steady::time_point started_{}, reported_{};
};

}  // namespace

Result<std::uint64_t> download_file(Fetcher& fetcher, const Download& what, const OnProgress& on_progress) {
  if (auto ok = make_folders(folder_of(what.target)); !ok) return ok.error();
  return Running(fetcher, what, on_progress).run();
}

Result<std::string> sha256_of_file(const std::string& path) {
  auto file = map_file(path);
  if (!file) return file.error();
  return hex(sha256(std::span((*file)->data(), (*file)->size())));
}

Result<std::string> git_sha1_of_file(const std::string& path) {
  auto file = map_file(path);
  if (!file) return file.error();
  const std::string head = "blob " + std::to_string((*file)->size()) + '\0';
  std::uint8_t digest[20] = {};
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_DigestInit_ex(context, EVP_sha1(), nullptr);
  EVP_DigestUpdate(context, head.data(), head.size());
  EVP_DigestUpdate(context, (*file)->data(), (*file)->size());
  EVP_DigestFinal_ex(context, digest, nullptr);
  EVP_MD_CTX_free(context);
  return hex(digest);
}

Result<> make_folders(const std::string& path) {
  std::error_code ec;
  std::filesystem::create_directories(path, ec);
  if (ec) return error(Errc::io, path + ": cannot create: " + ec.message());
  return {};
}

Error refusal(const HttpAnswer& answer, bool had_token) {
  const std::string why = answer.header("x-error-message");
  const std::string said =
      answer.url + ": HTTP " + std::to_string(answer.status) + (why.empty() ? "" : " (" + why.substr(0, 200) + ")");
  if (answer.status == 401 || answer.status == 403) {
    return error(
        Errc::insufficient_permissions,
        said + (had_token ? ": the token has no access; a gated model needs its licence accepted on its page first"
                          : ": no such repository, or it is private or gated (then set HF_TOKEN)"));
  }
  if (answer.status == 404) return error(Errc::not_found, said + ": there is no such file, repository or revision");
  return error(Errc::io, said);
}

}  // namespace tokenworks::formats
