#include "support/fault_vfs.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <atomic>

#include "support/fault_disk.hpp"
#include "support/fault_vfs_methods.hpp"

namespace tokenworks::test {

void apply_write(std::string& image, const PendingWrite& write) {
  const auto at = static_cast<std::size_t>(write.offset);
  if (write.truncate) {
    if (image.size() > at) image.resize(at);
    return;
  }
  if (image.size() < at + write.bytes.size()) image.resize(at + write.bytes.size(), '\0');
  image.replace(at, write.bytes.size(), write.bytes);
}

void FaultVfs::Disk::power_off(bool lose) {
  is_dead = true;
  lose_unsynced = lose;
}

// Sectors reach the platter in any order, or not: each sector of each pending write is kept or lost by itself. How many
// is drawn per file, so that "all" and "none" happen often too.
void FaultVfs::Disk::settle_file(File& file) {
  std::string image = file.durable;
  const std::uint64_t kept_of_8 = std::array<std::uint64_t, 4>{0, 8, 4, random() % 9}[random() % 4];
  for (const PendingWrite& write : file.pending) {
    if (write.truncate) {
      if (random() % 8 < kept_of_8) apply_write(image, write);
      continue;
    }
    const std::int64_t end = write.offset + static_cast<std::int64_t>(write.bytes.size());
    for (std::int64_t at = write.offset; at < end;) {
      const std::int64_t next = std::min(end, (at / kSector + 1) * kSector);
      if (random() % 8 < kept_of_8) {
        const auto from = static_cast<std::size_t>(at - write.offset);
        apply_write(image, {false, at, write.bytes.substr(from, static_cast<std::size_t>(next - at))});
      }
      at = next;
    }
  }
  file.durable = file.live = std::move(image);
  file.pending.clear();
}

FaultVfs::FaultVfs(std::uint64_t seed) : disk_(std::make_unique<Disk>()) {
  static std::atomic<int> count{0};
  disk_->name = "fault-" + std::to_string(++count);
  disk_->random.seed(seed);
  register_vfs(*disk_);
}

FaultVfs::~FaultVfs() { unregister_vfs(*disk_); }

const std::string& FaultVfs::name() const { return disk_->name; }

void FaultVfs::cut_at_sync(std::int64_t n) {
  std::lock_guard lock(disk_->mutex);
  disk_->cut_sync = n == 0 ? 0 : disk_->sync_count + n;
}
void FaultVfs::cut_at_write(std::int64_t n) {
  std::lock_guard lock(disk_->mutex);
  disk_->cut_write = n == 0 ? 0 : disk_->write_count + n;
}
void FaultVfs::cut_now() {
  std::lock_guard lock(disk_->mutex);
  disk_->power_off(true);
}
void FaultVfs::kill_now() {
  std::lock_guard lock(disk_->mutex);
  disk_->power_off(false);
}
bool FaultVfs::dead() const {
  std::lock_guard lock(disk_->mutex);
  return disk_->is_dead;
}

void FaultVfs::power_on() {
  std::lock_guard lock(disk_->mutex);
  Disk& d = *disk_;
  ++d.generation;
  if (d.is_dead && d.lose_unsynced) {
    for (auto& [path, file] : d.deleted) {           // a deletion that never reached the directory
      if (!d.files.contains(path) && d.random() % 2 == 0) d.files[path] = file;
    }
    for (auto& [path, file] : d.files) d.settle_file(*file);
  }
  d.deleted.clear();
  for (auto& [path, file] : d.files) {               // a new object: old handles keep the old one
    auto fresh = std::make_shared<File>();
    fresh->live = file->live;
    fresh->durable = d.is_dead && d.lose_unsynced ? file->live : file->durable;
    if (!(d.is_dead && d.lose_unsynced)) fresh->pending = file->pending;
    file = std::move(fresh);
  }
  d.is_dead = d.lose_unsynced = d.is_full = false;
  d.cut_sync = d.cut_write = d.failing_syncs = d.failing_database_syncs = d.failing_reads = 0;
}

void FaultVfs::fail_syncs(std::int64_t n) {
  std::lock_guard lock(disk_->mutex);
  disk_->failing_syncs = n;
}
void FaultVfs::fail_database_syncs(std::int64_t n) {
  std::lock_guard lock(disk_->mutex);
  disk_->failing_database_syncs = n;
}
void FaultVfs::fail_reads(std::int64_t n, bool short_read) {
  std::lock_guard lock(disk_->mutex);
  disk_->failing_reads = n;
  disk_->reads_short = short_read;
}
void FaultVfs::set_full(bool full) {
  std::lock_guard lock(disk_->mutex);
  disk_->is_full = full;
}
std::int64_t FaultVfs::syncs() const {
  std::lock_guard lock(disk_->mutex);
  return disk_->sync_count;
}
std::int64_t FaultVfs::writes() const {
  std::lock_guard lock(disk_->mutex);
  return disk_->write_count;
}
std::string FaultVfs::contents(const std::string& path) const {
  std::lock_guard lock(disk_->mutex);
  const auto found = disk_->files.find(path);
  return found == disk_->files.end() ? std::string() : found->second->live;
}

}  // namespace tokenworks::test
