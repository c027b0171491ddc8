#include "support/fault_vfs_methods.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace tokenworks::test {
namespace {

using Disk = FaultVfs::Disk;

// What stands behind the sqlite3_file that SQLite allocates for us.
struct State {
  Disk* disk = nullptr;
  std::shared_ptr<File> file;
  std::int64_t generation = 0, sync_errors_seen = 0;
  bool is_database = false;
  bool syncs_folder = false;                         // a new journal or log: its first sync syncs the directory as well
  int lock = SQLITE_LOCK_NONE;
  bool mapped = false;
  std::array<int, kShmLocks> shm{};                  // 0 none, 1 shared, 2 exclusive
};
struct Handle {
  sqlite3_file base;
  State* state;
};

State& state_of(sqlite3_file* file) { return *reinterpret_cast<Handle*>(file)->state; }
bool dead(const State& s) { return s.disk->is_dead || s.generation != s.disk->generation; }

int read(sqlite3_file* file, void* into, int amount, sqlite3_int64 offset) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  if (dead(s)) return SQLITE_IOERR_READ;
  const std::string& bytes = s.file->live;
  const auto at = std::min(bytes.size(), static_cast<std::size_t>(offset));
  auto there = std::min(bytes.size() - at, static_cast<std::size_t>(amount));
  if (s.disk->failing_reads > 0) {
    --s.disk->failing_reads;
    // A read that ends early inside a database file is an error as well: reported as short, SQLite would take the
    // missing part for the end of the file and go on with zeros. (Its own VFS reads again until there is nothing more.)
    if (!s.disk->reads_short || s.is_database) return SQLITE_IOERR_READ;
    there = std::min(there, static_cast<std::size_t>(s.disk->random() % static_cast<std::uint64_t>(amount)));
  }
  std::memcpy(into, bytes.data() + at, there);
  if (there == static_cast<std::size_t>(amount)) return SQLITE_OK;
  std::memset(static_cast<char*>(into) + there, 0, static_cast<std::size_t>(amount) - there);
  return SQLITE_IOERR_SHORT_READ;
}

int write(sqlite3_file* file, const void* from, int amount, sqlite3_int64 offset) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  if (dead(s)) return SQLITE_IOERR_WRITE;
  ++s.disk->write_count;
  const auto end = static_cast<std::size_t>(offset) + static_cast<std::size_t>(amount);
  if (s.disk->is_full && end > s.file->live.size()) return SQLITE_FULL;
  PendingWrite made{false, offset, std::string(static_cast<const char*>(from), static_cast<std::size_t>(amount))};
  apply_write(s.file->live, made);
  s.file->pending.push_back(std::move(made));
  if (s.disk->cut_write != 0 && s.disk->write_count >= s.disk->cut_write) {
    s.disk->power_off(true);
    return SQLITE_IOERR_WRITE;
  }
  return SQLITE_OK;
}

int truncate(sqlite3_file* file, sqlite3_int64 size) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  if (dead(s)) return SQLITE_IOERR_TRUNCATE;
  PendingWrite made{true, size, {}};
  apply_write(s.file->live, made);
  s.file->pending.push_back(std::move(made));
  return SQLITE_OK;
}

int sync(sqlite3_file* file, int) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  if (dead(s)) return SQLITE_IOERR_FSYNC;
  ++s.disk->sync_count;
  if (s.disk->cut_sync != 0 && s.disk->sync_count >= s.disk->cut_sync) {
    s.disk->power_off(true);
    return SQLITE_IOERR_FSYNC;
  }
  std::int64_t& failing = s.is_database && s.disk->failing_database_syncs > 0 ? s.disk->failing_database_syncs : s.disk->failing_syncs;
  if (failing > 0) {                                 // the pages are clean afterwards and will never be written again
    --failing;
    s.file->pending.clear();
    ++s.file->sync_errors;
  }
  if (s.sync_errors_seen != s.file->sync_errors) {
    s.sync_errors_seen = s.file->sync_errors;
    return SQLITE_IOERR_FSYNC;
  }
  for (const PendingWrite& made : s.file->pending) apply_write(s.file->durable, made);
  s.file->pending.clear();
  if (s.syncs_folder) s.disk->deleted.clear();
  s.syncs_folder = false;
  return SQLITE_OK;
}

int file_size(sqlite3_file* file, sqlite3_int64* size) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  if (dead(s)) return SQLITE_IOERR_FSTAT;
  *size = static_cast<sqlite3_int64>(s.file->live.size());
  return SQLITE_OK;
}

