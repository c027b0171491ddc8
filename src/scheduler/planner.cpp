// Making a plan. Flows are served in windows of their virtual counters: a window reaches from the lowest counter that has
// prompt work up to G above it. Inside a window decodes go first (a stream's next token is worth more than a prompt's next
// chunk), then prompt work, whoever needs least for a token first. The next window opens only if everybody in the one before
// got all it could use: that is the whole fairness rule, and it leaves no budget unused while someone could use it.
#include <algorithm>
#include <cassert>
#include <tuple>
#include <utility>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {
namespace {

constexpr std::int64_t kAlonePrefill = 2;            // step targets a step may take while nobody waits for a next token
constexpr std::int64_t kGapMin = 128;                // tokens
constexpr int kLookTogether = 16;
constexpr std::int32_t kDraftingMax = 4;             // sequences that decode: beyond, a step is no longer bound by memory

}  // namespace

void Scheduler::State::make_plan() {
  ++step;
  plan.items.clear(), plan.expired.clear(), plan.preempted.clear();
  plan.swap_out.clear(), plan.swap_in.clear();
  plan.prefill_tokens = plan.decode_tokens = plan.draft_tokens = 0;
  swap.begin_plan();
  load = {};
  popped.clear(), out_of_line.clear();
  claims_known = false;
  expire();
  for (TierState& tier : tiers) {
    tier.unsatisfied = tier.waiting_unsatisfied = tier.waiting_closed = false;
    tier.misfits = tier.claims = 0;
    tier.capped = false;
    const bool waits = tier.misfit != kNoHandle && seq(tier.misfit).serial == tier.misfit_serial &&
                       seq(tier.misfit).where == Where::waiting;
    tier.misfit_before = waits ? flows[seq(tier.misfit).flow].v : kNobody;   // it may have been charged since
    tier.misfit_v = kNobody;
    tier.misfit = kNoHandle;
  }
  collect();
  size_budget();
  serve_reserved();

  slots_scarce = waiting_total > free_slots();
  std::array<std::size_t, 3> order = {0, 1, 2};      // tiers by their own counters
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tuple(effective(tiers[a]), slots_scarce ? in_line(tiers[a]) : 0, a) <
           std::tuple(effective(tiers[b]), slots_scarce ? in_line(tiers[b]) : 0, b);
  });
  std::array<Micro, 3> up_to;
  Micro lowest_tier = kNobody;
  for (const std::size_t t : order) {
    const Micro lowest = lowest_demand(t, -1);
    up_to[t] = lowest == kNobody ? kNobody : lowest + gap_micro;
    if (lowest != kNobody) lowest_tier = std::min(lowest_tier, effective(tiers[t]));
  }
  const auto waits = [&](std::size_t t) {            // too far above a tier that has prompt work
    return lowest_tier != kNobody && effective(tiers[t]) > lowest_tier + gap_micro;
  };
  if (slots_scarce) divide_free_slots({!waits(0), !waits(1), !waits(2)});
  for (const std::size_t t : order) {
    if (!waits(t)) decode_window(t, -1, up_to[t]);
  }
  for (const std::size_t t : order) {
    if (!waits(t)) prefill_window(t, -1, up_to[t]);
  }
  bool lower_unsatisfied = false;
  for (const std::size_t t : order) {
    if (waits(t) && !lower_unsatisfied) {
      decode_window(t, -1, up_to[t]);
      prefill_window(t, -1, up_to[t]);
    }
    tiers[t].slots_left = INT32_MAX;                 // what other tiers left of their part, too
    if (std::exchange(tiers[t].capped, false)) prefill_window(t, -1, up_to[t]);
    while (!tiers[t].unsatisfied && up_to[t] != kNobody && !(waits(t) && lower_unsatisfied)) {
      const Micro above = up_to[t], lowest = lowest_demand(t, above);
      up_to[t] = lowest == kNobody ? kNobody : lowest + gap_micro;
      decode_window(t, above, up_to[t]);
      prefill_window(t, above, up_to[t]);
    }
    if (tiers[t].unsatisfied || (waits(t) && lower_unsatisfied)) leave_rest(t);
    lower_unsatisfied = lower_unsatisfied || tiers[t].unsatisfied;
  }
  if (!lower_unsatisfied && plan.prefill_tokens == 0) add_drafts();

  for (const FlowId id : popped) {
    TierState& tier = tiers[flows[id].tier];
    if (flows[id].waiting > 0 && !tier.waiting.contains(id)) tier.waiting.push(id);
  }
  for (const FlowId id : out_of_line) {
    TierState& tier = tiers[flows[id].tier];
    if (flows[id].waiting > 0 && !tier.line.contains(id)) tier.line.push(id);
  }
  prefill_backlog = 0;
  for (const Handle h : running) prefill_backlog += std::max(0, seq(h).known() - seq(h).computed - 1);
  prefill_backlog = std::max<std::int64_t>(0, prefill_backlog - plan.prefill_tokens);
  write_tables();
}

