#pragma once
// What the scheduler remembers: sequences, flows (a tenant in a tier), tiers. Private to the room; scheduler.cpp holds the
// life of a sequence, planner.cpp the making of a plan, commit.cpp what comes of it, admission.cpp the step from waiting to running,
// fairness.cpp the counters, slots.cpp who gets a free slot, room_making.cpp preemption, swapping.cpp what becomes of its victims.
#include <array>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/block_pool.hpp"
#include "scheduler/cost_model.hpp"
#include "scheduler/indexed_heap.hpp"
#include "scheduler/swap_pool.hpp"
#include "tokenworks/scheduler/scheduler.hpp"

namespace tokenworks::scheduler {

using FlowId = std::uint32_t;
using Micro = std::int64_t;                          // millionths of a cost unit per weight

inline constexpr std::int64_t kPrefillMin = 16;      // rows of prompt work a step makes room for, whatever the decodes cost
inline constexpr Micro kNobody = INT64_MAX;          // above every counter
// Tiers weigh 16 : 4 : 1, with batch raised to the floor of 5 % (1/21 would be 4.8): 304 : 76 : 20. Charged over weight / 19.
inline constexpr std::int64_t kTierScale = 19;

inline std::int32_t blocks_for(std::int64_t tokens) {
  return static_cast<std::int32_t>((tokens + kBlockTokens - 1) / kBlockTokens);
}

enum class Where : std::uint8_t { nowhere, waiting, parked, running };   // parked: paused and without blocks

struct Seq {
  std::uint64_t serial = 0;                          // order of arrival, unique; 0: this slot is empty
  std::shared_ptr<const Prompt> prompt;
  std::vector<TokenId> output;
  std::vector<TokenId> drafts;                       // proposed to follow
  std::int32_t output_max = 0;                       // tokens it may generate; sizes its vectors once, when it runs
  std::vector<std::int32_t> blocks;
  Hash128 chain;                                     // of the last published block
  std::int32_t published = 0;                        // leading blocks that are in the index
  bool publishing = true;                            // false once a block could not be indexed
  std::int32_t computed = 0;                         // tokens whose KV stands in the blocks
  std::vector<std::int32_t> slots;                   // of host memory, with its first blocks as they were when it was preempted:
  std::int32_t swapped = 0;                          // so many computed tokens
  std::int32_t restore_from = 0;                     // block from which on they are copied back
  bool restoring = false;                            // in this plan
  std::int32_t reached = 0;                          // largest `computed` ever: below it work is recomputation
  std::int64_t deadline_ns = 0, admitted_ns = 0;
  std::int64_t overtaken = 0;                        // rows computed for those that went before this head
  std::int32_t probed = 0;                           // prompt tokens found cached when last looked,
  std::uint64_t probed_step = 0;                     // in this step
  std::int64_t misfit_since = 0;                     // since when it is a head that does not fit the cache; 0: it is not
  FlowId flow = 0;
  Handle leader = kNoHandle;
  std::uint64_t leader_serial = 0;
  Handle before = kNoHandle, after = kNoHandle;      // in the flow's queue
  std::int32_t planned = -1;                         // item of the current plan
  bool open = false;                                 // planned, but only cut by its tenant's credit: more rows may join
  std::uint32_t running_at = 0;                      // index in State::running
  std::int32_t blocked_at = -1;                      // available blocks when it last did not fit; -1: not tried
  std::uint64_t preempted_step = 0;
  std::int32_t hit = 0;                              // prompt tokens taken from the cache at the last admission
  bool paused = false, started = false;
  bool unknown = false;                              // the last of `output` is drawn_by a row of the step that was assumed
  bool held = false;                                 // no rows before that step is committed
  bool computes_all = false;                         // takes nothing from the cache, and is no answer to learn from
  bool spared = false;                               // was preempted once: others' claims no longer touch it
  Where where = Where::nowhere;