void drop_locks(State& s, int level) {
  File& f = *s.file;
  if (s.lock >= SQLITE_LOCK_EXCLUSIVE && level < SQLITE_LOCK_EXCLUSIVE) --f.exclusive;
  if (s.lock >= SQLITE_LOCK_PENDING && level < SQLITE_LOCK_PENDING) --f.pending_lock;
  if (s.lock >= SQLITE_LOCK_RESERVED && level < SQLITE_LOCK_RESERVED) --f.reserved;
  if (s.lock >= SQLITE_LOCK_SHARED && level < SQLITE_LOCK_SHARED) --f.shared;
  s.lock = std::min(s.lock, level);
}

int lock_file(sqlite3_file* file, int level) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  if (dead(s)) return SQLITE_IOERR_LOCK;
  File& f = *s.file;
  if (s.lock >= level) return SQLITE_OK;
  if (level == SQLITE_LOCK_SHARED) {
    if (f.pending_lock > 0 || f.exclusive > 0) return SQLITE_BUSY;
    ++f.shared;
  } else if (level == SQLITE_LOCK_RESERVED) {
    if (f.reserved > 0) return SQLITE_BUSY;
    ++f.reserved;
  } else {
    if (s.lock < SQLITE_LOCK_RESERVED) {
      if (f.reserved > 0) return SQLITE_BUSY;
      ++f.reserved;
      s.lock = SQLITE_LOCK_RESERVED;
    }
    if (s.lock < SQLITE_LOCK_PENDING) {
      ++f.pending_lock;
      s.lock = SQLITE_LOCK_PENDING;
    }
    if (level == SQLITE_LOCK_EXCLUSIVE) {
      if (f.shared > 1) return SQLITE_BUSY;
      ++f.exclusive;
    }
  }
  s.lock = level;
  return SQLITE_OK;
}

int unlock_file(sqlite3_file* file, int level) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  drop_locks(s, level);
  return SQLITE_OK;
}

int check_reserved(sqlite3_file* file, int* held) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  *held = s.file->reserved > 0 ? 1 : 0;
  return SQLITE_OK;
}

int file_control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int sector_size(sqlite3_file*) { return kSector; }
// As SQLite's own VFS claims by default: a torn write never touches bytes outside its range.
int characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

int shm_map(sqlite3_file* file, int region, int size, int extend, void volatile** into) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  *into = nullptr;
  if (dead(s)) return SQLITE_IOERR_SHMMAP;
  File& f = *s.file;
  if (!s.mapped) {
    s.mapped = true;
    if (f.region_users++ == 0) f.regions.clear();    // the first user finds nothing and recovers the log
  }
  const auto at = static_cast<std::size_t>(region);
  if (at >= f.regions.size() && extend == 0) return SQLITE_OK;
  while (at >= f.regions.size())
    f.regions.push_back(std::make_unique<std::uint64_t[]>(static_cast<std::size_t>(size) / 8));
  *into = f.regions[at].get();
  return SQLITE_OK;
}

void drop_shm_lock(State& s, int slot) {
  const auto i = static_cast<std::size_t>(slot);
  if (s.shm[i] == 1) --s.file->shm_shared[i];
  if (s.shm[i] == 2) --s.file->shm_exclusive[i];
  s.shm[i] = 0;
}

int shm_lock(sqlite3_file* file, int first, int count, int flags) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  File& f = *s.file;
  if ((flags & SQLITE_SHM_UNLOCK) != 0) {
    for (int i = first; i < first + count; ++i) drop_shm_lock(s, i);
    return SQLITE_OK;
  }
  if (dead(s)) return SQLITE_IOERR_SHMLOCK;
  const bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
  for (int i = first; i < first + count; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (s.shm[k] != 0) continue;
    if (f.shm_exclusive[k] > 0 || (exclusive && f.shm_shared[k] > 0)) return SQLITE_BUSY;
  }
  for (int i = first; i < first + count; ++i) {
    const auto k = static_cast<std::size_t>(i);
    if (s.shm[k] != 0) continue;
    s.shm[k] = exclusive ? 2 : 1;
    ++(exclusive ? f.shm_exclusive : f.shm_shared)[k];
  }
  return SQLITE_OK;
}

void shm_barrier(sqlite3_file* file) { std::lock_guard lock(state_of(file).disk->mutex); }

int shm_unmap(sqlite3_file* file, int) {
  State& s = state_of(file);
  std::lock_guard lock(s.disk->mutex);
  if (!s.mapped) return SQLITE_OK;
  for (int i = 0; i < kShmLocks; ++i) drop_shm_lock(s, i);
  s.mapped = false;
  --s.file->region_users;
  return SQLITE_OK;
}

int close(sqlite3_file* file) {
  State* s = reinterpret_cast<Handle*>(file)->state;
  shm_unmap(file, 0);
  {
    std::lock_guard lock(s->disk->mutex);
    drop_locks(*s, SQLITE_LOCK_NONE);
  }
  delete s;
  return SQLITE_OK;
}

