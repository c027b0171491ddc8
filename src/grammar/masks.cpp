#include "grammar/masks.hpp"

#include <algorithm>

namespace tokenworks::grammar {
namespace {

constexpr std::size_t kWholeBytesMax = 32 << 20;  // of remembered whole masks, per grammar
constexpr std::size_t kLocalBytesMax = 32 << 20;  // of what is remembered of states

void set_bit(std::vector<std::uint32_t>& mask, TokenId id) {
  mask[static_cast<std::size_t>(id) >> 5] |= 1u << (static_cast<std::uint32_t>(id) & 31);
}

std::size_t first_bytes(const ByteSet& set) {
  std::size_t n = 0;
  for (unsigned b = 0; b < 256; ++b) n += set.has(b) ? 1 : 0;
  return n;
}

}  // namespace

Masks::Masks(std::shared_ptr<const Program> program, std::shared_ptr<const Trie> trie)
    : program_(std::move(program)), trie_(std::move(trie)), local_(program_->states.size()) {}

// Walks the subtree below `root` (not root itself) from `from`. accept(node, complete) for every node whose bytes can
// be read; it says whether to go on below.
template <class Accept>
void Masks::descend(Walker& walker, const Position& from, std::uint32_t root, Accept accept) const {
  const std::vector<Trie::Node>& nodes = trie_->nodes();
  struct Level {
    Position position;
    std::size_t frames;
  };
  const std::size_t base = nodes[root].depth;
  std::vector<Level> levels{{from, walker.frames()}};
  for (std::uint32_t i = root + 1; i < nodes[root].end;) {
    const Trie::Node& node = nodes[i];
    const std::size_t depth = node.depth - base;
    if (levels.size() <= depth) levels.emplace_back();
    walker.truncate(levels[depth - 1].frames);
    walker.step(levels[depth - 1].position, node.byte, levels[depth].position);
    levels[depth].frames = walker.frames();
    const Position& now = levels[depth].position;
    if (now.dead()) {
      i = node.end;
      continue;
    }
    accept(i, now.complete);
    i = now.at.empty() ? node.end : i + 1;
  }
  walker.truncate(levels[0].frames);
}

LocalMask Masks::find_local(std::uint32_t state, std::size_t& work) const {
  const std::vector<Trie::Node>& nodes = trie_->nodes();
  LocalMask out;
  std::vector<TokenId> found;
  const auto accept = [&](std::uint32_t i, bool complete) {
    for (std::uint32_t t = nodes[i].token_begin; t < nodes[i].token_end; ++t) found.push_back(trie_->tokens()[t]);
    if (complete && nodes[i].end > i + 1) out.escapes.push_back(i);
  };
  if (program_->states[state].plain) {  // one state at a time: the common case, several times faster
    std::vector<std::uint32_t> at(trie_->longest() + 1, state);
    for (std::uint32_t i = 1; i < nodes.size();) {
      const Trie::Node& node = nodes[i];
      const Program::State& s = program_->states[at[node.depth - 1u]];
      std::uint32_t e = s.byte_begin;
      while (e < s.byte_end && program_->byte_edges[e].high < node.byte) ++e;
      if (e == s.byte_end || program_->byte_edges[e].low > node.byte) {
        i = node.end;
        continue;
      }
      at[node.depth] = program_->byte_edges[e].target;
      accept(i, program_->states[at[node.depth]].final);
      ++i;
    }
  } else {
    Walker walker(*program_);
    walker.allow(work);
    descend(walker, walker.alone(state), 0, accept);
    work = walker.left();
  }
  if (found.size() < trie_->mask_words()) {
    out.few = std::move(found);
  } else {
    out.many.assign(trie_->mask_words(), 0);
    for (const TokenId id : found) set_bit(out.many, id);
  }
  return out;
}

std::shared_ptr<const LocalMask> Masks::local(std::uint32_t state, std::size_t& work) const {
  state = program_->states[state].twin;
  {
    std::lock_guard lock(mutex_);
    if (local_[state] != nullptr) return local_[state];
  }
  const std::uint64_t key = program_->states[state].shared_key;
  std::shared_ptr<const LocalMask> found = key != 0 ? trie_->shared_mask(key) : nullptr;
  if (found == nullptr) {
    found = std::make_shared<const LocalMask>(find_local(state, work));
    if (work == 0) return nullptr;
    if (key != 0) trie_->share_mask(key, found);
  }
  std::lock_guard lock(mutex_);
  if (bytes_ > kLocalBytesMax) {
    std::fill(local_.begin(), local_.end(), nullptr);
    bytes_ = 0;
  }
  if (local_[state] == nullptr) {
    local_[state] = found;
    if (key == 0) bytes_ += found->bytes();
  }
  return local_[state];
}

Masks::Key Masks::key(const Position& position, const Walker& walker) const {
  std::uint64_t low = position.complete ? 7 : 5, high = low;
  for (const Configuration& c : position.at) {  // a sum: the order does not matter
    std::uint64_t x = walker.frame(c.stack).twin_hash * 0x9E3779B97F4A7C15ull + program_->states[c.state].twin;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    low += x ^ x >> 31;
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDull;
    high += x ^ x >> 33;
  }
  return {low, high};
}

std::shared_ptr<const Masks::Mask> Masks::mask(const Position& position, Walker& walker) const {
  const Key k = key(position, walker);
  {
    std::lock_guard lock(mutex_);
    const auto found = whole_.find(k);
    if (found != whole_.end()) return found->second;
  }
  auto mask = std::make_shared<Mask>(trie_->mask_words(), 0);
  const std::vector<Trie::Node>& nodes = trie_->nodes();
  for (const Configuration& c : position.at) {
    std::size_t work = walker.left();
    const std::shared_ptr<const LocalMask> here = local(c.state, work);
    walker.allow(work);
    if (here == nullptr) return nullptr;
    for (const TokenId id : here->few) set_bit(*mask, id);
    for (std::size_t i = 0; i < here->many.size(); ++i) (*mask)[i] |= here->many[i];
    if (c.stack == kBottom || here->escapes.empty()) continue;
    const std::size_t frames = walker.frames();
    const Position after = walker.after(c.stack);
    for (const std::uint32_t root : here->escapes) {
      descend(walker, after, root, [&](std::uint32_t i, bool) {
        for (std::uint32_t t = nodes[i].token_begin; t < nodes[i].token_end; ++t) set_bit(*mask, trie_->tokens()[t]);
      });
    }
    walker.truncate(frames);
    if (walker.exhausted()) return nullptr;
  }
  if (position.complete) {
    for (const TokenId id : trie_->stop_tokens()) set_bit(*mask, id);
  }
  std::lock_guard lock(mutex_);
  const std::size_t size = mask->size() * 4 + 64;
  if ((whole_.size() + 1) * size > kWholeBytesMax) whole_.clear();
  whole_.emplace(k, mask);
  return mask;
}

bool Masks::warm(std::size_t most) const {
  for (std::uint32_t s = 0; s < program_->states.size() && most > 0; ++s) {
    if (program_->states[s].twin != s || first_bytes(program_->states[s].first) < 100) continue;
    std::size_t work = kMaskWork;
    if (local(s, work) == nullptr) return false;
    --most;
  }
  return true;
}

std::size_t Masks::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_ + whole_.size() * (trie_->mask_words() * 4 + 64) + local_.size() * sizeof(local_[0]);
}

}  // namespace tokenworks::grammar
