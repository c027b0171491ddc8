// What comes of a plan, in two halves. `assume` does what the next plan has to know: rows are computed and charged, a sampled
// sequence has said a token whose place is held by a name. `commit` puts the token there, publishes what is certain, ends what
// ended. Blocks of a sequence that ended may be given to another at once, though a step that writes into them is under way:
// their zeroing and every use after it stand behind that step on the device's one stream.
#include <openssl/crypto.h>

#include <algorithm>
#include <cassert>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {
namespace {

constexpr double kPaceSteps = 20;
constexpr std::int64_t kPaceAfter = 32;              // observations until the cost model is worth comparing with

}  // namespace

// Charged is what was computed, also for nobody: the step's budget was spent on it. Throughput that was bought is another
// matter: it is owed in tokens.
void Scheduler::State::return_credit(const PlannedRows& item, FlowId flow) {
  Reservation& r = reservations[flows[flow].tenant];
  r.credit += item.reserved * std::int64_t{1'000'000};
}

void Scheduler::State::assume(std::span<const std::uint8_t> goes_on) {
  assert(!assumed.open && "the plan before was not committed");
  assumed.open = true;
  assumed.items.clear();
  assumed.load = load;
  assumed.prefill_tokens = plan.prefill_tokens, assumed.decode_tokens = plan.decode_tokens, assumed.draft_tokens = plan.draft_tokens;
  std::size_t sampled = 0;
  std::int32_t row = 0;                              // of the sampled ones
  for (std::size_t i = 0; i < plan.items.size(); ++i) {
    const PlannedRows& item = plan.items[i];
    const auto [item_serial, flow] = planned[i];
    Seq& s = seq(item.handle);
    const bool alive = s.serial == item_serial;
    const CostUnits& units = options.units;
    const std::int64_t each = item.decode ? units.output_micro : units.uncached_micro;
    const std::int64_t rows = (item.count - item.drafts - item.reserved) * each + item.drafts * units.uncached_micro;
    charge(flow, rows + (alive ? s.hit * units.cached_micro : 0));
    assumed.items.push_back({item.handle, item_serial, item.drafts, item.samples, item.decode});
    const std::size_t number = sampled;
    const std::int32_t first_row = row;
    if (item.samples) ++sampled, row += 1 + item.drafts;
    if (!alive) {
      return_credit(item, flow);
      continue;
    }
    counters.reserved_tokens += item.reserved;
    s.hit = 0;
    s.computed += item.count - item.drafts;
    counters.recomputed_tokens += std::max(0, std::min(s.reached, s.computed) - item.first);
    s.reached = std::max(s.reached, s.computed);
    if (!item.samples) continue;
    s.output.push_back(drawn_by(first_row));
    s.unknown = true;
    s.held = item.drafts > 0 || number >= goes_on.size() || goes_on[number] == 0;
  }
  settle_virtual_time();
  OPENSSL_cleanse(plan.tokens.data(), plan.tokens.size() * sizeof(TokenId));
  committed = true;
}

// A sampled item whose sequence is still there. It may have been preempted since, and waits again.
void Scheduler::State::resolve(const Assumed::Item& item, const Outcome& outcome) {
  Seq& s = seq(item.handle);
  const CostUnits& units = options.units;
  const auto kept = static_cast<std::int32_t>(outcome.further.size());
  assert(s.unknown && kept <= item.drafts);
  s.unknown = s.held = false;
  if (outcome.then == Outcome::Then::ends_poisoned) {
    // What it has left in the cache leaves it as well.
    if (s.where == Where::waiting) {
      acquire_hits(s);
      for (std::size_t i = s.blocks.size(); i-- > 0;) pool.forget(s.blocks[i]);
      release_hits(s);
    }
    return end(item.handle, true);
  }
  counters.draft_tokens_kept += kept;
  s.computed += kept;                                // what stands behind is written over
  s.reached = std::max(s.reached, s.computed);
  s.drafts.clear();
  s.output.back() = outcome.token;
  s.output.insert(s.output.end(), outcome.further.begin(), outcome.further.end());
  if (s.where == Where::running) publish_full_blocks(s);
  if (outcome.then == Outcome::Then::pauses) {
    s.paused = true;
    if (s.where == Where::waiting) {
      dequeue(item.handle);
      s.where = Where::parked;
      ++parked;
    }
  }
  if (outcome.then != Outcome::Then::ends) return;
  if (!s.computes_all) {
    learn_answer(static_cast<double>(s.output.size()));
    const auto outputs = static_cast<std::int64_t>(s.output.size());
    sequence_micro += (s.prompt_size() * units.uncached_micro + outputs * units.output_micro - sequence_micro) / 16;
  }
  end(item.handle, false);
}

// The cost model takes hundreds of steps to believe that the machine became slower; promises made meanwhile need it in twenty.
void Scheduler::State::note_pace(const StepLoad& of, std::int64_t took_ns) {
  if (took_ns <= 0 || cost.observed() < kPaceAfter) return;
  const double ratio = std::clamp(static_cast<double>(took_ns) / cost.predict(of), 0.25, 4.0);
  pace += (ratio - pace) / kPaceSteps;
}

void Scheduler::assume(std::span<const std::uint8_t> goes_on) { state_->assume(goes_on); }

void Scheduler::commit(std::span<const Outcome> outcomes, std::int64_t now_ns, std::int64_t step_ns) {
  State& st = *state_;
  if (!st.assumed.open) st.assume({});
  st.now = std::max(st.now, now_ns);
  Assumed& done = st.assumed;
  std::size_t sampled = 0;
  for (const Assumed::Item& item : done.items) {
    Seq& s = st.seq(item.handle);
    const bool alive = s.serial == item.serial;
    assert(!item.samples || sampled < outcomes.size());
    if (item.samples && alive) {
      st.resolve(item, outcomes[sampled]);
    } else if (item.samples) {
      st.counters.rows_discarded += 1 + item.drafts;
      done.decode_tokens -= item.decode;
    } else if (alive && s.where == Where::running) {
      st.publish_full_blocks(s);
    }
    sampled += item.samples;
  }
  assert(sampled == outcomes.size());
  st.note_pace(done.load, step_ns);
  st.cost.observe(done.load, step_ns);
  if (step_ns > 0) st.step_ns += 0.1 * (std::min(static_cast<double>(step_ns), 8 * st.step_ns) - st.step_ns);
  ++st.counters.steps;
  st.counters.prefill_tokens += done.prefill_tokens;
  st.counters.decode_tokens += done.decode_tokens;
  st.counters.draft_tokens += done.draft_tokens;
  done.open = false;
}

}  // namespace tokenworks::scheduler
