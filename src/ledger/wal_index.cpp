#include "ledger/wal_index.hpp"

#include <atomic>

namespace tokenworks::ledger {
namespace {

constexpr int kRegionBytes = 32768, kPageBytesAt = 14, kFramesAt = 16, kFramesCopiedAt = 96;

}  // namespace

WalIndex::WalIndex(const Connection& store) {
  if (sqlite3_file_control(store.raw(), "main", SQLITE_FCNTL_FILE_POINTER, &file_) != SQLITE_OK || file_ == nullptr) return;
  methods_ = file_->pMethods;
  if (methods_ == nullptr || methods_->iVersion < 2 || methods_->xShmMap == nullptr) return;
  void volatile* region = nullptr;
  if (methods_->xShmMap(file_, 0, kRegionBytes, 0, &region) != SQLITE_OK) return;
  region_ = static_cast<unsigned char*>(const_cast<void*>(region));
}

std::uint32_t WalIndex::frames() const {
  return std::atomic_ref(*reinterpret_cast<std::uint32_t*>(region_ + kFramesAt)).load();
}

std::uint32_t WalIndex::page_bytes() const {
  const std::uint32_t size = std::atomic_ref(*reinterpret_cast<std::uint16_t*>(region_ + kPageBytesAt)).load();
  return size == 1 ? 65536 : size;                   // 2^16 does not fit
}

void WalIndex::set_frames_copied(std::uint32_t count) {
  std::atomic_ref(*reinterpret_cast<std::uint32_t*>(region_ + kFramesCopiedAt)).store(count);
}

}  // namespace tokenworks::ledger
