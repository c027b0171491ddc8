// One step: plan, run, take the samples, commit.
#include <algorithm>
#include <cassert>
#include <cmath>

#include "engine/engine_impl.hpp"

namespace tokenworks::engine {

using scheduler::Outcome;

namespace {
constexpr std::size_t kDraftingMax = 4;              // requests
constexpr std::size_t kForcedDrafts = 8;             // prompt tokens that are scored in one step beside the next one
}

bool EngineImpl::step() {
  propose();
  const scheduler::StepPlan& plan = scheduler_->plan(clock_.steady_ns());
  expire(plan.expired);
  if (!plan.swap_out.blocks.empty()) runner_->swap_out(plan.swap_out.blocks, plan.swap_out.slots);
  if (!plan.zero.empty()) runner_->zero_blocks(plan.zero);
  if (!plan.swap_in.blocks.empty() || !plan.swap_freed.empty())
    runner_->swap_in(plan.swap_in.blocks, plan.swap_in.slots, plan.swap_freed);
  if (plan.items.empty()) return false;
  build(plan);
  model::Step step;
  step.rows.tokens = plan.tokens;
  step.rows.positions = plan.positions;
  step.rows.sequences = sequence_rows_;
  step.rows.block_tables = plan.block_tables;
  step.sample_rows = sample_rows_;
  step.sampling = sampling_;
  step.pooled = pooled_;
  const std::int64_t began = clock_.steady_ns();
  const auto ran = runner_->run(step, sampled_);
  const std::int64_t ended = clock_.steady_ns();
  if (!ran) {
    fail(ran.error().message);
    return false;
  }
  outcomes_.clear();
  further_.clear();
  further_.reserve(sampled_.size());                 // the outcomes point into it
  for (const Drawn& drawn : drawn_) {
    if (drawn.pooled) {
      outcomes_.push_back(take_pooled(*drawn.choice));
      continue;
    }
    const auto drafts = std::span(plan.tokens).subspan(static_cast<std::size_t>(drawn.draft_row), static_cast<std::size_t>(drawn.drafts));
    outcomes_.push_back(take(drawn, drafts));
  }
  const StepReport report{ended - began, plan.prefill_tokens, plan.decode_tokens,
                          static_cast<std::int32_t>(plan.items.size())};
  scheduler_->commit(outcomes_, ended, ended - began);
  {
    std::lock_guard lock(status_mutex_);
    progress_ns_ = ended;
  }
  if (on_step_) on_step_(report);
  return true;
}

void EngineImpl::expire(const std::vector<scheduler::Handle>& handles) {
  for (const scheduler::Handle h : handles) {
    Choice& c = *by_handle_[h];
    c.request->stream->push({.choice = c.number, .finish = Finish::deadline});
    c.request->end = QueueBook::End::late;
    end_told(c);
  }
}

void EngineImpl::build(const scheduler::StepPlan& plan) {
  const std::int64_t now = clock_.steady_ns();
  sequence_rows_.clear();
  sample_rows_.clear();
  sampling_.clear();
  drawn_.clear();
  forced_.reset();
  pooled_.clear();
  for (const scheduler::PlannedRows& item : plan.items) {
    sequence_rows_.push_back({item.row, item.count, item.first + item.count, item.table});
    Choice& c = *by_handle_[item.handle];
    Request& r = *c.request;
    leave_waiting(r);
    if (r.began_ns == 0) {
      book_.began(r.entry, r.began_ns = now);
      r.stream->set_began(now);
    }
    if (item.started && c.number == 0) r.stream->set_cached(item.cached);
    if (r.sequence.pooling != model::Pooling::none) {
      if (item.first == 0) c.sum.assign(static_cast<std::size_t>(info().embedding_columns), 0.0);   // also after a preemption
      pooled_.push_back({static_cast<std::int32_t>(sequence_rows_.size()) - 1, r.sequence.pooling, item.samples, c.sum});
      if (item.samples) drawn_.push_back({&c, 0, 0, 0, true});
      continue;
    }
    if (!item.samples) continue;
    drawn_.push_back({&c, sample_rows_.size(), item.drafts, item.row + item.count - item.drafts});
    backend::SampleRow row;
    row.params = &r.sequence.sampling;
    row.choice = c.number;
    row.bias = r.sequence.bias;
    row.seen = c.seen.counts();
    const auto forced = still_forced(c);
    if (forced.empty()) row.mask = c.constraint != nullptr ? c.constraint->mask() : nullptr;
    for (std::int32_t i = 0; i <= item.drafts; ++i) {
      if (!forced.empty()) row.mask = forced_.only(forced[static_cast<std::size_t>(i)], info().vocab);
      row.position = c.produced + i;                 // the draw is a function of it: a kept token is the one drawn without drafts
      sample_rows_.push_back(item.row + item.count - 1 - item.drafts + i);
      sampling_.push_back(row);
    }
  }
  sampled_.clear();
  sampled_.resize(sample_rows_.size());
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
      if (c.handle == scheduler::kNoHandle || !c.drafter.on() || c.produced == 0 || c.paused) continue;
      const std::int64_t left = std::min(request->limit, request->sequence.max_tokens) - c.produced;
      scheduler_->propose(c.handle, c.drafter.propose(left - 1));
    }
  }
}

// Sample and match: the token drawn at each row is what the sequence says; it goes on to the next row as long as the draft
// standing there is what was drawn.
Outcome EngineImpl::take(const Drawn& drawn, std::span<const TokenId> drafts) {
  Choice& choice = *drawn.choice;
  Outcome outcome = take_one(choice, sampled_[drawn.first]);
  const std::size_t begin = further_.size();
  TokenId last = outcome.token;
  for (std::size_t i = 0; i < drafts.size() && outcome.then == Outcome::Then::goes_on && drafts[i] == last; ++i) {
    const Outcome next = take_one(choice, sampled_[drawn.first + i + 1]);
    outcome.then = next.then;
    if (next.then == Outcome::Then::ends_poisoned) break;
    last = next.token;
    further_.push_back(last);
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
    r.stream->push({.choice = choice.number, .finish = Finish::failed});
    end_told(choice);
    return {-1, Outcome::Then::ends_poisoned};
  }
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
