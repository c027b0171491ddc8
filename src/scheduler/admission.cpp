// From waiting to running: a head is admitted when there is a slot, and room in the cache for all it knows so far, counting
// what running sequences were promised; it takes its first rows in the same step.
#include <algorithm>
#include <cassert>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {
namespace {

constexpr int kMisfitsMax = 8;                       // heads tried per tier and step before admission waits
constexpr std::int64_t kStarvingNs = 30'000'000'000;
constexpr std::uint64_t kRetrySteps = 16;            // a head that did not fit looks again, even if nothing was freed
constexpr int kLookAhead = 8;                        // waiting sequences of a flow compared by what is cached of them
constexpr std::int64_t kQuantumMin = 512;            // rows
constexpr std::int64_t kTrustCostModel = 32;         // observations before its word ends a request

Hash128 next_in_chain(const Hash128& key, const Hash128& chain, const Seq& s, std::int32_t block,
                      std::array<TokenId, kBlockTokens>& tokens) {
  std::array<std::uint64_t, 2 + kBlockTokens / 2> words{chain.low, chain.high};
  for (std::int32_t i = 0; i < kBlockTokens; ++i) {
    tokens[static_cast<std::size_t>(i)] = s.token(block * kBlockTokens + i);
    const auto t = static_cast<std::uint32_t>(tokens[static_cast<std::size_t>(i)]);
    words[static_cast<std::size_t>(2 + i / 2)] |= static_cast<std::uint64_t>(t) << (32 * (i % 2));
  }
  return siphash128(key, words);
}

// Without a prefix cache only the choices of one request share blocks: their chain starts from the first one's serial.
Hash128 chain_root(const Seq& s, bool keep_cached) {
  if (keep_cached) return {};
  return {s.leader_serial != 0 ? s.leader_serial : s.serial, 1};
}

}  // namespace

void Scheduler::State::acquire_hits(Seq& s) {
  const std::uint32_t tenant = flows[s.flow].tenant;
  s.chain = chain_root(s, keep_cached);
  s.published = 0;
  s.publishing = true;
  // One token at least is computed, for its logits.
  const std::int32_t limit = s.computes_all ? 0 : (s.known() - 1) / kBlockTokens;
  std::array<TokenId, kBlockTokens> tokens;
  while (s.published < limit) {
    const Hash128 hash = next_in_chain(tenant_keys[tenant], s.chain, s, s.published, tokens);
    const std::int32_t block = pool.find(tenant, hash, s.published > 0 ? s.blocks.back() : BlockPool::kNone, tokens);
    if (block == BlockPool::kNone) break;
    pool.acquire(block);
    s.blocks.push_back(block);
    s.chain = hash;
    ++s.published;
  }
  s.computed = s.published * kBlockTokens;
}

void Scheduler::State::release_hits(Seq& s) {
  while (!s.blocks.empty()) {
    pool.release(s.blocks.back(), keep_cached);
    s.blocks.pop_back();
  }
  s.computed = 0;
  s.published = 0;
}

void Scheduler::State::publish_full_blocks(Seq& s) {
  const std::uint32_t tenant = flows[s.flow].tenant;
  std::array<TokenId, kBlockTokens> tokens;
  while (s.publishing && (s.published + 1) * kBlockTokens <= s.computed) {
    const auto k = static_cast<std::size_t>(s.published);
    const std::int32_t parent = k > 0 ? s.blocks[k - 1] : BlockPool::kNone;
    const Hash128 hash = next_in_chain(tenant_keys[tenant], s.chain, s, s.published, tokens);
    if (!pool.publish(s.blocks[k], hash, parent, tokens)) {
      // Somebody of the same tenant computed the same content meanwhile: one copy is enough.
      const std::int32_t same = pool.find(tenant, hash, parent, tokens);
      if (same == BlockPool::kNone) {
        s.publishing = false;
        return;
      }
      pool.acquire(same);
      pool.release(s.blocks[k], false);
      s.blocks[k] = same;
    }
    s.chain = hash;
    ++s.published;
  }
}

// A head that has not fitted for long stops every other tenant's admission until it does: what runs ends some day.
bool Scheduler::State::starving_other(Handle h) {
  if (starving == kNoHandle) return false;
  const Seq& s = seq(starving);
  if (s.serial != starving_serial || s.where != Where::waiting) {
    starving = kNoHandle;
    return false;
  }
  return s.flow != seq(h).flow;
}

// When the sequence has to be computed, served alone from then on, to give its first token before its deadline.
std::int64_t Scheduler::State::latest_start(const Seq& s, std::int32_t cached) const {
  if (cost.observed() < kTrustCostModel) return s.deadline_ns;
  const std::int64_t rows = s.known() - cached;
  return s.deadline_ns - static_cast<std::int64_t>(cost.predict({.prefill = rows, .prefill_pairs = rows * cached + rows * rows / 2}));
}

