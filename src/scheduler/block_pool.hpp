#pragma once
// BlockPool: who owns each KV block, and the prefix index over full ones.
//
// A block is free, in use (referenced by sequences of one tenant), or cached: unreferenced, its content still indexed. A
// cached block is found again by a keyed hash chain over all tokens up to its end, and only by its own tenant; a hit is
// believed after comparing its stored tokens and the identity of the block before it, so even a colliding hash cannot
// hand out other content. Evicted first: the least recently used block of the tenant with most cached blocks per weight;
// a sequence lets go of its tail first, so chains shrink from the end. Every block that leaves a tenant's hands goes
// through `zero`. Owned by the Scheduler; one thread.
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "scheduler/indexed_heap.hpp"
#include "scheduler/siphash.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/scheduler/scheduler.hpp"

namespace tokenworks::scheduler {

class BlockPool {
 public:
  static constexpr std::int32_t kNone = -1;

  BlockPool(std::int32_t blocks, std::int32_t hash_bits);

  void set_tenant(std::uint32_t tenant, std::uint32_t weight);   // dense indices; before the first block of it

  std::int32_t size() const { return static_cast<std::int32_t>(blocks_.size()); }
  std::int32_t free() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t cached() const { return cached_; }
  std::int32_t available() const { return free() + cached_; }   // what allocate() can hand out
  std::int32_t used() const { return size() - available(); }

  // A block of the tenant's own, referenced once; evicts when none is free. Requires available() > 0.
  std::int32_t allocate(std::uint32_t tenant);
  void acquire(std::int32_t block);                  // one more reference; a cached block is in use again
  // One reference less. Unreferenced: cached if indexed and `keep`, else free.
  void release(std::int32_t block, bool keep);

  // The block after `parent` (kNone: the first) of `tenant` with this content, or kNone. Takes no reference.
  std::int32_t find(std::uint32_t tenant, const Hash128& hash, std::int32_t parent, std::span<const TokenId> tokens) const;
  // Indexes a full block; false when the same content is indexed already (then find() names it) or its parent is gone.
  bool publish(std::int32_t block, const Hash128& hash, std::int32_t parent, std::span<const TokenId> tokens);
  void forget(std::int32_t block);                   // out of the index; free if unreferenced

  std::vector<std::int32_t>& zero() { return zero_; }   // to zero before reuse, drained by plan()
  std::int32_t references(std::int32_t block) const { return blocks_[static_cast<std::size_t>(block)].references; }
  std::uint32_t tenant(std::int32_t block) const { return blocks_[static_cast<std::size_t>(block)].tenant; }
  std::string audit() const;

 private:
  struct Block {
    Hash128 hash;
    std::array<TokenId, kBlockTokens> tokens{};
    std::int32_t references = 0;
    std::uint32_t tenant = 0;
    std::uint32_t life = 0;                          // counts ownerships: a parent of an earlier life is not the same block
    std::int32_t parent = kNone;
    std::uint32_t parent_life = 0;
    bool indexed = false;
    std::int32_t older = kNone, newer = kNone;       // of the tenant's cached blocks
  };
  struct Cache {                                     // one tenant's cached blocks, by last use
    std::int32_t oldest = kNone, newest = kNone;
    std::int64_t blocks = 0;
    std::uint32_t weight = 1;
  };

  Block& at(std::int32_t block) { return blocks_[static_cast<std::size_t>(block)]; }
  const Block& at(std::int32_t block) const { return blocks_[static_cast<std::size_t>(block)]; }
  Hash128 weakened(Hash128 hash) const;
  std::size_t bucket(const Hash128& hash) const { return static_cast<std::size_t>(hash.low) & (index_.size() - 1); }
  std::size_t slot_of(std::int32_t block) const;
  void link(std::int32_t block);
  void unlink(std::int32_t block);
  void unindex(std::int32_t block);
  void make_free(std::int32_t block);

  struct FullestCache {
    const std::vector<Cache>* caches;
    std::int64_t operator()(std::uint32_t tenant) const {
      const Cache& c = (*caches)[tenant];
      return -(c.blocks * 1024 / c.weight);
    }
  };

  std::int32_t hash_bits_;
  std::vector<Block> blocks_;
  std::vector<std::int32_t> free_, zero_;
  std::vector<std::int32_t> index_;                  // open addressing, linear probing, a power of two >= 2 blocks
  std::int32_t cached_ = 0;
  std::vector<Cache> caches_;                        // [tenant]
  IndexedHeap<FullestCache> fullest_;                // tenants that have cached blocks
};

}  // namespace tokenworks::scheduler