  std::int32_t prompt_size() const { return static_cast<std::int32_t>(prompt->tokens().size()); }
  std::int32_t known() const { return prompt_size() + static_cast<std::int32_t>(output.size()); }
  TokenId token(std::int32_t i) const {              // beyond known(): of the drafts
    if (i < prompt_size()) return prompt->tokens()[static_cast<std::size_t>(i)];
    if (i < known()) return output[static_cast<std::size_t>(i - prompt_size())];
    return drafts[static_cast<std::size_t>(i - known())];
  }
  bool spoke() const { return output.size() > (unknown ? 1u : 0u); }
  bool prefilled() const { return computed >= prompt_size(); }
  bool decodes() const { return !output.empty() && computed == known() - 1; }
};

// A tenant within a tier: what the virtual counters count.
struct Flow {
  std::uint32_t tenant = 0;                          // dense index of the pool
  std::uint32_t weight = 1;
  std::uint8_t tier = 0;
  Micro v = 0;                                       // charged cost / weight
  std::int64_t rest = 0;                             // of that division
  std::uint64_t since = 0;                           // when it became active: breaks ties of v
  Handle head = kNoHandle, tail = kNoHandle;         // waiting sequences, by serial
  std::int32_t waiting = 0, running = 0, live = 0;   // sequences; live: parked ones too
  std::int32_t held = 0;                             // blocks in their tables
  Micro s = 0;                                       // as v, but remembered while its flows wait for slots: see slots.cpp
  std::int64_t s_rest = 0;
  // Scratch of one plan: valid where the step number is the plan's.
  std::uint64_t seen_step = 0, visited_step = 0, unsatisfied_step = 0, granted_step = 0, blocked_step = 0;
  std::int32_t granted = 0;                          // slots it may take
  std::vector<Handle> decodes, prefills;             // running, in order of admission
};

// Throughput a tenant has bought: a bucket of tokens that fills at its rate. May be overdrawn by one step's worth, so that
// a step is paid for while it runs and not by the next one.
struct Reservation {
  std::int64_t rate = 0;                             // tokens a second; 0: none
  std::int64_t credit = 0;                           // millionths of a token
  std::int64_t filled_ns = 0;
  std::int32_t live_flows = 0;
};

struct WaitingOrder {
  const std::vector<Flow>* flows;
  std::pair<Micro, std::uint64_t> operator()(FlowId f) const { return {(*flows)[f].v, (*flows)[f].since}; }
};

struct SlotOrder {
  const std::vector<Flow>* flows;
  std::pair<Micro, std::uint64_t> operator()(FlowId f) const { return {(*flows)[f].s, (*flows)[f].since}; }
};

struct TierState {
  explicit TierState(const std::vector<Flow>* flows) : waiting(WaitingOrder{flows}), line(SlotOrder{flows}) {}
  std::int64_t weight = 1;                           // of the tier
  Micro v = 0;                                       // of the tier among tiers
  std::int64_t rest = 0;
  Micro floor = 0;                                   // virtual time inside: newly backlogged flows start here
  Micro highest = 0;                                 // largest counter ever
  IndexedHeap<WaitingOrder> waiting;                 // flows with waiting sequences
  IndexedHeap<SlotOrder> line;                       // the same flows, for slots
  Micro s = 0;                                       // of the tier among tiers, and inside it as floor and highest
  std::int64_t s_rest = 0;
  Micro s_floor = 0, s_highest = 0;
  std::int32_t running = 0, waiting_sequences = 0;
  std::int64_t active_weight = 0;                    // of flows with any sequence that waits or runs
  std::int64_t active = 0;
  // Scratch of one plan.
  bool unsatisfied = false;                          // some flow was left work for want of budget alone
  bool waiting_unsatisfied = false;                  // ... flows that were not even looked at, from waiting_from on
  Micro waiting_from = 0;
  bool waiting_closed = false;                       // no more admissions in this plan
  bool capped = false;                               // somebody was not admitted for want of slots_left, other tiers' part
  std::int32_t slots_left = 0;                       // of the free ones
  int claims = 0;                                    // heads that tried to take a slot back
  int misfits = 0;                                   // heads that did not fit the cache, and
  Micro misfit_v = kNobody;                          // the lowest counter among their flows,
  Handle misfit = kNoHandle;                         // and the head of that one;
  std::uint64_t misfit_serial = 0;
  Micro misfit_before = kNobody;                     // the counter of the plan before, if its head still waits
};

// The step that was assumed and is not committed. Its sequences may have ended since: a serial tells.
struct Assumed {
  struct Item {
    Handle handle;
    std::uint64_t serial;
    std::int32_t drafts;
    bool samples, decode;
  };
  bool open = false;
  std::vector<Item> items;
  StepLoad load;
  std::int32_t prefill_tokens = 0, decode_tokens = 0, draft_tokens = 0;
};

struct Scheduler::State {
  explicit State(const Options& options);