// Work that cannot make its deadline any more is not begun, and not gone on with.
bool Scheduler::State::misses_deadline(const Seq& s, std::int32_t cached) const {
  return s.deadline_ns != 0 && s.output.empty() && now > latest_start(s, cached);
}

// Looked up again after a few steps only: it costs a hash for every block found, and one more.
std::int32_t Scheduler::State::cached_tokens(Seq& s) {
  if (s.probed_step != 0 && step - s.probed_step < kRetrySteps) return s.probed;
  s.probed_step = step;
  const std::uint32_t tenant = flows[s.flow].tenant;
  Hash128 chain = chain_root(s, keep_cached);
  const std::int32_t limit = s.computes_all ? 0 : (s.known() - 1) / kBlockTokens;
  std::int32_t found = 0, parent = BlockPool::kNone;
  std::array<TokenId, kBlockTokens> tokens;
  for (; found < limit; ++found) {
    chain = next_in_chain(tenant_keys[tenant], chain, s, found, tokens);
    parent = pool.find(tenant, chain, parent, tokens);
    if (parent == BlockPool::kNone) break;
  }
  return s.probed = std::max(found * kBlockTokens, s.swapped);
}

// First come, first served; but of the next few, one whose prompt is cached further goes first, as long as the head is not
// delayed by more than a quantum of computed rows. What ran before, or claims room, is not overtaken.
Handle Scheduler::State::next_in_line(const Flow& flow) {
  Seq& head = seq(flow.head);
  if (!keep_cached || flow.waiting < 2 || head.started || head.spared || head.misfit_since != 0 || head.leader != kNoHandle) return flow.head;
  const std::int64_t quantum = std::max(gap_micro / options.units.uncached_micro, kQuantumMin) - head.overtaken;
  Handle best = flow.head;
  std::int32_t best_cached = cached_tokens(head);
  Handle h = head.after;
  for (int looked = 1; looked < kLookAhead && h != kNoHandle; ++looked, h = seq(h).after) {
    Seq& s = seq(h);
    if (s.leader != kNoHandle) continue;
    const std::int32_t cached = cached_tokens(s);
    if (cached > best_cached && s.known() - cached <= quantum) best = h, best_cached = cached;
  }
  return best;
}

Scheduler::State::Admitted Scheduler::State::admit_head(FlowId id) {
  Flow& flow = flows[id];
  TierState& tier = tiers[flow.tier];
  const Handle h = next_in_line(flow), head = flow.head;
  Seq& s = seq(h);
  if (s.preempted_step == step || starving_other(h)) return Admitted::blocked;
  if (s.leader != kNoHandle && seq(s.leader).serial == s.leader_serial && !seq(s.leader).spoke()) {
    return Admitted::blocked;                        // the prompt is being computed: its blocks can be shared in a moment
  }
  const bool slot_free = static_cast<std::int32_t>(running.size()) < slots;
  if (!slot_free && flow.running >= entitled_slots(flow)) return Admitted::blocked;
  const Micro overtaken = std::min(tier.misfit_v, tier.misfit_before);
  if (overtaken != kNobody && flow.v > overtaken + gap_micro) return Admitted::blocked;   // not endlessly
  if (!budget_left()) return Admitted::no_budget;

  const std::int32_t room = pool.available() - promised;
  bool fits = false;
  if (s.blocked_at < 0 || room > s.blocked_at || step % kRetrySteps == 0) {
    acquire_hits(s);
    if (misses_deadline(s, std::max(s.computed, s.swapped))) {
      release_hits(s);
      plan.expired.push_back(h);
      end(h, false);
      return Admitted::dropped;
    }
    const std::int32_t needed = blocks_for(s.known()) - s.published;
    const std::int32_t reserve = std::min(static_cast<std::int32_t>(running.size()), pool.size() / 32);
    const std::int32_t spare = pool.available() - promised - reserve;
    const bool within_share = flow.held + blocks_for(s.known()) <= share(flow, pool.size());
    fits = needed <= spare || (within_share && claim_blocks(id, needed, spare));
    const bool slot = !fits || static_cast<std::int32_t>(running.size()) < slots || claim_slot(id);
    if (!fits || !slot) release_hits(s);
    if (!slot) return Admitted::blocked;
  }
  if (!fits) {
    s.blocked_at = room;
    if (flow.v < tier.misfit_v) tier.misfit_v = flow.v, tier.misfit = h, tier.misfit_serial = s.serial;
    if (++tier.misfits >= kMisfitsMax) tier.waiting_closed = true;
    if (s.misfit_since == 0) s.misfit_since = now;
    if (starving == kNoHandle && now - s.misfit_since > kStarvingNs) starving = h, starving_serial = s.serial;
    return Admitted::blocked;
  }
  claims_known = false;
  if (h != head) seq(head).overtaken += s.known() - s.computed;
  dequeue(h);
  start_running(h);
  swap_in(h);
  return plan_chunk(h) ? Admitted::yes : Admitted::no_budget;
}

}  // namespace tokenworks::scheduler
