#pragma once
// FaultVfs: a disk in memory behind SQLite's VFS interface that fails as real disks do. It forgets what was not synced
// when the power goes (each 512-byte sector of an unsynced write survives or not on its own), refuses writes when full,
// fails syncs the way Linux does (the dirty pages are dropped, every open handle learns of it once), returns read
// errors and short reads. Everything random follows from the seed. Any thread; lives longer than all connections over
// it.
#include <cstdint>
#include <memory>
#include <string>

namespace tokenworks::test {

class FaultVfs {
 public:
  explicit FaultVfs(std::uint64_t seed);             // registers itself with SQLite under a name of its own
  ~FaultVfs();
  FaultVfs(const FaultVfs&) = delete;
  FaultVfs& operator=(const FaultVfs&) = delete;
  const std::string& name() const;

  // The power goes at the n-th sync (write) from now, counted from 1: that sync does not happen, and from then on every
  // call on the disk fails until power_on(). 0: never.
  void cut_at_sync(std::int64_t n);
  void cut_at_write(std::int64_t n);
  void cut_now();
  // The process dies at once, the machine does not: nothing written is lost.
  void kill_now();
  bool dead() const;
  // After a cut or kill: what the platters hold, with fresh locks and shared memory. All old handles stay dead.
  void power_on();

  void fail_syncs(std::int64_t n);                   // the next n syncs fail
  void fail_database_syncs(std::int64_t n);          // the next n syncs of a database file, not of its log
  void fail_reads(std::int64_t n, bool short_read);  // the next n reads fail, as errors or as short reads
  void set_full(bool full);                          // no file can grow

  std::int64_t syncs() const;                        // since construction
  std::int64_t writes() const;
  // Direct access to a file's bytes, for tests that damage them.
  std::string contents(const std::string& path) const;

  struct Disk;

 private:
  std::unique_ptr<Disk> disk_;
};

}  // namespace tokenworks::test
