// The life of a sequence: added, waiting, running, preempted or paused in between, gone.
#include "tokenworks/scheduler/scheduler.hpp"

#include <openssl/crypto.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>

#include "scheduler/state.hpp"
#include "tokenworks/base/crypto.hpp"

namespace tokenworks::scheduler {
namespace {

void wipe(std::vector<TokenId>& tokens) {
  OPENSSL_cleanse(tokens.data(), tokens.size() * sizeof(TokenId));
  tokens.clear();
}

constexpr double kHoldBackMaxNs = 2e9;
constexpr std::array<std::int64_t, 3> kTierWeights = {304, 76, 20};   // priority, standard, batch; see fairness.cpp

}  // namespace

Prompt::~Prompt() { wipe(tokens_); }

Result<> check_fits(const Options& options, std::int64_t prompt_tokens, std::int64_t max_tokens) {
  if (prompt_tokens < 1 || max_tokens < 1) {
    return error(Errc::invalid_request, "a prompt needs at least one token and max_tokens at least 1");
  }
  if (prompt_tokens + 1 > options.context_tokens) {
    return error(Errc::context_length_exceeded,
                 "the prompt has " + std::to_string(prompt_tokens) + " tokens; with at least one of output the context of " +
                     std::to_string(options.context_tokens) + " tokens is exceeded");
  }
  const std::int64_t longest = std::min<std::int64_t>(prompt_tokens + max_tokens, options.context_tokens);
  if (blocks_for(longest) > options.kv_blocks) {
    return error(Errc::context_length_exceeded,
                 "prompt and output of " + std::to_string(longest) + " tokens can never fit the KV cache of " +
                     std::to_string(std::int64_t{options.kv_blocks} * kBlockTokens) +
                     " tokens; ask for fewer output tokens or shorten the prompt");
  }
  return {};
}

Scheduler::State::State(const Options& o)
    : options(o),
      slots(std::max(1, std::min(o.sequences_max, o.rows_max))),
      pool(o.kv_blocks, o.hash_bits),
      swap(o.swap_slots),
      cost(o.cost),
      keep_cached(o.prefix_cache),
      tiers{TierState(&flows), TierState(&flows), TierState(&flows)} {
  for (std::size_t t = 0; t < tiers.size(); ++t) tiers[t].weight = kTierWeights[t];
  plan.tokens.reserve(static_cast<std::size_t>(o.rows_max));
  plan.positions.reserve(static_cast<std::size_t>(o.rows_max));
  running.reserve(static_cast<std::size_t>(slots));
  for (auto* scratch : {&running_flows, &candidates, &popped, &reserved_now, &in_front, &out_of_line}) scratch->reserve(256);
  plan.block_tables.reserve(static_cast<std::size_t>(slots) * static_cast<std::size_t>(blocks_for(o.context_tokens)));
  plan.items.reserve(2 * static_cast<std::size_t>(slots));
  planned.reserve(2 * static_cast<std::size_t>(slots)), assumed.items.reserve(2 * static_cast<std::size_t>(slots));
  plan.zero.reserve(static_cast<std::size_t>(o.kv_blocks));
  step_ns = static_cast<double>(o.step_target_ns);
  size_budget();
}

FlowId Scheduler::State::flow_of(std::uint32_t tenant, std::uint32_t weight, Tier tier) {
  weight = std::max(weight, 1u);
  const auto [t, new_tenant] = tenant_index.try_emplace(tenant, static_cast<std::uint32_t>(tenant_keys.size()));
  if (new_tenant) {
    const Digest digest = hmac_sha256(options.cache_secret, "tokenworks prefix cache " + std::to_string(tenant));
    Hash128 key;
    std::memcpy(&key, digest.data(), sizeof key);
    tenant_keys.push_back(key);
    reservations.emplace_back();
  }
  pool.set_tenant(t->second, weight);
  const auto [f, new_flow] = flow_index.try_emplace(std::uint64_t{tenant} * 4 + static_cast<std::uint64_t>(tier),
                                                    static_cast<FlowId>(flows.size()));
  if (new_flow) {
    flows.emplace_back();
    flows.back().tenant = t->second;
    flows.back().tier = static_cast<std::uint8_t>(tier);
    flows.back().weight = weight;
    flows.back().decodes.reserve(static_cast<std::size_t>(slots)), flows.back().prefills.reserve(static_cast<std::size_t>(slots));
  }
  Flow& flow = flows[f->second];
  if (flow.weight != weight) {
    if (flow.live > 0) tiers[flow.tier].active_weight += std::int64_t{weight} - flow.weight;
    flow.weight = weight;
    flow.rest = 0;
  }
  return f->second;
}

// Into the flow's queue by order of arrival: a preempted sequence finds its old place.
void Scheduler::State::enqueue(Handle h) {
  Seq& s = seq(h);
  Flow& flow = flows[s.flow];
  Handle before = flow.tail;
  if (flow.head != kNoHandle && seq(flow.head).serial > s.serial) before = kNoHandle;   // the common place of the preempted
  while (before != kNoHandle && seq(before).serial > s.serial) before = seq(before).before;
  s.before = before;
  s.after = before == kNoHandle ? flow.head : seq(before).after;
  (s.before == kNoHandle ? flow.head : seq(s.before).after) = h;
  (s.after == kNoHandle ? flow.tail : seq(s.after).before) = h;
  s.where = Where::waiting;
  s.misfit_since = 0;
  s.blocked_at = -1;
  TierState& tier = tiers[flow.tier];
  if (flow.waiting++ == 0 && !tier.line.contains(s.flow)) flow.s = std::max(flow.s, tier.s_floor);
  ++tier.waiting_sequences;
  ++waiting_total;
  waiting_tokens += s.known();
  if (!tier.waiting.contains(s.flow)) tier.waiting.push(s.flow);
  if (!tier.line.contains(s.flow)) tier.line.push(s.flow);
}

void Scheduler::State::dequeue(Handle h) {
  Seq& s = seq(h);
  Flow& flow = flows[s.flow];
  (s.before == kNoHandle ? flow.head : seq(s.before).after) = s.after;
  (s.after == kNoHandle ? flow.tail : seq(s.after).before) = s.before;
  s.before = s.after = kNoHandle;
  s.where = Where::nowhere;
  --flow.waiting;
  --waiting_total;
  waiting_tokens -= s.known();
  TierState& tier = tiers[flow.tier];
  --tier.waiting_sequences;
  if (flow.waiting == 0 && tier.waiting.contains(s.flow)) tier.waiting.remove(s.flow);
  if (flow.waiting == 0 && tier.line.contains(s.flow)) tier.line.remove(s.flow);
}

// With the blocks acquire_hits() found.
void Scheduler::State::start_running(Handle h) {
  Seq& s = seq(h);
  Flow& flow = flows[s.flow];
  s.where = Where::running;
  s.admitted_ns = now;
  s.hit = s.computed;
  s.planned = -1;
  const std::int32_t longest = std::min(s.prompt_size() + s.output_max, options.context_tokens);
  s.output.reserve(std::bit_ceil(static_cast<std::size_t>(longest - s.prompt_size() + 1)));   // a step allocates nothing
  s.blocks.reserve(std::bit_ceil(static_cast<std::size_t>(blocks_for(longest) + 1)));
  s.running_at = static_cast<std::uint32_t>(running.size());
  running.push_back(h);
  ++flow.running;
  ++tiers[flow.tier].running;
  flow.held += static_cast<std::int32_t>(s.blocks.size());
  promised += blocks_for(s.known()) - static_cast<std::int32_t>(s.blocks.size());
  if (!s.started) counters.prefix_hit_tokens += s.leader_serial == 0 ? std::min(s.hit, s.prompt_size()) : 0;
}

void Scheduler::State::stop_running(Handle h, bool keep_blocks_cached) {
  Seq& s = seq(h);
  Flow& flow = flows[s.flow];
  flow.held -= static_cast<std::int32_t>(s.blocks.size());
  --flow.running;
  --tiers[flow.tier].running;
  for (; !s.blocks.empty(); s.blocks.pop_back()) pool.release(s.blocks.back(), keep_blocks_cached);   // tail first
  running.erase(running.begin() + s.running_at);
  for (std::size_t i = s.running_at; i < running.size(); ++i) seq(running[i]).running_at = static_cast<std::uint32_t>(i);
  s.where = Where::nowhere;
  const double held_ns = static_cast<double>(now - s.admitted_ns);
  hold_ns = hold_ns == 0 ? held_ns : hold_ns + 0.1 * (held_ns - hold_ns);
}

// From answers that came to their own end; one cut short counts as long (expire), or the more is cut the quicker it looks.
void Scheduler::State::learn_answer(double tokens) {
  answer_spread += 0.05 * (std::abs(tokens - answer_tokens) - answer_spread);
  answer_tokens += 0.05 * (tokens - answer_tokens);
}

void Scheduler::State::end(Handle h, bool poisoned) {
  Seq& s = seq(h);
  switch (s.where) {
    case Where::waiting: dequeue(h); break;
    case Where::parked: --parked; break;
    case Where::running:
      if (poisoned) {
        for (std::size_t i = s.blocks.size(); i-- > 0;) pool.forget(s.blocks[i]);
      }
      stop_running(h, keep_cached && !poisoned);
      break;
    case Where::nowhere: assert(false); break;
  }
  remove_live(s.flow);
  forget_swapped(s);
  s.prompt.reset();
  wipe(s.output);
  wipe(s.drafts);
  s.serial = 0;
  s.where = Where::nowhere;
  free_handles.push_back(h);
}

Scheduler::Scheduler(const Options& options) : state_(std::make_unique<State>(options)) {}
Scheduler::~Scheduler() = default;

Result<Handle> Scheduler::add(const SequenceSpec& spec, std::int64_t now_ns) {
  State& st = *state_;
  const auto fits = check_fits(st.options, static_cast<std::int64_t>(spec.prompt->tokens().size()), spec.max_tokens);
  if (!fits) return fits.error();
  st.now = std::max(st.now, now_ns);
  Handle h;
  if (st.free_handles.empty()) {
    h = static_cast<Handle>(st.seqs.size());
    st.seqs.emplace_back();
  } else {
    h = st.free_handles.back();
    st.free_handles.pop_back();
  }
  Seq& s = st.seq(h);
  s.serial = ++st.serial;
  s.prompt = spec.prompt;
  s.flow = st.flow_of(spec.tenant, spec.weight, spec.tier);
  s.leader = spec.leader;
  s.leader_serial = spec.leader == kNoHandle ? 0 : st.seq(spec.leader).serial;
  s.deadline_ns = spec.deadline_ns;
  s.computes_all = spec.computes_all;
  s.output_max = static_cast<std::int32_t>(std::min<std::int64_t>(spec.max_tokens, st.options.context_tokens));
  s.computed = s.reached = s.published = s.hit = s.probed = 0;
  s.paused = s.started = s.spared = s.open = s.unknown = s.held = false;
  s.preempted_step = s.probed_step = 0;
  s.overtaken = 0;
  s.planned = -1;
  st.set_reservation(st.flows[s.flow].tenant, s.flow, spec.reserved_tokens_per_second);
  st.add_live(s.flow);
  st.enqueue(h);
  if (s.deadline_ns != 0) {
    st.deadlines.push_back({st.latest_start(s, 0), h, s.serial});
    std::push_heap(st.deadlines.begin(), st.deadlines.end(), std::greater<>{});
  }
  return h;
}

void Scheduler::cancel(Handle handle) {
  assert(state_->seq(handle).serial != 0 && state_->committed);
  state_->end(handle, false);
}

void Scheduler::resume(Handle handle) {
  Seq& s = state_->seq(handle);
  assert(s.serial != 0 && s.paused);
  s.paused = false;
  if (s.where != Where::parked) return;
  --state_->parked;
  state_->enqueue(handle);
}

void Scheduler::propose(Handle handle, std::span<const TokenId> drafts) {
  Seq& s = state_->seq(handle);
  assert(s.serial != 0 && state_->committed);
  s.drafts.assign(drafts.begin(), drafts.end());
}

const StepPlan& Scheduler::plan(std::int64_t now_ns) {
  State& st = *state_;
  assert(st.committed && "the plan before was not committed");
  assert(st.assumed.draft_tokens == 0 || !st.assumed.open);
  st.now = std::max(st.now, now_ns);
  st.make_plan();
  st.committed = st.plan.items.empty();
  return st.plan;
}

bool Scheduler::empty() const { return state_->live == 0; }

Stats Scheduler::stats() const {
  const State& st = *state_;
  Stats stats = st.counters;
  stats.running = static_cast<std::int64_t>(st.running.size());
  stats.waiting = st.waiting_total;
  for (const Handle h : st.running) stats.paused += st.seqs[h].paused;
  stats.parked = st.parked;
  stats.paused += st.parked;
  stats.blocks_used = st.pool.used();
  stats.blocks_cached = st.pool.cached();
  stats.blocks_free = st.pool.free();
  stats.swap_used = st.swap.used();
  stats.swap_free = st.swap.size() - stats.swap_used;
  stats.step_budget = st.budget_tokens;
  stats.fairness_gap_units = std::max(st.shown.gap, st.shown_before.gap);
  stats.fairness_bound_units = std::max(st.shown.bound, st.shown_before.bound);
  return stats;
}

std::int64_t Scheduler::next_deadline_ns() const { return state_->deadlines.empty() ? 0 : state_->deadlines.front().at; }

Forecast Scheduler::forecast() const {
  const State& st = *state_;
  Forecast f;
  const double slower = std::max(st.pace, 1.0);      // steps that are quick for a moment promise nothing
  f.step_ns = st.step_ns;
  f.base_ns = st.cost.base();
  StepLoad decodes;
  for (const Handle h : st.running) {
    const Seq& s = st.seqs[h];
    if (s.paused || !s.decodes()) continue;
    ++decodes.decodes;
    decodes.decode_kv += s.known();
  }
  if (decodes.decodes == 0) decodes.decodes = 1;
  constexpr std::int64_t kChunk = 128;
  f.prompt_token_ns = (st.cost.predict({.prefill = kChunk, .prefill_pairs = kChunk * kChunk / 2}) - f.base_ns) / kChunk;
  f.output_token_ns = (st.cost.predict(decodes) - f.base_ns) / static_cast<double>(decodes.decodes);
  f.base_ns *= slower, f.prompt_token_ns *= slower, f.output_token_ns *= slower;
  f.hold_ns = st.hold_ns;
  std::int64_t weights = 0;
  for (const TierState& tier : st.tiers) weights = std::max(weights, tier.active_weight);
  const CostUnits& units = st.options.units;         // what a flow may be ahead, per weight, as prompt tokens
  const double lead = static_cast<double>(st.gap_micro + st.budget_tokens * units.uncached_micro + st.slots * units.output_micro) /
                      static_cast<double>(units.uncached_micro);
  f.hold_back_ns = std::min(lead * static_cast<double>(weights) * f.prompt_token_ns, kHoldBackMaxNs);
  f.answer_tokens = st.answer_tokens;
  f.long_answer_tokens = st.answer_tokens + 2 * st.answer_spread;
  f.slots = st.slots;
  f.running = static_cast<std::int64_t>(st.running.size());
  f.waiting = st.waiting_total;
  f.prompt_tokens = st.waiting_tokens + st.prefill_backlog;
  for (std::size_t t = 0; t < 3; ++t) f.tier_weight[t] = st.tiers[t].weight, f.active_weight[t] = st.tiers[t].active_weight;
  f.reserved_share = st.reserved_share();
  return f;
}

// In nobody's queue but behind all of them: of the plant as a whole, for autoscaling.
std::int64_t Scheduler::predicted_wait_ns() const {
  const State& st = *state_;
  const Forecast f = forecast();
  QueueAhead all{st.waiting_total, static_cast<std::int64_t>(st.running.size()), f.prompt_tokens};
  Forecast whole = f;
  whole.tier_weight = {0, 1, 0}, whole.active_weight = {0, 1, 0}, whole.reserved_share = 0;
  return scheduler::predicted_wait_ns(whole, all, {});
}

bool Scheduler::backlogged(std::uint32_t tenant, Tier tier) const {
  const State& st = *state_;
  const auto f = st.flow_index.find(std::uint64_t{tenant} * 4 + static_cast<std::uint64_t>(tier));
  if (f == st.flow_index.end()) return false;
  const Flow& flow = st.flows[f->second];
  if (flow.unsatisfied_step == st.step) return true;
  return st.tiers[flow.tier].waiting_unsatisfied && flow.waiting > 0 && flow.visited_step != st.step;
}

std::string Scheduler::audit() const {
  const State& st = *state_;
  if (std::string broken = st.pool.audit(); !broken.empty()) return broken;
  std::vector<std::int32_t> references(static_cast<std::size_t>(st.pool.size()), 0);
  std::vector<bool> slot_held(static_cast<std::size_t>(st.swap.size()));
  std::int64_t slots_held = 0;
  std::int64_t live = 0, waiting = 0;
  for (Handle h = 0; h < st.seqs.size(); ++h) {
    const Seq& s = st.seqs[h];
    if (s.serial == 0) continue;
    ++live;
    waiting += s.where == Where::waiting;
    const std::string who = "sequence " + std::to_string(h) + ": ";
    if (s.where == Where::nowhere) return who + "is nowhere";
    if (s.where == Where::running && !s.slots.empty() && !s.restoring) return who + "runs and holds host memory";
    if (static_cast<std::int32_t>(s.slots.size()) != blocks_for(s.swapped)) return who + "holds more or less host memory than it says";
    for (const std::int32_t slot : s.slots) {
      if (slot_held[static_cast<std::size_t>(slot)]) return who + "shares a slot of host memory";
      slot_held[static_cast<std::size_t>(slot)] = true;
      ++slots_held;
    }
    if ((s.unknown || s.held) && !st.assumed.open) return who + "waits for a step that is not under way";
    if (s.where != Where::running && !s.blocks.empty()) return who + "does not run and holds blocks";
    if (s.computed > static_cast<std::int32_t>(s.blocks.size()) * kBlockTokens) return who + "computed beyond its blocks";
    if (s.computed > s.known()) return who + "computed more than it knows";
    if (s.where == Where::running && st.running[s.running_at] != h) return who + "is not where it says it runs";
    for (const std::int32_t b : s.blocks) {
      ++references[static_cast<std::size_t>(b)];
      if (st.pool.tenant(b) != st.flows[s.flow].tenant) return who + "holds a block of another tenant";
    }
  }
  for (std::int32_t b = 0; b < st.pool.size(); ++b) {
    if (references[static_cast<std::size_t>(b)] != st.pool.references(b)) {
      return "block " + std::to_string(b) + " has " + std::to_string(st.pool.references(b)) + " references, tables hold " +
             std::to_string(references[static_cast<std::size_t>(b)]);
    }
  }
  if (slots_held != st.swap.used()) return "slots of host memory are held by nobody";
  if (live != st.live || waiting != st.waiting_total) return "live or waiting sequences are miscounted";
  for (std::size_t f = 0; f < st.flows.size(); ++f) {
    const Flow& flow = st.flows[f];
    std::int32_t queued = 0;
    std::uint64_t last = 0;
    for (Handle h = flow.head; h != kNoHandle; h = st.seqs[h].after, ++queued) {
      if (st.seqs[h].serial <= last) return "a queue is out of order";
      last = st.seqs[h].serial;
    }
    if (queued != flow.waiting) return "a queue miscounts its sequences";
    const auto& heap = st.tiers[flow.tier].waiting;
    if ((queued > 0) != heap.contains(static_cast<FlowId>(f))) return "a waiting flow is not among the waiting";
    if ((queued > 0) != st.tiers[flow.tier].line.contains(static_cast<FlowId>(f))) return "a waiting flow is not in line for slots";
  }
  return "";
}

}  // namespace tokenworks::scheduler
