// One step: plan, run, take the samples, commit; or, where steps overlap, launch the next before the samples are taken.
#include <algorithm>
#include <cassert>
#include <cmath>
#include <string>
#include <utility>

#include "engine/engine_impl.hpp"

namespace tokenworks::engine {

using scheduler::Outcome;

namespace {
constexpr std::size_t kDraftingMax = 4;              // requests
constexpr std::size_t kForcedDrafts = 8;             // prompt tokens that are scored in one step beside the next one
// Requests of which a row had no number, one after another and nothing with a number between them: one alone is the request's
// trouble, so many are the device's.
constexpr std::int32_t kWithoutNumberMost = 8;
}

// A runner that overlaps is given the next step while it computes this one: the tokens that step starts from are this one's,
// on the device. What ends is learned when the next step is under way already; its row there is discarded.
bool EngineImpl::step() {
  propose();
  const scheduler::StepPlan& plan = scheduler_->plan(clock_.steady_ns());
  expire(plan.expired);
  if (!plan.swap_out.blocks.empty()) runner_->swap_out(plan.swap_out.blocks, plan.swap_out.slots);
  if (!plan.zero.empty()) runner_->zero_blocks(plan.zero);
  if (!plan.swap_in.blocks.empty() || !plan.swap_freed.empty())
    runner_->swap_in(plan.swap_in.blocks, plan.swap_in.slots, plan.swap_freed);
  if (plan.items.empty()) return flight_.open && land();
  build(plan);
  model::Step step;
  step.rows.tokens = plan.tokens;
  step.rows.positions = plan.positions;
  step.rows.sequences = sequence_rows_;
  step.rows.block_tables = plan.block_tables;
  step.sample_rows = sample_rows_;
  step.sampling = sampling_;
  step.pooled = pooled_;
  const bool overlaps = info().overlaps;
  next_.began_ns = clock_.steady_ns();
  next_.report = {0, plan.prefill_tokens, plan.decode_tokens, static_cast<std::int32_t>(plan.items.size())};
  const auto ran = overlaps ? runner_->launch(step) : runner_->run(step, next_.sampled);
  if (!ran) {
    fail(ran.error().message);
    return false;
  }
  if (flight_.open) {
    ++steps_overlapped_;
    if (!land()) return false;
  }
  std::swap(flight_, next_);
  flight_.open = true;
  const auto& drawn = flight_.drawn;
  if (!overlaps || std::any_of(drawn.begin(), drawn.end(), [&](const Drawn& d) { return waits_for_host(d); })) return land();
  assume();
  return true;
}

bool EngineImpl::land() {
  Flight& f = flight_;
  if (info().overlaps) {
    if (const auto took = runner_->take(f.sampled); !took) {
      fail(took.error().message);
      return false;
    }
  }
  const std::int64_t ended = clock_.steady_ns();
  outcomes_.clear();
  further_.clear();
  further_.reserve(f.sampled.size());                // the outcomes point into it
  for (const Drawn& drawn : f.drawn) outcomes_.push_back(drawn.choice == nullptr ? Outcome{} : take(f, drawn));
  f.open = false;
  f.report.duration_ns = ended - std::max(f.began_ns, std::exchange(landed_ns_, ended));
  scheduler_->commit(outcomes_, ended, f.report.duration_ns);
  {
    std::lock_guard lock(status_mutex_);
    progress_ns_ = ended;
  }
  f.report.work = f.work.work();
  if (on_step_) on_step_(f.report);
  if (without_number_ < kWithoutNumberMost) return true;
  fail(std::to_string(without_number_) + " requests one after another had no number in their logits, and nothing between them had");
  return false;
}

// Masks and penalties depend on the token before, drafts begin with it, and a prompt that is scored is made of both.
bool EngineImpl::waits_for_host(const Drawn& drawn) const {
  if (drawn.choice == nullptr) return false;
  const Choice& c = *drawn.choice;
  const Request& r = *c.request;
  return drawn.pooled || drawn.drafts > 0 || c.constraint != nullptr || r.penalties || r.scored != nullptr ||
         (c.drafter.on() && requests_.size() <= kDraftingMax);
}

// What is known to end, or to pause, with the token that is being computed gets no row behind it.
void EngineImpl::assume() {
  goes_on_.clear();
  for (const Drawn& drawn : flight_.drawn) {
    goes_on_.push_back(0);
    if (drawn.choice == nullptr) continue;
    Choice& c = *drawn.choice;
    const Request& r = *c.request;
    c.flying = true;
    const std::int64_t then = c.produced + 1;
    goes_on_.back() = then < std::min(r.limit, r.sequence.max_tokens) && r.prompt_tokens + then < info().context_tokens;
  }
  scheduler_->assume(goes_on_);
}

void EngineImpl::forget(const Choice& choice) {
  for (Flight* flight : {&flight_, &next_}) {
    for (Drawn& drawn : flight->drawn) {
      if (drawn.choice == &choice) drawn.choice = nullptr;
    }
  }
}

void EngineImpl::expire(const std::vector<scheduler::Handle>& handles) {
  for (const scheduler::Handle h : handles) {
    Choice& c = *by_handle_[h];
    c.request->stream->push({.choice = c.number, .finish = Finish::deadline});
    c.request->end = QueueBook::End::late;
    end_told(c);
  }
  if (handles.empty()) return;
  publish();
  flush();                                           // now: the step that begins would make the news a step older
}

void EngineImpl::build(const scheduler::StepPlan& plan) {
  const std::int64_t now = clock_.steady_ns();
  sequence_rows_.clear();
  sample_rows_.clear();
  sampling_.clear();
  next_.drawn.clear();
  forced_.reset();
  pooled_.clear();
  next_.work.clear();
  for (const scheduler::PlannedRows& item : plan.items) {
    sequence_rows_.push_back({item.row, item.count, item.first + item.count, item.table});
    Choice& c = *by_handle_[item.handle];
    Request& r = *c.request;
    leave_waiting(r);
    next_.work.add(r.ticket.tenant(), item.first, item.count, item.decode);
    if (r.began_ns == 0) {
      book_.began(r.entry, r.began_ns = now);
      r.stream->set_began(now);
    }
    if (item.started && c.number == 0) r.stream->set_cached(item.cached);
    if (r.sequence.pooling != model::Pooling::none) {
      if (item.first == 0) c.sum.assign(static_cast<std::size_t>(info().embedding_columns), 0.0);   // also after a preemption
      pooled_.push_back({static_cast<std::int32_t>(sequence_rows_.size()) - 1, r.sequence.pooling, item.samples, c.sum});
      if (item.samples) next_.drawn.push_back({&c, 0, 0, true});
      continue;
    }
    if (!item.samples) continue;
    next_.drawn.push_back({&c, sample_rows_.size(), item.drafts});
    const std::int32_t first = item.row + item.count - 1 - item.drafts;   // drafts stand in the rows behind it
    backend::SampleRow row;
    row.params = &r.sequence.sampling;
    row.choice = c.number;
    row.bias = r.sequence.bias;
    row.seen = c.seen.counts();
    const auto forced = still_forced(c);
    if (forced.empty()) row.mask = c.constraint != nullptr ? c.constraint->mask() : nullptr;
    for (std::int32_t i = 0; i <= item.drafts; ++i) {
      if (!forced.empty()) row.mask = forced_.only(forced[static_cast<std::size_t>(i)], info().vocab);
      row.position = c.produced + c.flying + i;      // the draw is a function of it: a kept token is the one drawn without drafts
      row.draft = i < item.drafts ? plan.tokens[static_cast<std::size_t>(first + i + 1)] : -1;
      sample_rows_.push_back(first + i);
      sampling_.push_back(row);
    }
  }
  next_.sampled.clear();
  next_.sampled.resize(sample_rows_.size());
}

std::span<const TokenId> EngineImpl::still_forced(const Choice& choice) const {
  if (choice.request->scored == nullptr) return {};
  return choice.request->scored->tokens().subspan(1 + choice.scored);
}

// A prompt that is scored is its own draft: all of it is right. The last token forced must not be a draft's row, because the
// row after it is free. Other drafts only while few decode: the scheduler tries no drafts beside more, and the book-keeping is saved as well.
void EngineImpl::propose() {
  for (auto& [id, request] : requests_) {
    if (request->scored == nullptr) continue;
    for (Choice& c : request->choices) {
      const auto forced = still_forced(c);
      if (c.handle == scheduler::kNoHandle || c.scored == 0) continue;
      scheduler_->propose(c.handle, forced.empty() ? forced : forced.first(std::min(kForcedDrafts, forced.size() - 1)));
    }
  }
  if (!options_.speculation || requests_.size() > kDraftingMax) return;
  for (auto& [id, request] : requests_) {
    for (Choice& c : request->choices) {
      if (c.handle == scheduler::kNoHandle || !c.drafter.on() || c.produced == 0 || c.paused || c.flying) continue;
      const std::int64_t left = std::min(request->limit, request->sequence.max_tokens) - c.produced;
      scheduler_->propose(c.handle, c.drafter.propose(left - 1));
    }
  }
}

// Sample and match: the token drawn at each row is what the sequence says; it goes on to the next row as long as the backend
// found the draft standing there to be what was drawn.
Outcome EngineImpl::take(Flight& flight, const Drawn& drawn) {
  Choice& choice = *drawn.choice;
  if (drawn.pooled) return take_pooled(choice);
  choice.flying = false;
  Outcome outcome = take_one(choice, flight.sampled[drawn.first]);
  const std::size_t begin = further_.size();
  for (std::int32_t i = 1; i <= drawn.drafts && outcome.then == Outcome::Then::goes_on; ++i) {
    backend::Sampled& sampled = flight.sampled[drawn.first + static_cast<std::size_t>(i)];
    if (sampled.token == backend::kNotReached) break;
    const Outcome next = take_one(choice, sampled);
    outcome.then = next.then;
    if (next.then == Outcome::Then::ends_poisoned) break;
    further_.push_back(next.token);
  }
  outcome.further = std::span(further_).subspan(begin);
  choice.drafter.learn(drawn.drafts, static_cast<std::int32_t>(outcome.further.size()));
  return outcome;
}

// A text is complete: its vector goes to the stream, and the choice ends.
Outcome EngineImpl::take_pooled(Choice& choice) {
  Request& r = *choice.request;
  touch(r);
  const double share = r.sequence.pooling == model::Pooling::mean ? 1.0 / static_cast<double>(choice.rows) : 1.0;
  std::vector<float> vector;
  vector.reserve(choice.sum.size());
  bool finite = true;
  for (const double x : choice.sum) {
    vector.push_back(static_cast<float>(x * share));
    finite = finite && std::isfinite(vector.back());
  }
  without_number_ = finite ? 0 : without_number_ + !std::exchange(r.without_number, true);
  if (finite) r.stream->set_embedding(choice.number, std::move(vector));
  r.stream->push({.choice = choice.number, .finish = finite ? Finish::stop : Finish::failed});
  end_told(choice);
  return {0, finite ? Outcome::Then::ends : Outcome::Then::ends_poisoned};
}

// Hands a sampled token to its stream and says how the choice goes on.
Outcome EngineImpl::take_one(Choice& choice, backend::Sampled& sampled) {
  Request& r = *choice.request;
  touch(r);
  if (sampled.token < 0 || sampled.token >= info().vocab) {    // NaN, or a mask that allows nothing: this sequence only
    without_number_ += !std::exchange(r.without_number, true);
    r.stream->push({.choice = choice.number, .finish = Finish::failed});
    end_told(choice);
    return {-1, Outcome::Then::ends_poisoned};
  }
  without_number_ = 0;
  if (!still_forced(choice).empty()) {
    ++choice.scored;
    r.stream->push({.choice = choice.number, .token = sampled.token, .logprob = sampled.logprob, .top = std::move(sampled.top),
                    .prompt = true});
    return {sampled.token, Outcome::Then::goes_on};
  }
  ++choice.produced;
  ++tokens_generated_;
  if (r.penalties) choice.seen.add(sampled.token);
  if (choice.drafter.on()) choice.drafter.add(sampled.token);
  TokenEvent event;
  event.choice = choice.number;
  event.token = sampled.token;
  event.logprob = sampled.logprob;
  event.top = std::move(sampled.top);
  event.finish = finish_after(choice, sampled.token);
  const bool ends = event.finish != Finish::running;
  r.stream->push(std::move(event));
  if (ends) {
    end_told(choice);
    return {sampled.token, Outcome::Then::ends};
  }
  choice.paused = choice.produced >= r.limit;
  return {sampled.token, choice.paused ? Outcome::Then::pauses : Outcome::Then::goes_on};
}

Finish EngineImpl::finish_after(const Choice& choice, TokenId token) const {
  const Request& r = *choice.request;
  const Sequence& s = r.sequence;
  const auto among = [&](const std::vector<TokenId>& stops) {
    return std::find(stops.begin(), stops.end(), token) != stops.end();
  };
  if (among(s.stop_tokens) || (!s.ignore_eos && among(info().stop_tokens))) return Finish::stop;
  if (choice.constraint != nullptr) {
    choice.constraint->accept(token);
    if (choice.constraint->finished()) return Finish::stop;
  }
  if (choice.produced >= s.max_tokens || r.prompt_tokens + choice.produced >= info().context_tokens) return Finish::length;
  if (choice.produced >= r.limit && (!s.extendable || r.final_limit)) return Finish::budget;
  return Finish::running;
}

}  // namespace tokenworks::engine
