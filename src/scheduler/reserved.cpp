// Reserved throughput: what a tenant has bought in tokens a second is computed before anything else in a step, and is not
// charged to the virtual counters, so the fairness rule and its bound hold for everything beyond it. Prompt and output
// tokens count alike. Reservations never take more than four fifths of a step's prompt budget, of the slots or of the cache,
// whatever was sold: who bought nothing still advances.
#include <algorithm>
#include <tuple>

#include "scheduler/state.hpp"

namespace tokenworks::scheduler {
namespace {

constexpr std::int64_t kDepthNs = 2'000'000'000;     // credit saved up at most
constexpr double kShareMax = 0.8;
constexpr std::int64_t kMicro = 1'000'000;

}  // namespace

void Scheduler::State::set_reservation(std::uint32_t tenant, FlowId flow, std::int64_t tokens_per_second) {
  Reservation& r = reservations[tenant];
  if (r.rate == 0 && tokens_per_second == 0) return;
  if (std::find(reserved_flows.begin(), reserved_flows.end(), flow) == reserved_flows.end()) reserved_flows.push_back(flow);
  if (r.rate == tokens_per_second) return;
  if (r.live_flows > 0) active_reserved += tokens_per_second - r.rate;
  if (r.rate == 0) r.filled_ns = now, r.credit = 0;
  r.rate = tokens_per_second;
}

// Tokens of one step's decodes are one per slot, so a rate needs rate x step slots; the cache goes with the slots.
double Scheduler::State::reserved_share() const {
  if (active_reserved == 0) return 0;
  return std::min(kShareMax, static_cast<double>(active_reserved) * step_ns / 1e9 / slots);
}

std::int64_t Scheduler::State::allowance(const Flow& flow) const {
  const Reservation& r = reservations[flow.tenant];
  const auto this_step = static_cast<std::int64_t>(static_cast<double>(r.rate) * step_ns / 1e3);
  return (r.credit + this_step) / kMicro;
}

void Scheduler::State::serve_reserved() {
  reserved_now.clear();
  for (const FlowId id : reserved_flows) {
    const Flow& flow = flows[id];
    if (flow.live == 0) continue;
    Reservation& r = reservations[flow.tenant];
    const std::int64_t passed = std::clamp<std::int64_t>(now - r.filled_ns, 0, kDepthNs);
    r.credit = std::min(r.credit + r.rate * passed / 1000, r.rate * kDepthNs / 1000);
    r.filled_ns = now;
    if (allowance(flow) > 0) reserved_now.push_back(id);
  }
  std::sort(reserved_now.begin(), reserved_now.end(), [&](FlowId a, FlowId b) {   // who is owed most of its rate first
    const Reservation &ra = reservations[flows[a].tenant], &rb = reservations[flows[b].tenant];
    return std::tuple(-static_cast<double>(ra.credit) / static_cast<double>(std::max<std::int64_t>(ra.rate, 1)), flows[a].tier, a) <
           std::tuple(-static_cast<double>(rb.credit) / static_cast<double>(std::max<std::int64_t>(rb.rate, 1)), flows[b].tier, b);
  });
  const auto most = std::max<std::int64_t>(static_cast<std::int64_t>(kShareMax * static_cast<double>(budget_tokens)), 1);
  for (const FlowId id : reserved_now) serve_reserved(id, most);
  credit_rows = 0;
}

void Scheduler::State::serve_reserved(FlowId id, std::int64_t prompt_rows_max) {
  Flow& flow = flows[id];
  Reservation& r = reservations[flow.tenant];
  const auto left = [&] { return rows_left > 0 ? allowance(flow) : 0; };
  const auto planned = [&](Handle h) {               // its rows so far are out of the reservation
    PlannedRows& item = plan.items[static_cast<std::size_t>(seq(h).planned)];
    item.reserved = item.count;
    r.credit -= item.count * kMicro;
  };
  if (flow.seen_step == step) {
    for (const Handle h : flow.decodes) {
      if (left() < 1) return;
      if (unplanned(seq(h)) && grow(h, seq(h).known())) plan_rows(h, 1, true), planned(h);
    }
  }
  const auto prompt_room = [&] {
    credit_rows = std::min(left(), prompt_rows_max - plan.prefill_tokens);
    return credit_rows > 0;
  };
  if (flow.seen_step == step) {
    for (const Handle h : flow.prefills) {
      if (!prompt_room()) return;
      if (!unplanned(seq(h))) continue;
      plan_chunk(h);
      if (seq(h).planned >= 0) planned(h);
    }
  }
  while (flow.waiting > 0 && prompt_room() && admissions_open(tiers[flow.tier])) {
    const std::size_t before = plan.items.size();
    const Admitted admitted = admit_head(id);
    if (plan.items.size() > before) {
      const Handle h = plan.items.back().handle;
      planned(h);
      if (seq(h).open) {                             // the fair part of the step may go on with it
        see(id);
        flow.prefills.push_back(h);
      }
    }
    if (admitted == Admitted::blocked || admitted == Admitted::no_budget) break;
  }
}

}  // namespace tokenworks::scheduler