  // fairness.cpp
  Micro effective(const Flow& flow) const;           // lifted to the tier's virtual time
  Micro effective(const TierState& tier) const;
  void add_live(FlowId flow);                        // a sequence more, or less, that waits, runs or is parked
  void remove_live(FlowId flow);
  void charge(FlowId flow, std::int64_t cost_micro);
  void settle_virtual_time();                        // after the charges of a step
  std::int64_t share(const Flow& flow, std::int64_t whole) const;   // what it bought, and its weighted part of the rest

  // slots.cpp
  Micro in_line(const Flow& flow, int more = 0) const;        // its place in the line for slots if it held so many more
  Micro in_line(const TierState& tier, int more = 0) const;
  void charge_slots(FlowId flow, std::int64_t cost_micro);
  void settle_slots();
  bool cedes(const Flow& holder, const Flow& claimant) const;
  void divide_free_slots(const std::array<bool, 3>& takes_part);
  void grant_slots(std::size_t tier, Micro up_to);
  std::int32_t granted(const Flow& flow) const { return flow.granted_step == step ? flow.granted : 0; }
  std::int32_t free_slots() const { return slots - static_cast<std::int32_t>(running.size()); }

  // reserved.cpp
  void set_reservation(std::uint32_t tenant, FlowId flow, std::int64_t tokens_per_second);
  double reserved_share() const;                     // of slots and cache, that active tenants have bought
  void serve_reserved();
  void serve_reserved(FlowId flow, std::int64_t prompt_rows_max);
  std::int64_t allowance(const Flow& flow) const;    // tokens it may have out of its reservation in this step

  // scheduler.cpp
  Seq& seq(Handle h) { return seqs[h]; }
  FlowId flow_of(std::uint32_t tenant, std::uint32_t weight, Tier tier);
  void enqueue(Handle h);
  void dequeue(Handle h);
  void start_running(Handle h);
  void stop_running(Handle h, bool keep_blocks_cached);
  void end(Handle h, bool poisoned);
  void learn_answer(double tokens);

  // commit.cpp
  void assume(std::span<const std::uint8_t> goes_on);
  void return_credit(const PlannedRows& item, FlowId flow);
  void resolve(const Assumed::Item& item, const Outcome& outcome);
  void note_pace(const StepLoad& of, std::int64_t took_ns);
  void publish_full_blocks(Seq& s);

  // room_making.cpp
  void preempt(Handle h);
  Handle victim_for_growth(Handle requester) const;
  Handle victim_for_claim(FlowId claimant, bool for_slot) const;
  bool grow(Handle h, std::int32_t tokens);          // blocks for that context, if need be from others; false: preempted
  void grow_freely(Handle h, std::int32_t tokens);   // ... as far as nobody loses any
  bool claim_blocks(FlowId flow, std::int32_t needed, std::int32_t spare);
  bool claim_slot(FlowId flow);
  std::int64_t entitled_slots(const Flow& flow) const;
  std::int64_t bought_slots(const Flow& flow) const;

  // swapping.cpp
  bool worth_swapping(const Seq& s) const;
  void swap_out(Seq& s);
  void swap_in(Handle h);
  void forget_swapped(Seq& s);
  void write_swaps();

  // planner.cpp
  void make_plan();
  void expire();
  void collect();
  void see(FlowId flow);                             // among the flows of this plan that run something
  void size_budget();
  Micro lowest_demand(std::size_t tier, Micro above) const;   // kNobody: none
  void decode_window(std::size_t tier, Micro above, Micro up_to);
  void prefill_window(std::size_t tier, Micro above, Micro up_to);
  void take_from_waiting(FlowId flow);
  bool admissions_open(TierState& tier);
  std::int32_t next_piece(FlowId flow) const;
  bool prefill_flow(FlowId flow);                    // false: budget used up
  void leave_unsatisfied(FlowId flow);
  void leave_rest(std::size_t tier);
  bool budget_left() const;
  std::int32_t chunk_for(const Seq& s, std::int32_t from) const;   // prompt rows the budget still allows it; 0: none
  bool unplanned(const Seq& s) const { return s.where == Where::running && (s.planned < 0 || s.open); }
  bool plan_chunk(Handle h);                         // false: budget used up before the sequence's work was done
  void plan_rows(Handle h, std::int32_t count, bool decode);
  void unplan(Seq& s);
  void add_drafts();
  void write_tables();

