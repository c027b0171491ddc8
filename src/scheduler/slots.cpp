// Who gets a free slot while more sequences wait than slots are free. A sequence keeps its slot to its end, so whoever is
// handed slots is handed service, though no flow may be short of step budget: `v` remembers nothing then. A second counter
// `s` is charged alike, but levelled only up to the lowest flow that waits. Slots go to whoever stands lowest, counting what
// the sequences it runs will still be charged, so that they are spread at once and not in turns. Inside a window of `v`
// any order keeps to the bound (docs/scheduling.md), and only there this one rules. Tiers stand in line in the same way.
#include <algorithm>
#include <tuple>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {
namespace {

constexpr std::size_t kLookTogether = 16;
constexpr int kPassedOverMax = 48;                   // flows in front that stand outside the window
constexpr int kClaimsMax = 16;

}  // namespace

Micro Scheduler::State::in_line(const Flow& flow, int more) const {
  const std::int64_t held = std::max<std::int64_t>(0, flow.running + granted(flow) - bought_slots(flow)) + more;
  return std::max(flow.s, tiers[flow.tier].s_floor) + held * sequence_micro / flow.weight;
}

Micro Scheduler::State::in_line(const TierState& tier, int more) const {
  return std::max(tier.s, tiers_s_floor) + (tier.running + more) * sequence_micro / tier.weight * kTierScale;
}

void Scheduler::State::charge_slots(FlowId id, std::int64_t cost_micro) {
  Flow& flow = flows[id];
  TierState& tier = tiers[flow.tier];
  const std::int64_t own = cost_micro + flow.s_rest;
  flow.s = std::max(flow.s, tier.s_floor) + own / flow.weight;
  flow.s_rest = own % flow.weight;
  tier.s_highest = std::max(tier.s_highest, flow.s);
  if (tier.line.contains(id)) tier.line.update(id);
  const std::int64_t whole = cost_micro * kTierScale + tier.s_rest;
  tier.s = std::max(tier.s, tiers_s_floor) + whole / tier.weight;
  tier.s_rest = whole % tier.weight;
  tiers_s_highest = std::max(tiers_s_highest, tier.s);
}

void Scheduler::State::settle_slots() {
  Micro lowest = kNobody;
  for (TierState& tier : tiers) {
    tier.s_floor = std::max(tier.s_floor, tier.line.empty() ? tier.s_highest : flows[tier.line.top()].s);
    if (!tier.line.empty()) lowest = std::min(lowest, tier.s);
  }
  tiers_s_floor = std::max(tiers_s_floor, lowest == kNobody ? tiers_s_highest : lowest);
}

// May a sequence that runs be preempted for another flow's? Only if its flow would stand behind the other even after that,
// by half a sequence: a slot handed out by the line is not taken back by the next.
bool Scheduler::State::cedes(const Flow& holder, const Flow& claimant) const {
  if (holder.tier == claimant.tier) {
    return in_line(holder, -1) >= in_line(claimant, -granted(claimant)) + sequence_micro / claimant.weight / 2;
  }
  const TierState &from = tiers[holder.tier], &to = tiers[claimant.tier];
  return in_line(from, -1) >= in_line(to) + sequence_micro / to.weight * kTierScale / 2;
}

void Scheduler::State::divide_free_slots(const std::array<bool, 3>& takes_part) {
  std::array<std::int32_t, 3> parts{};
  for (std::int32_t left = free_slots(); left > 0; --left) {
    std::size_t next = tiers.size();
    for (std::size_t t = 0; t < tiers.size(); ++t) {
      if (!takes_part[t] || parts[t] >= tiers[t].waiting_sequences) continue;
      if (next == tiers.size() || in_line(tiers[t], parts[t]) < in_line(tiers[next], parts[next])) next = t;
    }
    if (next == tiers.size()) break;
    ++parts[next];
  }
  for (std::size_t t = 0; t < tiers.size(); ++t) tiers[t].slots_left = takes_part[t] ? parts[t] : INT32_MAX;
}

// Hands the tier's part of the free slots to the flows of the window that stand lowest in line and adds them to the
// candidates; without a free slot the first may try to take one back.
void Scheduler::State::grant_slots(std::size_t t, Micro up_to) {
  TierState& tier = tiers[t];
  if (tier.waiting_closed) return;
  const auto in_window = [&] { return !tier.waiting.empty() && effective(flows[tier.waiting.top()]) <= up_to; };
  while (in_window() && flows[tier.waiting.top()].blocked_step == step) take_from_waiting(tier.waiting.top());   // back by preemption
  const bool claims = free_slots() <= 0;
  if (claims && (!admissions_open(tier) || ++tier.claims > kClaimsMax)) {
    tier.waiting_closed = true;
    return;
  }
  std::int32_t grants = claims ? 1 : std::min(free_slots(), tier.slots_left);
  if (grants <= 0) {
    tier.capped = true;
    return;
  }
  in_front.clear();
  const std::size_t first = out_of_line.size();
  for (int passed_over = 0; in_front.size() < kLookTogether && passed_over < kPassedOverMax && !tier.line.empty();) {
    const FlowId id = tier.line.top();
    tier.line.remove(id);
    out_of_line.push_back(id);
    if (flows[id].blocked_step == step) continue;
    if (effective(flows[id]) <= up_to) in_front.push_back(id); else ++passed_over;
  }
  std::size_t kept = first;
  for (std::size_t i = first; i < out_of_line.size(); ++i) {   // who was blocked stays out
    const FlowId id = out_of_line[i];
    if (flows[id].blocked_step == step) out_of_line[kept++] = id; else tier.line.push(id);
  }
  out_of_line.resize(kept);
  if (in_front.empty() && in_window()) in_front.push_back(tier.waiting.top());   // far behind in line, first in the window
  for (; grants > 0; --grants) {
    FlowId next = ~0u;
    for (const FlowId id : in_front) {
      if (granted(flows[id]) < flows[id].waiting && (next == ~0u || in_line(flows[id]) < in_line(flows[next]))) next = id;
    }
    if (next == ~0u) break;
    Flow& flow = flows[next];
    flow.granted = granted(flow) + 1;
    flow.granted_step = step;
    if (std::find(candidates.begin(), candidates.end(), next) == candidates.end()) candidates.push_back(next);
    if (tier.waiting.contains(next)) take_from_waiting(next);
  }
}

}  // namespace tokenworks::scheduler
