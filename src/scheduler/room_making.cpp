// Making room: preemption. Blocks and slots have weighted shares per flow that may be borrowed; what was borrowed is what
// gets taken back. A sequence is preempted for another tenant's claim at most once in its life (`spared`), and growth takes
// from the spared only when nothing else is left, youngest first: so the oldest spared sequence always finishes.
#include <algorithm>
#include <cassert>
#include <tuple>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {

// Back to its old place in the queue, without its blocks: what is cached of them, or was swapped, is found again at the next
// admission.
void Scheduler::State::preempt(Handle h) {
  Seq& s = seq(h);
  assert(s.where == Where::running);
  if (s.planned >= 0) unplan(s);
  promised -= std::max(0, blocks_for(s.known()) - static_cast<std::int32_t>(s.blocks.size()));
  swap_out(s);
  stop_running(h, keep_cached);
  s.computed = 0;
  s.spared = true;
  s.preempted_step = step;
  if (s.paused) {
    s.where = Where::parked;
    ++parked;
  } else {
    enqueue(h);
  }
  plan.preempted.push_back(h);
  ++counters.preemptions;
}

std::int64_t Scheduler::State::entitled_slots(const Flow& flow) const {
  return std::max<std::int64_t>(1, share(flow, slots));
}

std::int64_t Scheduler::State::bought_slots(const Flow& flow) const {
  const Reservation& r = reservations[flow.tenant];
  if (r.rate == 0 || active_reserved == 0) return 0;
  return static_cast<std::int64_t>(slots * reserved_share() * static_cast<double>(r.rate) /
                                   static_cast<double>(active_reserved * std::max(r.live_flows, 1)));
}

// Lowest tier, most over its share, paused before working, fewest computed tokens, youngest.
Handle Scheduler::State::victim_for_growth(Handle requester) const {
  const FlowId asks = seqs[requester].flow;
  const auto rank = [&](Handle h) {
    const Seq& s = seqs[h];
    const Flow& flow = flows[s.flow];
    const std::int64_t over = flow.held + (s.flow == asks) - share(flow, pool.size());
    return std::tuple(s.spared, over <= 0, -static_cast<int>(flow.tier), -over, !s.paused, s.computed,
                      ~s.serial);
  };
  Handle best = requester;
  auto best_rank = rank(requester);
  for (const Handle h : running) {
    if (h == requester || seqs[h].blocks.empty()) continue;
    const auto r = rank(h);
    if (r < best_rank) best = h, best_rank = r;
  }
  return best;
}

Handle Scheduler::State::victim_for_claim(FlowId claimant, bool for_slot) const {
  Handle best = kNoHandle;
  std::tuple<int, std::int64_t, bool, std::int32_t, std::uint64_t> best_rank;
  for (const Handle h : running) {
    const Seq& s = seqs[h];
    if (s.flow == claimant || s.spared) continue;
    const Flow& flow = flows[s.flow];
    const std::int64_t over = for_slot ? flow.running - entitled_slots(flow) : flow.held - share(flow, pool.size());
    if (over <= 0) continue;
    if (for_slot && claimant != ~0u && credit_rows == 0 && !cedes(flow, flows[claimant])) continue;
    const std::tuple r(-static_cast<int>(flow.tier), -over, !s.paused, s.computed, ~s.serial);
    if (best == kNoHandle || r < best_rank) best = h, best_rank = r;
  }
  return best;
}

void Scheduler::State::grow_freely(Handle h, std::int32_t tokens) {
  Seq& s = seq(h);
  Flow& flow = flows[s.flow];
  const auto want = static_cast<std::size_t>(blocks_for(tokens));
  while (s.blocks.size() < want && pool.available() > 0) {
    s.blocks.push_back(pool.allocate(flow.tenant));
    ++flow.held;
    --promised;
  }
}

bool Scheduler::State::grow(Handle h, std::int32_t tokens) {
  const auto want = static_cast<std::size_t>(blocks_for(tokens));
  for (;;) {
    grow_freely(h, tokens);
    if (seq(h).blocks.size() >= want) return true;
    const Handle victim = victim_for_growth(h);
    preempt(victim);
    if (victim == h) return false;
  }
}

// For a head that needs more blocks than are to spare but stays within its flow's share: taken from flows over theirs, if
// enough can be had at all.
bool Scheduler::State::claim_blocks(FlowId claimant, std::int32_t needed, std::int32_t spare) {
  std::int64_t reclaimable = 0;
  for (const Handle h : running) {
    const Seq& s = seq(h);
    const Flow& other = flows[s.flow];
    if (s.flow == claimant || s.spared || other.held <= share(other, pool.size())) continue;
    reclaimable += static_cast<std::int64_t>(s.blocks.size());
  }
  if (spare + reclaimable < needed) return false;
  const std::int32_t kept_back = pool.available() - promised - spare;
  while (pool.available() - promised - kept_back < needed) {
    const Handle victim = victim_for_claim(claimant, false);
    if (victim == kNoHandle) return false;           // the others fell to their share on the way
    preempt(victim);
  }
  return true;
}

bool Scheduler::State::claim_slot(FlowId claimant) {
  const Flow& flow = flows[claimant];
  if (flow.running >= entitled_slots(flow)) return false;
  const Handle victim = victim_for_claim(claimant, true);
  if (victim == kNoHandle) return false;
  preempt(victim);
  return true;
}

}  // namespace tokenworks::scheduler