void Scheduler::State::expire() {
  while (!deadlines.empty()) {
    const Deadline next = deadlines.front();
    const bool alive = seq(next.handle).serial == next.serial;
    if (alive && next.at > now) break;
    std::pop_heap(deadlines.begin(), deadlines.end(), std::greater<>{});
    deadlines.pop_back();
    if (!alive) continue;
    Seq& s = seq(next.handle);
    if (s.deadline_ns > now && (!s.output.empty() || !misses_deadline(s, s.where == Where::waiting ? cached_tokens(s) : s.computed))) {
      // Early: that was the latest start as of then. What has given a token has until its deadline.
      const std::int64_t start = s.output.empty() ? latest_start(s, s.where == Where::waiting ? s.probed : s.computed) : now;
      deadlines.push_back({start > now ? start : s.deadline_ns, next.handle, next.serial});
      std::push_heap(deadlines.begin(), deadlines.end(), std::greater<>{});
      continue;
    }
    if (!s.output.empty()) learn_answer(std::max(static_cast<double>(s.output.size()), answer_tokens + 2 * answer_spread));
    plan.expired.push_back(next.handle);
    end(next.handle, false);
  }
}

void Scheduler::State::see(FlowId id) {
  Flow& flow = flows[id];
  if (flow.seen_step == step) return;
  flow.seen_step = step;
  flow.decodes.clear(), flow.prefills.clear();
  running_flows.push_back(id);
}

// Who runs, by flow, and what running sequences still need.
void Scheduler::State::collect() {
  running_flows.clear();
  promised = 0;
  for (const Handle h : running) {
    Seq& s = seq(h);
    s.planned = -1;
    s.open = false;
    Flow& flow = flows[s.flow];
    see(s.flow);
    promised += std::max(0, blocks_for(s.known()) - static_cast<std::int32_t>(s.blocks.size()));
    if (s.paused || s.held) continue;
    (s.decodes() ? flow.decodes : flow.prefills).push_back(h);
  }
}

void Scheduler::State::size_budget() {
  rows_left = options.rows_max;
  bool decoding = false;
  for (const FlowId id : running_flows) decoding = decoding || !flows[id].decodes.empty();
  const auto tokens_in = [&](double ns) {
    return std::min<std::int64_t>(std::max(cost.rows_within(ns - cost.base(), 0), kPrefillMin), options.rows_max);
  };
  const auto target = static_cast<double>(options.step_target_ns);
  const double allowed = decoding ? target : target * kAlonePrefill;
  ns_left = allowed - cost.base();
  budget_tokens = tokens_in(allowed);
  const std::int64_t each = std::max(options.units.uncached_micro, options.units.output_micro / 2);
  gap_micro = options.gap_units > 0 ? options.gap_units * 1'000'000 : std::max(2 * tokens_in(target) * options.units.uncached_micro, kGapMin * each);
}

