#include "timed_vfs.hpp"

#include <sqlite3.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace tokenworks::bench {
namespace {

constexpr std::int64_t kPauseNs = 20'000;            // two writes closer than this are one run of writes

struct Notes {
  std::mutex mutex;
  std::vector<FileTime> times;
};
std::mutex all_mutex;
std::vector<std::shared_ptr<Notes>> all_notes;

Notes& own_notes() {
  thread_local std::shared_ptr<Notes> own = [] {
    auto made = std::make_shared<Notes>();
    std::lock_guard lock(all_mutex);
    all_notes.push_back(made);
    return made;
  }();
  return *own;
}

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

void note(std::int64_t begun, FileWork work) {
  const std::int64_t ended = now_ns();
  Notes& notes = own_notes();
  std::lock_guard lock(notes.mutex);
  if (!notes.times.empty()) {
    FileTime& last = notes.times.back();
    const bool write = work == FileWork::log_write || work == FileWork::base_write;
    if (write && last.work == work && begun - last.ended_ns < kPauseNs) {
      last.ended_ns = ended;
      ++last.calls;
      return;
    }
  }
  notes.times.push_back({begun, ended, work, 1});
}

struct File {
  sqlite3_file base;
  bool log = false;
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};
File* of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }

const sqlite3_io_methods kMethods = {
    3,
    [](sqlite3_file* f) { auto* r = of(f)->real(); return r->pMethods ? r->pMethods->xClose(r) : SQLITE_OK; },
    [](sqlite3_file* f, void* into, int bytes, sqlite3_int64 at) { auto* r = of(f)->real(); return r->pMethods->xRead(r, into, bytes, at); },
    [](sqlite3_file* f, const void* from, int bytes, sqlite3_int64 at) {
      auto* r = of(f)->real();
      const std::int64_t begun = now_ns();
      const int code = r->pMethods->xWrite(r, from, bytes, at);
      note(begun, of(f)->log ? FileWork::log_write : FileWork::base_write);
      return code;
    },
    [](sqlite3_file* f, sqlite3_int64 bytes) { auto* r = of(f)->real(); return r->pMethods->xTruncate(r, bytes); },
    [](sqlite3_file* f, int flags) {
      auto* r = of(f)->real();
      const std::int64_t begun = now_ns();
      const int code = r->pMethods->xSync(r, flags);
      note(begun, of(f)->log ? FileWork::log_sync : FileWork::base_sync);
      return code;
    },
    [](sqlite3_file* f, sqlite3_int64* bytes) { auto* r = of(f)->real(); return r->pMethods->xFileSize(r, bytes); },
    [](sqlite3_file* f, int lock) { auto* r = of(f)->real(); return r->pMethods->xLock(r, lock); },
    [](sqlite3_file* f, int lock) { auto* r = of(f)->real(); return r->pMethods->xUnlock(r, lock); },
    [](sqlite3_file* f, int* out) { auto* r = of(f)->real(); return r->pMethods->xCheckReservedLock(r, out); },
    [](sqlite3_file* f, int op, void* arg) { auto* r = of(f)->real(); return r->pMethods->xFileControl(r, op, arg); },
    [](sqlite3_file* f) { auto* r = of(f)->real(); return r->pMethods->xSectorSize(r); },
    [](sqlite3_file* f) { auto* r = of(f)->real(); return r->pMethods->xDeviceCharacteristics(r); },
    [](sqlite3_file* f, int page, int bytes, int extend, void volatile** out) { auto* r = of(f)->real(); return r->pMethods->xShmMap(r, page, bytes, extend, out); },
    [](sqlite3_file* f, int at, int n, int flags) { auto* r = of(f)->real(); return r->pMethods->xShmLock(r, at, n, flags); },
    [](sqlite3_file* f) { auto* r = of(f)->real(); r->pMethods->xShmBarrier(r); },
    [](sqlite3_file* f, int remove) { auto* r = of(f)->real(); return r->pMethods->xShmUnmap(r, remove); },
    [](sqlite3_file* f, sqlite3_int64 at, int bytes, void** out) { auto* r = of(f)->real(); return r->pMethods->xFetch(r, at, bytes, out); },
    [](sqlite3_file* f, sqlite3_int64 at, void* page) { auto* r = of(f)->real(); return r->pMethods->xUnfetch(r, at, page); }};

int open_file(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out) {
  auto* real = static_cast<sqlite3_vfs*>(vfs->pAppData);
  File* made = new (file) File{};
  std::memset(made->real(), 0, static_cast<std::size_t>(real->szOsFile));
  made->log = (flags & SQLITE_OPEN_WAL) != 0;
  const int code = real->xOpen(real, name, made->real(), flags, out);
  made->base.pMethods = code == SQLITE_OK ? &kMethods : nullptr;
  if (code != SQLITE_OK && made->real()->pMethods != nullptr) made->real()->pMethods->xClose(made->real());
  return code;
}

}  // namespace

const char* timed_vfs() {
  static sqlite3_vfs vfs = [] {
    sqlite3_vfs* real = sqlite3_vfs_find(nullptr);
    sqlite3_vfs made = *real;                        // everything else the default does, with its own object
    made.zName = "tokenworks-timed";
    made.szOsFile = static_cast<int>(sizeof(File)) + real->szOsFile;
    made.pNext = nullptr;
    made.xOpen = open_file;
    made.pAppData = real;
    return made;
  }();
  static const int registered = sqlite3_vfs_register(&vfs, 0);
  return registered == SQLITE_OK ? vfs.zName : nullptr;
}

std::vector<FileTime> take_file_times() {
  Notes& notes = own_notes();
  std::lock_guard lock(notes.mutex);
  return std::exchange(notes.times, {});
}

std::vector<FileTime> take_others_file_times() {
  Notes* own = &own_notes();
  std::vector<FileTime> all;
  std::lock_guard lock(all_mutex);
  for (const auto& notes : all_notes) {
    if (notes.get() == own) continue;
    std::lock_guard one(notes->mutex);
    all.insert(all.end(), notes->times.begin(), notes->times.end());
    notes->times.clear();
  }
  return all;
}

}  // namespace tokenworks::bench
