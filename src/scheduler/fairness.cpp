// The virtual counters. A flow that is left work for want of step budget is *backlogged*; the tier's virtual time `floor`
// is the lowest counter of its backlogged flows, or, when there are none, the highest counter of all. It never falls. Every
// other flow counts as standing at least there, so nobody saves up service it had no use for, and nobody is in debt for
// service that cost no one else anything. See docs/scheduling.md for the bound this gives.
#include <algorithm>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {

Micro Scheduler::State::effective(const Flow& flow) const { return std::max(flow.v, tiers[flow.tier].floor); }
Micro Scheduler::State::effective(const TierState& tier) const { return std::max(tier.v, tiers_floor); }

void Scheduler::State::add_live(FlowId id) {
  Flow& flow = flows[id];
  ++live;
  if (flow.live++ > 0) return;
  TierState& tier = tiers[flow.tier];
  flow.v = effective(flow);
  flow.since = serial;
  if (tier.active++ == 0) tier.v = effective(tier);
  tier.active_weight += flow.weight;
  Reservation& r = reservations[flow.tenant];
  if (r.live_flows++ == 0) active_reserved += r.rate;
}

void Scheduler::State::remove_live(FlowId id) {
  Flow& flow = flows[id];
  --live;
  if (--flow.live > 0) return;
  TierState& tier = tiers[flow.tier];
  --tier.active;
  tier.active_weight -= flow.weight;
  Reservation& r = reservations[flow.tenant];
  if (--r.live_flows == 0) active_reserved -= r.rate;
}

void Scheduler::State::charge(FlowId id, std::int64_t cost_micro) {
  if (cost_micro == 0) return;
  Flow& flow = flows[id];
  TierState& tier = tiers[flow.tier];
  const std::int64_t own = cost_micro + flow.rest;
  flow.v = effective(flow) + own / flow.weight;
  flow.rest = own % flow.weight;
  tier.highest = std::max(tier.highest, flow.v);
  if (tier.waiting.contains(id)) tier.waiting.update(id);
  charge_slots(id, cost_micro);
  const std::int64_t whole = cost_micro * kTierScale + tier.rest;
  tier.v = effective(tier) + whole / tier.weight;
  tier.rest = whole % tier.weight;
  tiers_highest = std::max(tiers_highest, tier.v);
}

void Scheduler::State::settle_virtual_time() {
  settle_slots();
  Micro widest = 0, lowest_tier = 0;
  bool any = false;
  for (TierState& tier : tiers) {
    if (!tier.unsatisfied) {
      tier.floor = std::max(tier.floor, tier.highest);
      continue;
    }
    Micro lowest = tier.waiting_unsatisfied ? tier.waiting_from : tier.highest, highest = tier.floor;
    const auto look = [&](FlowId id) {
      const Flow& flow = flows[id];
      if (flow.unsatisfied_step != step || &tiers[flow.tier] != &tier) return;
      lowest = std::min(lowest, effective(flow));
      highest = std::max(highest, effective(flow));
    };
    for (const FlowId id : running_flows) look(id);
    for (const FlowId id : popped) look(id);
    tier.floor = std::max(tier.floor, lowest);
    widest = std::max(widest, highest - tier.floor);
    if (!any || effective(tier) < lowest_tier) lowest_tier = effective(tier);
    any = true;
  }
  tiers_floor = std::max(tiers_floor, any ? lowest_tier : tiers_highest);

  const double most = static_cast<double>(budget_tokens * options.units.uncached_micro + slots * options.units.output_micro +
                                          options.context_tokens * options.units.cached_micro);
  show(static_cast<double>(widest) / 1e6, 2 * (static_cast<double>(gap_micro) + most) / 1e6);
}

void Scheduler::State::show(double gap, double bound) {
  constexpr std::int64_t kHalf = 30'000'000'000;
  if (now - shown_since >= kHalf) {
    shown_before = now - shown_since < 2 * kHalf ? shown : Shown{};
    shown = {};
    shown_since = now;
  }
  shown.gap = std::max(shown.gap, gap);
  shown.bound = std::max(shown.bound, bound);
}

std::int64_t Scheduler::State::share(const Flow& flow, std::int64_t whole) const {
  const TierState& own = tiers[flow.tier];
  std::int64_t weights = 0;
  for (const TierState& tier : tiers) weights += tier.active > 0 ? tier.weight : 0;
  if (weights == 0 || own.active_weight == 0) return whole;
  const double reserved = reserved_share();
  if (reserved == 0) return whole * own.weight / weights * flow.weight / own.active_weight;
  const Reservation& r = reservations[flow.tenant];
  const auto bought = static_cast<std::int64_t>(static_cast<double>(whole) * reserved * static_cast<double>(r.rate) /
                                                static_cast<double>(active_reserved * std::max(r.live_flows, 1)));
  const auto rest = static_cast<std::int64_t>(static_cast<double>(whole) * (1 - reserved));
  return bought + rest * own.weight / weights * flow.weight / own.active_weight;
}

}  // namespace tokenworks::scheduler