// The lowest counter above `above` among the tier's flows that have prompt work, waiting ones included.
Micro Scheduler::State::lowest_demand(std::size_t t, Micro above) const {
  const TierState& tier = tiers[t];
  Micro lowest = kNobody;
  for (const FlowId id : running_flows) {
    const Flow& flow = flows[id];
    if (flow.tier == t && !flow.prefills.empty() && effective(flow) > above) lowest = std::min(lowest, effective(flow));
  }
  if (!tier.waiting_closed && !tier.waiting.empty()) {
    lowest = std::min(lowest, std::max(above + 1, effective(flows[tier.waiting.top()])));
  }
  return lowest;
}

void Scheduler::State::decode_window(std::size_t t, Micro above, Micro up_to) {
  for (const FlowId id : running_flows) {
    const Flow& flow = flows[id];
    if (flow.tier != t || flow.decodes.empty() || effective(flow) <= above || effective(flow) > up_to) continue;
    for (const Handle h : flow.decodes) {
      Seq& s = seq(h);
      if (!unplanned(s)) continue;                   // out of a reservation, or preempted for another's growth a moment ago
      if (rows_left <= 0) {
        leave_unsatisfied(id);
        break;
      }
      if (grow(h, s.known())) plan_rows(h, 1, true);
    }
  }
}

// Inside a window anyone may go first without harm to the bound: whoever needs least for its next output does. Of many
// waiting flows a few with the lowest counters are looked at together; while slots are scarce, those whose turn it is.
void Scheduler::State::prefill_window(std::size_t t, Micro above, Micro up_to) {
  TierState& tier = tiers[t];
  candidates.clear();
  for (const FlowId id : running_flows) {
    const Flow& flow = flows[id];
    if (flow.tier != t || flow.prefills.empty() || effective(flow) <= above || effective(flow) > up_to) continue;
    candidates.push_back(id);
    if (!slots_scarce && tier.waiting.contains(id)) take_from_waiting(id);
  }
  for (;;) {
    if (slots_scarce) grant_slots(t, up_to);
    for (int looked = 0; !slots_scarce && looked < kLookTogether && admissions_open(tier) && !tier.waiting.empty(); ++looked) {
      const FlowId id = tier.waiting.top();
      if (effective(flows[id]) > up_to) break;
      take_from_waiting(id);
      candidates.push_back(id);
    }
    if (candidates.empty()) return;
    std::sort(candidates.begin(), candidates.end(), [&](FlowId a, FlowId b) {
      return std::tuple(next_piece(a), effective(flows[a]), flows[a].since) <
             std::tuple(next_piece(b), effective(flows[b]), flows[b].since);
    });
    for (const FlowId id : candidates) {
      if (!prefill_flow(id)) return leave_rest(t);
    }
    candidates.clear();
  }
}

void Scheduler::State::take_from_waiting(FlowId id) {
  tiers[flows[id].tier].waiting.remove(id);
  popped.push_back(id);
}

// A slot is free, or somebody holds one beyond its share.
bool Scheduler::State::admissions_open(TierState& tier) {
  if (tier.waiting_closed || static_cast<std::int32_t>(running.size()) < slots) return !tier.waiting_closed;
  if (!claims_known) claims_possible = victim_for_claim(~0u, true) != kNoHandle, claims_known = true;
  tier.waiting_closed = !claims_possible;
  return claims_possible;
}

// Rows until the flow's next sequence in line gives a token; of a long prompt a quarter at least, lest its last chunk keep a
// short one from its first.
std::int32_t Scheduler::State::next_piece(FlowId id) const {
  const Flow& flow = flows[id];
  if (flow.seen_step == step) {
    for (const Handle h : flow.prefills) {
      if (unplanned(seqs[h])) return std::max(seqs[h].known() - seqs[h].computed, seqs[h].known() / 4);
    }
  }
  return flow.head == kNoHandle ? 0 : seqs[flow.head].known() - seqs[flow.head].swapped;
}

