#pragma once
// Scheduler: decides what each step computes. A pure object: no I/O, no locks, no clock (`now` is an argument), so a trace
// replays exactly. The engine thread owns it and calls plan, runs the plan on the model, and commits what came out; add,
// cancel and resume are called between a commit (or an assume) and the next plan.
//
// Where steps overlap: plan A, assume A, plan B, commit A, assume B, plan C, commit B. What a sequence said in A is not known
// when B is planned; B's rows of one that A turns out to end were computed for nobody.
//
// One token budget per step, decodes first, then prefill chunks; paged KV in blocks of 16 tokens; a prefix cache that never
// crosses tenants; fairness by weighted virtual counters charged for what was computed (docs/scheduling.md has the rule and
// the proof of its bound). Handles are dense and reused after a sequence ended.
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/scheduler/forecast.hpp"

namespace tokenworks::scheduler {

using Handle = std::uint32_t;
inline constexpr Handle kNoHandle = ~0u;
inline constexpr std::int32_t kBlockTokens = 16;

// The tokens of a prompt, shared by the choices of a request and wiped when the last of them ended.
class Prompt {
 public:
  explicit Prompt(std::vector<TokenId> tokens) : tokens_(std::move(tokens)) {}
  ~Prompt();
  Prompt(const Prompt&) = delete;
  Prompt& operator=(const Prompt&) = delete;
  std::span<const TokenId> tokens() const { return tokens_; }

 private:
  std::vector<TokenId> tokens_;
};

// What a computed token costs in the scheduler's own ledger, in millionths of a cost unit. Never money.
struct CostUnits {
  std::int64_t uncached_micro = 1'000'000;
  std::int64_t cached_micro = 100'000;
  std::int64_t output_micro = 2'000'000;
};

// What a step takes, in ns; only where the live model starts from.
struct StepCost {
  double base = 2e6;
  double per_prefill = 3e5;                          // each prompt token
  double per_decode = 3e5;                           // each decoding sequence
  double per_decode_kv = 1e3;                        // each token of context a decode reads
  double per_prefill_pair = 5e2;                     // each (prompt row, token of context it reads)
};

struct Options {
  std::int32_t kv_blocks = 0;                        // as RunnerInfo
  std::int32_t context_tokens = 0;
  std::int32_t rows_max = 512;
  std::int32_t sequences_max = 64;
  std::int64_t step_target_ns = 25'000'000;          // while something decodes; without a decode up to four times it
  bool prefix_cache = true;
  std::string cache_secret;                          // keys the prefix hash, per tenant
  std::int64_t gap_units = 0;                        // G; 0: twice the live step budget
  CostUnits units{};
  StepCost cost{};
  std::int32_t swap_slots = 0;                       // blocks that host memory keeps of preempted sequences; 0: none
  double swap_move_ns = 0;                           // what copying a block takes one way: dearer than computing it anew, it stays
  std::int32_t hash_bits = 128;                      // lowered by tests only, to force collisions
};

struct SequenceSpec {
  std::shared_ptr<const Prompt> prompt;              // not empty
  std::uint32_t tenant = 0;                          // cache domain and payer of the share
  std::uint32_t weight = 1;
  std::int64_t reserved_tokens_per_second = 0;       // throughput the tenant has bought: computed first, not charged
  Tier tier = Tier::standard;
  std::int64_t max_tokens = 1;                       // output tokens
  std::int64_t deadline_ns = 0;                      // steady; 0: none. Dropped once it cannot give a token before it
  Handle leader = kNoHandle;                         // another choice of the request: share its prompt's blocks
  bool computes_all = false;                         // every row is computed: nothing is taken from the prefix cache
};

// Rows of one sequence in a step: tokens [first, first + count) of prompt and output, standing at plan rows
// [row, row + count). After the step its context is first + count tokens, in block_tables[table ...].
// The last `drafts` rows of a decode hold proposed tokens: sampled like the row before them, kept as far as they were right.
struct PlannedRows {
  Handle handle;
  std::int32_t first, count, row, table;
  std::int32_t drafts;
  std::int32_t reserved;                             // of `count`: out of the tenant's reserved throughput
  bool decode;                                       // one output token goes on; else prefill (or recompute)
  bool samples;                                      // the last 1 + drafts rows are sampled
  bool started;                                      // its first rows ever; `cached` prompt tokens came from the prefix cache
  std::int32_t cached;
};

// In a plan's tokens: what sampled row `row` of the plan before it, assumed and not committed, is going to say.
constexpr TokenId drawn_by(std::int32_t row) { return -2 - row; }

struct BlockCopies {                                 // blocks[i] of the cache and slots[i] of host memory
  std::vector<std::int32_t> blocks, slots;
  void clear() { blocks.clear(), slots.clear(); }
};

// Before the step runs, also when nothing is planned, in this order: swap_out, zero, swap_in, swap_freed.
struct StepPlan {
  std::vector<PlannedRows> items;
  std::vector<TokenId> tokens;                       // [rows]
  std::vector<std::int32_t> positions;               // [rows]
  std::vector<std::int32_t> block_tables;
  BlockCopies swap_out;                              // to host memory: of preempted sequences
  std::vector<std::int32_t> zero;                    // blocks to zero
  BlockCopies swap_in;                               // from host memory: of sequences that run again
  std::vector<std::int32_t> swap_freed;              // slots to zero
  std::vector<Handle> expired;                       // ended by their deadline, already gone
  std::vector<Handle> preempted;                     // lost their blocks, swapped or not; wait again at their old place
  std::int32_t prefill_tokens = 0, decode_tokens = 0, draft_tokens = 0;
};

// What came of one sampled item, in the order of the plan's sampled items.
struct Outcome {
  enum class Then : std::uint8_t {
    goes_on,
    pauses,                                          // not decoded until resume()
    ends,
    ends_poisoned,                                   // its numbers are not to be trusted: its blocks leave the cache as well
  };
  TokenId token = -1;                                // appended unless poisoned
  Then then = Then::goes_on;
  std::span<const TokenId> further{};                // appended too: one per draft that equals the token before it, in order
};

struct Stats {
  std::int64_t running = 0, waiting = 0, parked = 0; // parked: paused and preempted meanwhile
  std::int64_t paused = 0;                           // of the running, and the parked
  std::int64_t blocks_used = 0, blocks_cached = 0, blocks_free = 0;
  std::int64_t steps = 0, preemptions = 0, prefix_hit_tokens = 0, recomputed_tokens = 0;
  std::int64_t prefill_tokens = 0, decode_tokens = 0;
  std::int64_t reserved_tokens = 0;                  // of both: out of reservations
  std::int64_t draft_tokens = 0, draft_tokens_kept = 0;
  std::int64_t swap_used = 0, swap_free = 0;         // slots of host memory
  std::int64_t swapped_out = 0, swapped_in = 0;      // blocks, ever
  std::int64_t rows_discarded = 0;                   // sampled rows of sequences that had ended when their step was committed
  std::int64_t step_budget = 0;                      // live prompt tokens a step may take beside nothing else
  // Over the last half to whole minute of steps:
  double fairness_gap_units = 0;                     // largest gap of the virtual counters of backlogged tenants of a tier
  double fairness_bound_units = 0;                   // what the rule promises: 2 (G + the most one step can charge)
};

// context_length_exceeded when a sequence of this size can never run here. Pure; any thread.
Result<> check_fits(const Options& options, std::int64_t prompt_tokens, std::int64_t max_tokens);

class Scheduler {
 public:
  explicit Scheduler(const Options& options);
  ~Scheduler();