const sqlite3_io_methods kMethods = {
    2, close, read, write, truncate, sync, file_size, lock_file, unlock_file, check_reserved, file_control,
    sector_size, characteristics, shm_map, shm_lock, shm_barrier, shm_unmap, nullptr, nullptr};

Disk& disk_of(sqlite3_vfs* vfs) { return *static_cast<Disk*>(vfs->pAppData); }

int open(sqlite3_vfs* vfs, const char* path, sqlite3_file* into, int flags, int* flags_out) {
  auto* handle = reinterpret_cast<Handle*>(into);
  handle->base.pMethods = nullptr;
  Disk& disk = disk_of(vfs);
  std::lock_guard lock(disk.mutex);
  if (disk.is_dead) return SQLITE_CANTOPEN;
  std::shared_ptr<File> file;
  const bool is_new = path != nullptr && !disk.files.contains(path);
  if (path == nullptr) {
    file = std::make_shared<File>();                 // a temporary file
  } else if (const auto found = disk.files.find(path); found != disk.files.end()) {
    file = found->second;
  } else {
    if ((flags & SQLITE_OPEN_CREATE) == 0 || disk.is_full) return SQLITE_CANTOPEN;
    file = disk.files[path] = std::make_shared<File>();
  }
  handle->state = new State{&disk, file, disk.generation, file->sync_errors};
  handle->state->is_database = (flags & SQLITE_OPEN_MAIN_DB) != 0;
  handle->state->syncs_folder = is_new && (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL)) != 0;
  handle->base.pMethods = &kMethods;
  if (flags_out != nullptr) *flags_out = flags;
  return SQLITE_OK;
}

int remove(sqlite3_vfs* vfs, const char* path, int sync_folder) {
  Disk& disk = disk_of(vfs);
  std::lock_guard lock(disk.mutex);
  if (disk.is_dead) return SQLITE_IOERR_DELETE;
  const auto found = disk.files.find(path);
  if (found == disk.files.end()) return SQLITE_IOERR_DELETE_NOENT;
  disk.deleted[path] = found->second;
  disk.files.erase(found);
  if (sync_folder != 0) disk.deleted.clear();
  return SQLITE_OK;
}

int access(sqlite3_vfs* vfs, const char* path, int, int* there) {
  Disk& disk = disk_of(vfs);
  std::lock_guard lock(disk.mutex);
  if (disk.is_dead) return SQLITE_IOERR_ACCESS;
  const auto found = disk.files.find(path);
  *there = found != disk.files.end() ? 1 : 0;
  return SQLITE_OK;
}

int full_path(sqlite3_vfs*, const char* path, int size, char* into) {
  sqlite3_snprintf(size, into, "%s", path);
  return SQLITE_OK;
}

int randomness(sqlite3_vfs* vfs, int amount, char* into) {
  Disk& disk = disk_of(vfs);
  std::lock_guard lock(disk.mutex);
  for (int i = 0; i < amount; ++i) into[i] = static_cast<char>(disk.random());
  return amount;
}

// A waiting SQLite retries at once: another thread of the test holds the lock for microseconds.
int sleep(sqlite3_vfs* vfs, int microseconds) {
  auto* real = sqlite3_vfs_find(nullptr);
  (void)vfs;
  return real->xSleep(real, std::min(microseconds, 200));
}

int current_time(sqlite3_vfs*, sqlite3_int64* ms) {
  *ms = 210866760000000 + 1'700'000'000'000;         // a fixed day; the ledger asks its own clock
  return SQLITE_OK;
}

int last_error(sqlite3_vfs*, int, char*) { return 0; }

}  // namespace

void register_vfs(Disk& disk) {
  auto* vfs = new sqlite3_vfs{};
  vfs->iVersion = 2;
  vfs->szOsFile = sizeof(Handle);
  vfs->mxPathname = 512;
  vfs->zName = disk.name.c_str();
  vfs->pAppData = &disk;
  vfs->xOpen = open;
  vfs->xDelete = remove;
  vfs->xAccess = access;
  vfs->xFullPathname = full_path;
  vfs->xRandomness = randomness;
  vfs->xSleep = sleep;
  vfs->xGetLastError = last_error;
  vfs->xCurrentTimeInt64 = current_time;
  sqlite3_vfs_register(vfs, 0);
  disk.vfs = vfs;
}

void unregister_vfs(Disk& disk) {
  auto* vfs = static_cast<sqlite3_vfs*>(disk.vfs);
  sqlite3_vfs_unregister(vfs);
  delete vfs;
}

}  // namespace tokenworks::test