bool Scheduler::State::prefill_flow(FlowId id) {
  Flow& flow = flows[id];
  TierState& tier = tiers[flow.tier];
  if (!slots_scarce) flow.visited_step = step;       // else its waiting part may have to be looked at again
  if (flow.seen_step == step) {
    for (const Handle h : flow.prefills) {
      if (!unplanned(seq(h))) continue;
      if (!plan_chunk(h)) {
        leave_unsatisfied(id);
        return false;
      }
    }
  }
  while (flow.waiting > 0 && (!slots_scarce || granted(flow) > 0) && admissions_open(tier)) {
    const Admitted admitted = admit_head(id);
    if (slots_scarce && admitted == Admitted::yes) --flow.granted, --tier.slots_left;
    if (admitted == Admitted::blocked) {
      flow.visited_step = flow.blocked_step = step;
      flow.granted = 0;
      break;
    }
    if (admitted == Admitted::no_budget) {
      leave_unsatisfied(id);
      return false;
    }
  }
  return true;
}

void Scheduler::State::leave_unsatisfied(FlowId id) {
  flows[id].unsatisfied_step = step;
  tiers[flows[id].tier].unsatisfied = true;
}

// The budget is used up, or this tier has to wait: whoever in it still had something to do was left work.
void Scheduler::State::leave_rest(std::size_t t) {
  TierState& tier = tiers[t];
  for (const FlowId id : running_flows) {
    const Flow& flow = flows[id];
    if (flow.tier != t) continue;
    const auto left = [&](Handle h) { return unplanned(seq(h)); };
    if (std::any_of(flow.decodes.begin(), flow.decodes.end(), left) ||
        std::any_of(flow.prefills.begin(), flow.prefills.end(), left)) {
      leave_unsatisfied(id);
    }
  }
  if (tier.waiting_closed || static_cast<std::int32_t>(running.size()) >= slots) return;
  Micro from = tier.waiting.empty() ? kNobody : effective(flows[tier.waiting.top()]);
  for (const FlowId id : popped) {
    const Flow& flow = flows[id];
    if (flow.tier == t && flow.waiting > 0 && flow.visited_step != step) from = std::min(from, effective(flow));
  }
  if (from == kNobody) return;
  tier.unsatisfied = tier.waiting_unsatisfied = true;
  tier.waiting_from = from;
}

bool Scheduler::State::budget_left() const {
  if (rows_left <= 0) return false;
  if (plan.prefill_tokens < kPrefillMin) return true;
  return plan.prefill_tokens < budget_tokens && cost.rows_within(ns_left, 0) >= 1;
}

std::int32_t Scheduler::State::chunk_for(const Seq& s, std::int32_t from) const {
  if (!budget_left()) return 0;
  std::int64_t rows = std::min(cost.rows_within(ns_left, from), budget_tokens - plan.prefill_tokens);
  rows = std::max({rows, kPrefillMin - plan.prefill_tokens, std::int64_t{1}});
  return static_cast<std::int32_t>(std::min<std::int64_t>({rows, s.known() - from, rows_left}));
}

bool Scheduler::State::plan_chunk(Handle h) {
  Seq& s = seq(h);
  const std::int32_t from = s.computed + (s.planned >= 0 ? plan.items[static_cast<std::size_t>(s.planned)].count : 0);
  std::int32_t chunk = chunk_for(s, from);
  if (chunk == 0) return false;
  const bool cut = credit_rows > 0 && chunk > credit_rows;
  if (cut) chunk = static_cast<std::int32_t>(credit_rows);
  grow_freely(h, from + chunk);
  const auto room = [&] { return static_cast<std::int32_t>(s.blocks.size()) * kBlockTokens - from; };
  if (room() <= 0) {
    if (s.planned >= 0) return true;
    if (!grow(h, from + 1)) return true;             // preempted: not for want of budget
  }
  const std::int32_t count = std::min(chunk, room());
  plan_rows(h, count, false);
  s.open = cut && count == chunk;
  return s.open || count < chunk || from + count == s.known();
}