  // At the end of its tenant's queue. context_length_exceeded as check_fits.
  Result<Handle> add(const SequenceSpec& spec, std::int64_t now_ns);
  void cancel(Handle handle);                        // gone, its blocks free
  void resume(Handle handle);                        // after Outcome::pauses
  // What a decoding sequence may say next. The next plan tries as much of it as costs nobody else anything.
  void propose(Handle handle, std::span<const TokenId> drafts);
  // Valid until the next call of a non-const function other than commit.
  const StepPlan& plan(std::int64_t now_ns);
  // The plan runs, and the next may be made before its outcomes are known: its rows count as computed, and are charged, also
  // those of a sequence that turns out to have ended before them. `goes_on[i]`: the i-th sampled item decodes in the next
  // plan; else, and with drafts, it gets no rows before its outcome is there. No plan may be assumed already.
  void assume(std::span<const std::uint8_t> goes_on);
  // Of the plan that was assumed, else of the last one. Outcomes of sequences that are gone are passed over.
  // `step_ns` is what the step took (0: unknown) and teaches the cost model.
  void commit(std::span<const Outcome> outcomes, std::int64_t now_ns, std::int64_t step_ns);

  bool empty() const;                                // no sequence, paused ones included
  Stats stats() const;
  std::int64_t next_deadline_ns() const;             // 0: none
  std::int64_t predicted_wait_ns() const;            // what the last in all the queues would wait for its first rows
  Forecast forecast() const;
  // Was the tenant's work of this tier left out of the last plan for want of step budget alone?
  bool backlogged(std::uint32_t tenant, Tier tier) const;
  // "" or the first broken invariant, in words. For tests; O(everything).
  std::string audit() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tokenworks::scheduler
