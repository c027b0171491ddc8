// One step: plan, run, take the samples, commit.
#include <algorithm>
#include <cassert>

#include "engine/engine_impl.hpp"

namespace tokenworks::engine {

using scheduler::Outcome;

bool EngineImpl::step() {
  const scheduler::StepPlan& plan = scheduler_->plan(clock_.steady_ns());
  expire(plan.expired);
  if (!plan.zero.empty()) runner_->zero_blocks(plan.zero);
  if (plan.items.empty()) return false;
  build(plan);
  model::Step step;
  step.rows.tokens = plan.tokens;
  step.rows.positions = plan.positions;
  step.rows.sequences = sequence_rows_;
  step.rows.block_tables = plan.block_tables;
  step.sample_rows = sample_rows_;
  step.sampling = sampling_;
  const std::int64_t began = clock_.steady_ns();
  const auto ran = runner_->run(step, sampled_);
  const std::int64_t ended = clock_.steady_ns();
  if (!ran) {
    fail(ran.error().message);
    return false;
  }
  outcomes_.clear();
  for (std::size_t i = 0; i < sampled_.size(); ++i) outcomes_.push_back(take(*sampling_choices_[i], sampled_[i]));
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
    end_told(c);
  }
}

void EngineImpl::build(const scheduler::StepPlan& plan) {
  sequence_rows_.clear();
  sample_rows_.clear();
  sampling_.clear();
  sampling_choices_.clear();
  for (const scheduler::PlannedRows& item : plan.items) {
    sequence_rows_.push_back({item.row, item.count, item.first + item.count, item.table});
    Choice& c = *by_handle_[item.handle];
    Request& r = *c.request;
    leave_waiting(r);
    if (item.started && c.number == 0) r.stream->set_cached(item.cached);
    if (!item.samples) continue;
    backend::SampleRow row;
    row.params = &r.sequence.sampling;
    row.choice = c.number;
    row.position = c.produced;
    row.bias = r.sequence.bias;
    row.seen = c.seen.counts();
    row.mask = c.constraint != nullptr ? c.constraint->mask() : nullptr;
    sample_rows_.push_back(item.row + item.count - 1);
    sampling_.push_back(row);
    sampling_choices_.push_back(&c);
  }
  sampled_.clear();
  sampled_.resize(sample_rows_.size());
}

// Hands a sampled token to its stream and says how the choice goes on.
Outcome EngineImpl::take(Choice& choice, backend::Sampled& sampled) {
  Request& r = *choice.request;
  touch(r);
  if (sampled.token < 0 || sampled.token >= info().vocab) {    // NaN, or a mask that allows nothing: this sequence only
    r.stream->push({.choice = choice.number, .finish = Finish::failed});
    end_told(choice);
    return {-1, Outcome::Then::ends_poisoned};
  }
  ++choice.produced;
  ++tokens_generated_;
  if (r.penalties) choice.seen.add(sampled.token);
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