// A new item, or more rows for one that its tenant's credit had cut.
void Scheduler::State::plan_rows(Handle h, std::int32_t count, bool decode) {
  Seq& s = seq(h);
  if (s.planned < 0) {
    s.planned = static_cast<std::int32_t>(plan.items.size());
    PlannedRows item{};
    item.handle = h;
    item.first = s.computed;
    item.decode = decode;
    item.started = !s.started;
    item.cached = item.started ? std::min(s.hit, s.prompt_size()) : 0;
    plan.items.push_back(item);
  }
  PlannedRows& item = plan.items[static_cast<std::size_t>(s.planned)];
  const std::int64_t start = item.first + item.count, end = start + count;
  item.count += count;
  item.samples = end == s.known();
  rows_left -= count;
  if (decode) {
    ++plan.decode_tokens;
    ++load.decodes;
    load.decode_kv += end;
    ns_left -= cost.per_decode() + cost.per_decode_kv() * static_cast<double>(end);
  } else {
    const std::int64_t pairs = count * start + static_cast<std::int64_t>(count) * count / 2;
    plan.prefill_tokens += count;
    load.prefill += count;
    load.prefill_pairs += pairs;
    ns_left -= cost.per_prefill() * count + cost.per_prefill_pair() * static_cast<double>(pairs);
  }
}

// Guesses cost nobody anything: only while a few sequences decode, with every flow satisfied and no prompt in the step, so
// the budget, the slots' results and the free blocks they use are nobody's. Charged as prompt work, which they are.
void Scheduler::State::add_drafts() {
  if (plan.decode_tokens > kDraftingMax) return;
  auto results = static_cast<std::int64_t>(slots) - plan.decode_tokens;   // rows that may be sampled
  for (PlannedRows& item : plan.items) {
    if (item.handle == kNoHandle || !item.decode) continue;
    Seq& s = seq(item.handle);
    if (s.unknown) continue;
    const std::int64_t most = std::min({static_cast<std::int64_t>(s.drafts.size()), results, std::int64_t{rows_left},
                                        budget_tokens - plan.draft_tokens, std::int64_t{options.context_tokens - s.known()}});
    if (most <= 0) continue;
    grow_freely(item.handle, s.known() + static_cast<std::int32_t>(most));
    const auto room = static_cast<std::int64_t>(s.blocks.size()) * kBlockTokens - s.known();
    item.drafts = static_cast<std::int32_t>(std::min(most, room));
    item.count += item.drafts;
    plan.draft_tokens += item.drafts;
    rows_left -= item.drafts;
    results -= item.drafts;
    load.prefill += item.drafts;
    load.prefill_pairs += std::int64_t{item.drafts} * s.known();
  }
}

// A sequence that was planned already loses its blocks to one that may not wait. What its rows cost the step stays spent.
void Scheduler::State::unplan(Seq& s) {
  PlannedRows& item = plan.items[static_cast<std::size_t>(s.planned)];
  (item.decode ? plan.decode_tokens : plan.prefill_tokens) -= item.count;
  rows_left += item.count;
  reservations[flows[s.flow].tenant].credit += item.reserved * std::int64_t{1'000'000};
  item.handle = kNoHandle;
  s.planned = -1;
  s.open = false;
}

void Scheduler::State::write_tables() {
  std::erase_if(plan.items, [](const PlannedRows& item) { return item.handle == kNoHandle; });
  plan.tokens.clear(), plan.positions.clear(), plan.block_tables.clear(), planned.clear();
  for (PlannedRows& item : plan.items) {
    Seq& s = seq(item.handle);
    planned.emplace_back(s.serial, s.flow);
    s.started = true;
    item.row = static_cast<std::int32_t>(plan.tokens.size());
    item.table = static_cast<std::int32_t>(plan.block_tables.size());
    for (std::int32_t i = item.first; i < item.first + item.count; ++i) {
      plan.tokens.push_back(s.token(i));
      plan.positions.push_back(i);
    }
    const auto blocks = s.blocks.begin();
    plan.block_tables.insert(plan.block_tables.end(), blocks, blocks + blocks_for(item.first + item.count));
  }
  plan.zero.clear();
  plan.zero.swap(pool.zero());
  write_swaps();
}

}  // namespace tokenworks::scheduler