  // admission.cpp
  enum class Admitted : std::uint8_t { yes, no_budget, blocked, dropped };
  Admitted admit_head(FlowId flow);
  Handle next_in_line(const Flow& flow);
  std::int32_t cached_tokens(Seq& s);                // of its prompt, as of a few steps ago at most
  void acquire_hits(Seq& s);
  void release_hits(Seq& s);
  bool starving_other(Handle h);
  std::int64_t latest_start(const Seq& s, std::int32_t cached) const;   // to give a token before its deadline
  bool misses_deadline(const Seq& s, std::int32_t cached) const;

  Options options;
  std::int32_t slots;                                // sequences that may run at once
  BlockPool pool;
  SwapPool swap;
  CostModel cost;
  bool keep_cached;
  std::vector<Seq> seqs;
  std::vector<Handle> free_handles;
  std::vector<Handle> running;                       // by admission
  std::vector<Handle> restoring;                     // admitted in this plan with what host memory has of them
  std::vector<Flow> flows;
  std::unordered_map<std::uint64_t, FlowId> flow_index;        // tenant * 4 + tier
  std::unordered_map<std::uint32_t, std::uint32_t> tenant_index;
  std::vector<Hash128> tenant_keys;                  // [dense tenant]
  std::vector<Reservation> reservations;             // [dense tenant]
  std::vector<FlowId> reserved_flows;                // of tenants that have, or had, a reservation
  std::int64_t active_reserved = 0;                  // tokens a second, of the tenants with any sequence
  std::array<TierState, 3> tiers;
  Micro tiers_floor = 0, tiers_highest = 0;
  Micro tiers_s_floor = 0, tiers_s_highest = 0;
  Micro sequence_micro = 128'000'000;                // smoothed cost of a sequence
  struct Deadline {
    std::int64_t at;
    Handle handle;
    std::uint64_t serial;
    bool operator>(const Deadline& o) const { return at > o.at; }
  };
  std::vector<Deadline> deadlines;                   // min-heap, entries of ended sequences are dropped when they surface

  std::uint64_t serial = 0, step = 0;
  std::int64_t live = 0, parked = 0, waiting_total = 0, waiting_tokens = 0;
  std::int64_t now = 0;
  double hold_ns = 0;                                // smoothed time a sequence holds its slot
  double step_ns = 0;                                // smoothed
  double pace = 1;                                   // what steps took lately, of what the cost model expected
  double answer_tokens = 64, answer_spread = 32;       // smoothed output of ended sequences, and its distance from that

  StepPlan plan;
  std::vector<std::pair<std::uint64_t, FlowId>> planned;       // serial and flow of the plan's items
  Assumed assumed;
  StepLoad load;                                     // of the plan
  std::int64_t budget_tokens = 0;                    // live C: prompt tokens of a step without decodes
  double ns_left = 0;
  std::int32_t rows_left = 0;
  std::int32_t promised = 0;                         // blocks running sequences still need for what they know
  Micro gap_micro = 0;                               // G of this step
  std::int64_t credit_rows = 0;                      // rows that may still come out of the reservation being served; else 0
  std::vector<FlowId> running_flows, candidates, popped, reserved_now, in_front, out_of_line;
  bool slots_scarce = false;                         // more wait than slots are free
  bool claims_known = false, claims_possible = false;
  Handle starving = kNoHandle;                       // a head that has not fitted for kStarvingNs: all admission waits for it
  std::uint64_t starving_serial = 0;
  std::int64_t prefill_backlog = 0;                  // of running sequences, after the plan
  bool committed = true;
  Stats counters;
  // What the metrics show: the largest of the last half to whole minute. A scrape sees one step of hundreds, and a gap that was
  // too large would hide between two of them.
  struct Shown {
    double gap = 0, bound = 0;
  };
  Shown shown, shown_before;                         // of this half minute, and of the one before
  std::int64_t shown_since = 0;
  void show(double gap, double bound);
};

}  // namespace tokenworks::scheduler
