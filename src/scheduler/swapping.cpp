// Preempted sequences in host memory: what stands in a victim's blocks is copied out before somebody else gets them, and
// copied back when the victim is admitted again, where that is quicker than computing it anew and there is room for all of it.
#include <algorithm>
#include <cassert>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {

bool Scheduler::State::worth_swapping(const Seq& s) const {
  const std::int64_t rows = s.computed;
  const double anew = cost.predict({.prefill = rows, .prefill_pairs = rows * rows / 2}) - cost.base();
  return 2 * options.swap_move_ns * blocks_for(rows) < anew;
}

// While its blocks are still its own. One that came back in this very plan has all of it in host memory still.
void Scheduler::State::swap_out(Seq& s) {
  if (s.restoring) {
    s.restoring = false;
    return;
  }
  const std::int32_t n = blocks_for(s.computed);
  if (n == 0 || n > swap.free() || s.computes_all || !worth_swapping(s)) return;
  for (std::int32_t i = 0; i < n; ++i) {
    s.slots.push_back(swap.take());
    plan.swap_out.blocks.push_back(s.blocks[static_cast<std::size_t>(i)]);
    plan.swap_out.slots.push_back(s.slots.back());
  }
  s.swapped = s.computed;
  counters.swapped_out += n;
}

// Just admitted, with what the prefix cache still had; admission has seen to it that there are blocks for the rest.
void Scheduler::State::swap_in(Handle h) {
  Seq& s = seq(h);
  if (s.swapped == 0) return;
  if (s.swapped <= s.computed) return forget_swapped(s);
  s.restore_from = s.published;
  grow_freely(h, s.swapped);
  assert(static_cast<std::int32_t>(s.blocks.size()) >= blocks_for(s.swapped));
  s.computed = s.swapped;
  s.restoring = true;
  restoring.push_back(h);
}

void Scheduler::State::forget_swapped(Seq& s) {
  swap.give_back(s.slots);
  s.slots.clear();
  s.swapped = 0;
  s.restoring = false;
}

// At the end of a plan, when nobody can lose its blocks any more.
void Scheduler::State::write_swaps() {
  for (const Handle h : restoring) {
    Seq& s = seq(h);
    if (!s.restoring) continue;
    const std::int32_t n = blocks_for(s.swapped);
    for (std::int32_t i = s.restore_from; i < n; ++i) {
      plan.swap_in.blocks.push_back(s.blocks[static_cast<std::size_t>(i)]);
      plan.swap_in.slots.push_back(s.slots[static_cast<std::size_t>(i)]);
    }
    counters.swapped_in += n - s.restore_from;
    forget_swapped(s);
  }
  restoring.clear();
  swap.end_plan(plan.swap_freed);
}

}  // namespace tokenworks::scheduler
