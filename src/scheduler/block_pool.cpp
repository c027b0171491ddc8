#include "scheduler/block_pool.hpp"

#include <algorithm>
#include <bit>
#include <cassert>

namespace tokenworks::scheduler {

BlockPool::BlockPool(std::int32_t blocks, std::int32_t hash_bits)
    : hash_bits_(hash_bits), blocks_(static_cast<std::size_t>(blocks)), fullest_(FullestCache{&caches_}) {
  assert(blocks > 0);
  index_.assign(std::bit_ceil(2 * blocks_.size()), kNone);
  free_.reserve(blocks_.size());
  zero_.reserve(blocks_.size());
  for (std::int32_t b = blocks; b-- > 0;) free_.push_back(b);
}

void BlockPool::set_tenant(std::uint32_t tenant, std::uint32_t weight) {
  if (tenant >= caches_.size()) caches_.resize(tenant + 1);
  caches_[tenant].weight = weight;
  if (fullest_.contains(tenant)) fullest_.update(tenant);
}

std::int32_t BlockPool::allocate(std::uint32_t tenant) {
  assert(available() > 0);
  if (free_.empty()) {
    const std::int32_t victim = caches_[fullest_.top()].oldest;
    unlink(victim);
    unindex(victim);
    make_free(victim);
  }
  const std::int32_t block = free_.back();
  free_.pop_back();
  at(block).references = 1;
  at(block).tenant = tenant;
  return block;
}

void BlockPool::acquire(std::int32_t block) {
  if (at(block).references == 0) unlink(block);      // only cached blocks can be found unreferenced
  ++at(block).references;
}

void BlockPool::release(std::int32_t block, bool keep) {
  Block& b = at(block);
  assert(b.references > 0);
  if (--b.references > 0) return;
  if (b.indexed && keep) return link(block);
  if (b.indexed) unindex(block);
  make_free(block);
}

std::int32_t BlockPool::find(std::uint32_t tenant, const Hash128& full_hash, std::int32_t parent,
                             std::span<const TokenId> tokens) const {
  const Hash128 hash = weakened(full_hash);
  const std::uint32_t parent_life = parent == kNone ? 0 : at(parent).life;
  for (std::size_t i = bucket(hash); index_[i] != kNone; i = (i + 1) & (index_.size() - 1)) {
    const Block& b = at(index_[i]);
    if (b.hash == hash && b.tenant == tenant && b.parent == parent && b.parent_life == parent_life &&
        std::equal(tokens.begin(), tokens.end(), b.tokens.begin(), b.tokens.end())) {
      return index_[i];
    }
  }
  return kNone;
}

bool BlockPool::publish(std::int32_t block, const Hash128& hash, std::int32_t parent, std::span<const TokenId> tokens) {
  assert(tokens.size() == kBlockTokens);
  Block& b = at(block);
  assert(b.references > 0 && !b.indexed);
  if (parent != kNone && !at(parent).indexed) return false;
  if (find(b.tenant, hash, parent, tokens) != kNone) return false;
  b.hash = weakened(hash);
  b.parent = parent;
  b.parent_life = parent == kNone ? 0 : at(parent).life;
  std::copy(tokens.begin(), tokens.end(), b.tokens.begin());
  b.indexed = true;
  std::size_t i = bucket(b.hash);
  while (index_[i] != kNone) i = (i + 1) & (index_.size() - 1);
  index_[i] = block;
  return true;
}

void BlockPool::forget(std::int32_t block) {
  if (!at(block).indexed) return;
  unindex(block);
  if (at(block).references == 0) {
    unlink(block);
    make_free(block);
  }
}

Hash128 BlockPool::weakened(Hash128 hash) const {
  if (hash_bits_ >= 128) return hash;
  hash.high = 0;
  if (hash_bits_ < 64) hash.low &= (std::uint64_t{1} << hash_bits_) - 1;
  return hash;
}

std::size_t BlockPool::slot_of(std::int32_t block) const {
  std::size_t i = bucket(at(block).hash);
  while (index_[i] != block) i = (i + 1) & (index_.size() - 1);
  return i;
}

void BlockPool::link(std::int32_t block) {
  Block& b = at(block);
  Cache& cache = caches_[b.tenant];
  b.older = cache.newest;
  b.newer = kNone;
  (cache.newest == kNone ? cache.oldest : at(cache.newest).newer) = block;
  cache.newest = block;
  ++cache.blocks;
  ++cached_;
  if (fullest_.contains(b.tenant)) {
    fullest_.update(b.tenant);
  } else {
    fullest_.push(b.tenant);
  }
}

void BlockPool::unlink(std::int32_t block) {
  Block& b = at(block);
  Cache& cache = caches_[b.tenant];
  (b.older == kNone ? cache.oldest : at(b.older).newer) = b.newer;
  (b.newer == kNone ? cache.newest : at(b.newer).older) = b.older;
  b.older = b.newer = kNone;
  --cache.blocks;
  --cached_;
  if (cache.blocks == 0) {
    fullest_.remove(b.tenant);
  } else {
    fullest_.update(b.tenant);
  }
}

// Linear probing without tombstones: what follows in the run moves up into the hole if its own bucket allows.
void BlockPool::unindex(std::int32_t block) {
  const std::size_t mask = index_.size() - 1;
  std::size_t hole = slot_of(block);
  for (std::size_t i = (hole + 1) & mask; index_[i] != kNone; i = (i + 1) & mask) {
    const std::size_t home = bucket(at(index_[i]).hash);
    if (((i - home) & mask) >= ((i - hole) & mask)) {
      index_[hole] = index_[i];
      hole = i;
    }
  }
  index_[hole] = kNone;
  Block& b = at(block);
  b.indexed = false;
  ++b.life;                                          // its children cannot be reached through it any more
  b.tokens.fill(0);
  b.parent = kNone;
}

void BlockPool::make_free(std::int32_t block) {
  ++at(block).life;
  free_.push_back(block);
  zero_.push_back(block);
}

std::string BlockPool::audit() const {
  std::size_t free_blocks = 0, cached_blocks = 0;
  std::vector<char> is_free(blocks_.size(), 0);
  for (const std::int32_t b : free_) {
    if (is_free[static_cast<std::size_t>(b)]++ != 0) return "block " + std::to_string(b) + " is twice in the free list";
    if (at(b).references != 0 || at(b).indexed) return "block " + std::to_string(b) + " is free and in use";
    ++free_blocks;
  }
  for (std::size_t t = 0; t < caches_.size(); ++t) {
    std::int64_t count = 0;
    for (std::int32_t b = caches_[t].oldest; b != kNone; b = at(b).newer) {
      if (at(b).references != 0 || !at(b).indexed || at(b).tenant != t) {
        return "block " + std::to_string(b) + " is wrongly in the cache list of tenant " + std::to_string(t);
      }
      ++count;
    }
    if (count != caches_[t].blocks) return "tenant " + std::to_string(t) + " miscounts its cached blocks";
    if ((count > 0) != fullest_.contains(static_cast<std::uint32_t>(t))) return "eviction heap misses a tenant";
    cached_blocks += static_cast<std::size_t>(count);
  }
  if (cached_blocks != static_cast<std::size_t>(cached_)) return "cached blocks are miscounted";
  std::size_t used = 0, indexed = 0;
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    used += blocks_[b].references > 0;
    indexed += blocks_[b].indexed;
    if (blocks_[b].indexed && index_[slot_of(static_cast<std::int32_t>(b))] != static_cast<std::int32_t>(b)) {
      return "an indexed block is not found";
    }
  }
  if (used + free_blocks + cached_blocks != blocks_.size()) return "blocks are not conserved";
  const auto entries = index_.size() - static_cast<std::size_t>(std::count(index_.begin(), index_.end(), kNone));
  if (entries != indexed) return "the index and its blocks disagree";
  return "";
}

}  // namespace tokenworks::scheduler
