#include "engine/engine_impl.hpp"

#include <pthread.h>

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "tokenworks/base/burst.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::engine {
namespace {

constexpr std::size_t kInboxMessages = std::size_t{1} << 20;   // submits have a bound of their own; the rest is not refused
constexpr std::int64_t kSleepMaxNs = 10'000'000'000;
constexpr std::int64_t kLookAgainNs = 20'000'000;    // when what could run has to wait for what is paused

scheduler::Options scheduler_options(const model::RunnerInfo& info, const EngineOptions& options) {
  scheduler::Options o;
  o.kv_blocks = info.kv_blocks;
  o.context_tokens = info.context_tokens + (info.generates ? 0 : 1);   // room for an output token that is never made
  o.rows_max = info.rows_max;
  o.sequences_max = info.sequences_max;
  o.step_target_ns = options.step_target_ns;
  o.units = {options.cost_units_micro[0], options.cost_units_micro[1], options.cost_units_micro[2]};
  o.prefix_cache = options.prefix_cache;
  o.cache_secret = options.cache_secret;
  o.swap_slots = info.swap_slots;
  o.swap_move_ns = info.swap_move_ns;
  return o;
}

}  // namespace

EngineImpl::EngineImpl(std::unique_ptr<model::Runner> runner, const EngineOptions& options, const Clock& clock,
                       std::function<void(const StepReport&)> on_step)
    : runner_(std::move(runner)),
      options_(options),
      clock_(clock),
      on_step_(std::move(on_step)),
      scheduler_options_(scheduler_options(runner_->info(), options)),
      inbox_(kInboxMessages),
      book_(options_.queue_per_tenant, static_cast<std::int64_t>(options_.inbox)),
      scheduler_(std::make_unique<scheduler::Scheduler>(scheduler_options_)) {
  status_.kv_blocks_free = runner_->info().kv_blocks;
  thread_ = std::thread([this] { loop(); });
  pthread_setname_np(thread_.native_handle(), "tw-engine");
}

EngineImpl::~EngineImpl() { stop(); }

std::unique_ptr<Engine> make_engine(std::unique_ptr<model::Runner> runner, const EngineOptions& options, const Clock& clock,
                                    std::function<void(const StepReport&)> on_step) {
  return std::make_unique<EngineImpl>(std::move(runner), options, clock, std::move(on_step));
}

// Texts to be pooled; each is a sequence of its own.
Result<> EngineImpl::check_pooled(const Sequence& sequence) const {
  if (info().embedding_columns == 0) return error(Errc::invalid_request, "this model gives no embeddings", "model");
  if (sequence.texts.size() != sequence.choices || sequence.texts.empty() || !sequence.prompt.empty() || sequence.max_tokens != 1 ||
      !sequence.constraints.empty() || sequence.extendable) {
    return error(Errc::internal, "a sequence to be pooled is not made of texts alone");
  }
  for (const auto& text : sequence.texts) {
    for (const TokenId t : text) {
      if (t < 0 || t >= info().vocab) {
        return error(Errc::invalid_request, "the input holds a token id outside the vocabulary of " + std::to_string(info().vocab), "input");
      }
    }
    if (auto fits = scheduler::check_fits(scheduler_options_, static_cast<std::int64_t>(text.size()), 1); !fits) return fits.error();
  }
  return {};
}

// What would otherwise break a step for everybody is refused here, on the caller's thread.
Result<> EngineImpl::check(const Ticket& ticket, const Sequence& sequence) const {
  if (sequence.pooling != model::Pooling::none) return check_pooled(sequence);
  if (!info().generates) return error(Errc::invalid_request, "this model makes embeddings and cannot generate text", "model");
  const std::int32_t vocab = info().vocab;
  const auto known = [&](TokenId t) { return t >= 0 && t < vocab; };
  if (!std::all_of(sequence.prompt.begin(), sequence.prompt.end(), known)) {
    return error(Errc::invalid_request, "the prompt holds a token id outside the vocabulary of " + std::to_string(vocab));
  }
  for (const auto& bias : sequence.bias) {
    if (!known(bias.token)) {
      return error(Errc::invalid_request,
                   "logit_bias names token " + std::to_string(bias.token) + ", the vocabulary has " + std::to_string(vocab),
                   "logit_bias");
    }
  }
  if (sequence.choices < 1) return error(Errc::invalid_request, "n must be at least 1", "n");
  if (!sequence.constraints.empty() && sequence.constraints.size() != sequence.choices) {
    return error(Errc::internal, "a sequence has constraints, but not one per choice");
  }
  if (ticket.output_tokens() < 1) return error(Errc::internal, "a ticket without output tokens");
  return scheduler::check_fits(scheduler_options_, static_cast<std::int64_t>(sequence.prompt.size()), sequence.max_tokens);
}

Result<> EngineImpl::submit(Ticket ticket, Sequence sequence, std::shared_ptr<TokenStream> stream) {
  assert(stream);
  if (stopping_) return error(Errc::server_draining, "the server is shutting down; try another one");
  if (failed_) return error(Errc::engine_failed, "the engine has failed and is being restarted");
  if (auto ok = check(ticket, sequence); !ok) return ok.error();
  if (abandoned_) {
    Error e = error(Errc::server_is_overloaded, "the engine has not finished a step for long; try again later");
    e.retry_after_ms = 1000;
    return e;
  }
  const bool full = waiting_.fetch_add(1) >= static_cast<std::int64_t>(options_.inbox);
  if (full || stopping_) {
    waiting_.fetch_sub(1);
    if (!full) return error(Errc::server_draining, "the server is shutting down; try another one");
    Error e = error(Errc::server_is_overloaded,
                    std::to_string(options_.inbox) + " requests are waiting for this model already; try again later");
    e.retry_after_ms = std::max<std::int64_t>(1000, status().predicted_wait_ns / static_cast<std::int64_t>(options_.inbox) / 1'000'000);
    return e;
  }
  const std::int64_t now = clock_.steady_ns();
  auto request = std::make_unique<Request>(std::move(ticket), std::move(sequence), std::move(stream));
  const auto entered = book_.enter(request->entry, now);
  if (!entered) {
    waiting_.fetch_sub(1);
    return entered.error();
  }
  request->entry.promise = *entered;
  {
    std::lock_guard lock(streams_mutex_);
    streams_.emplace(request->stream, request->sequence.choices);
  }
  {
    std::lock_guard lock(status_mutex_);
    if (idle_) idle_ = false, progress_ns_ = now;
  }
  const auto kept = request->stream;
  const QueueEntry entry = request->entry;
  if (!inbox_.push(std::move(request))) {
    waiting_.fetch_sub(1);
    book_.ended(entry, 0, now, QueueBook::End::other);
    std::lock_guard lock(streams_mutex_);
    streams_.erase(kept);
    return error(Errc::server_draining, "the server is shutting down; try another one");
  }
  return {};
}

void EngineImpl::cancel(const RequestId& request, std::uint32_t choice) { inbox_.push(Cancel{request, choice}); }

void EngineImpl::extend(const RequestId& request, std::int64_t output_tokens, bool final) {
  inbox_.push(Extend{request, output_tokens, final});
}

EngineStatus EngineImpl::status() const {
  std::lock_guard lock(status_mutex_);
  EngineStatus status = status_;
  // Requests the thread has not even seen yet wait as well: it may be stuck.
  status.waiting = std::max(status.waiting, waiting_.load());
  status.last_step_age_ns = idle_ ? 0 : std::max<std::int64_t>(0, clock_.steady_ns() - progress_ns_);
  status.failed = failed_;
  status.hung = hung_;
  status.healthy = !status.failed && status.last_step_age_ns <= options_.stuck_after_ns;
  return status;
}

void EngineImpl::watch() {
  const std::int64_t age = status().last_step_age_ns;
  if (age <= options_.fail_after_ns || failed_) return;
  if (!abandoned_.exchange(true)) {
    std::vector<std::pair<std::shared_ptr<TokenStream>, std::uint32_t>> all;
    {
      std::lock_guard lock(streams_mutex_);
      all.assign(streams_.begin(), streams_.end());
    }
    log::error("step_stuck", {{"seconds", age / 1'000'000'000}, {"requests", static_cast<std::int64_t>(all.size())}});
    for (auto& [stream, choices] : all) stream->end_rest(choices, Finish::failed);
  }
  if (age > options_.lost_after_ns) {
    hung_ = true;
    failed_ = true;
  }
}

void EngineImpl::stop() {
  std::lock_guard lock(stop_mutex_);
  inbox_.close();                                    // first: what the thread drains after it saw stopping_ is the last
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void EngineImpl::loop() {
  bool worked = false;
  while (!stopping_) {
    receive(!worked);
    if (stopping_) break;
    worked = false;
    if (!failed_) {
      try {
        worked = step();
      } catch (const std::exception& e) {
        fail(std::string("the step threw: ") + e.what());
      }
    }
    if (abandoned_ && !failed_) start_anew();
    publish();                                       // first: who is woken finds a status that knows it
    flush();
  }
  finish_flight();
  receive(false);                                    // what was submitted before the door closed
  end_all(Finish::cancelled);
  publish();
  flush();
}

// Takes what arrived; with `wait` sleeps until something does, a deadline passes, or the engine stops.
void EngineImpl::receive(bool wait) {
  if (wait) {
    std::int64_t patience = kSleepMaxNs;
    if (const std::int64_t next = scheduler_->next_deadline_ns(); next != 0) {
      patience = std::clamp<std::int64_t>(next - clock_.steady_ns(), 1'000'000, kSleepMaxNs);
    }
    const scheduler::Stats stats = scheduler_->stats();
    const bool pending = stats.running + stats.waiting + stats.parked > stats.paused;
    if (pending) patience = std::min(patience, kLookAgainNs);
    {
      std::lock_guard lock(status_mutex_);
      if (inbox_.size() == 0) idle_ = true;
    }
    inbox_.wait_drain(messages_, std::chrono::nanoseconds(patience));
    std::lock_guard lock(status_mutex_);             // to wake and find nothing is no work
    if (idle_ && (pending || !messages_.empty())) idle_ = false, progress_ns_ = clock_.steady_ns();
  } else {
    inbox_.drain(messages_);
  }
  for (Message& message : messages_) {
    if (auto* request = std::get_if<std::unique_ptr<Request>>(&message)) {
      begin(std::move(*request));
    } else if (const auto* c = std::get_if<Cancel>(&message)) {
      on(*c);
    } else {
      on(std::get<Extend>(message));
    }
  }
  messages_.clear();
}

void EngineImpl::begin(std::unique_ptr<Request> owned) {
  Request& r = *owned;
  const RequestId id = r.ticket.request();
  Sequence& s = r.sequence;
  r.prompt_tokens = static_cast<std::int64_t>(s.prompt.size());
  const bool pools = s.pooling != model::Pooling::none;
  std::vector<std::shared_ptr<const scheduler::Prompt>> prompts;   // one, or one per text
  if (!pools) prompts.push_back(std::make_shared<scheduler::Prompt>(std::move(s.prompt)));
  for (auto& text : s.texts) prompts.push_back(std::make_shared<scheduler::Prompt>(std::move(text)));
  s.prompt = {};
  s.texts = {};
  const auto prompt = prompts.front();
  auto scheduled = prompt;
  if (s.score_prompt && prompt->tokens().size() > 1) {
    // The prompt is said token by token, as output that is forced, so that each has its row of logits.
    r.scored = prompt;
    scheduled = std::make_shared<scheduler::Prompt>(std::vector<TokenId>{prompt->tokens()[0]});
  }
  r.choices.resize(s.choices);
  if (r.stream->ended(s.choices)) {                  // by the watchdog, while it lay in the inbox
    leave_waiting(r);
    touch(r);
    refused_.push_back(std::move(owned));
    return;
  }
  for (std::uint32_t i = 0; i < s.choices; ++i) {
    Choice& c = r.choices[i];
    c.request = &r;
    c.number = i;
    if (!s.constraints.empty()) c.constraint = s.constraints[i].get();
    if (r.penalties) c.seen.start(prompt->tokens(), r.penalties_from_prompt);
    // Penalties and masks depend on the token before; those rows are drawn one by one.
    if (options_.speculation && !pools && !r.penalties && c.constraint == nullptr && !r.scored) c.drafter.start(prompt->tokens());
  }
  if (failed_ || !requests_.try_emplace(id, std::move(owned)).second) {
    if (!failed_) log::error("request_id_in_use", {{"request_id", id.to_string()}});
    for (Choice& c : r.choices) r.stream->push({.choice = c.number, .finish = Finish::failed});
    leave_waiting(r);
    touch(r);
    refused_.push_back(std::move(owned));            // until flush()
    return;
  }
  for (Choice& c : r.choices) {
    scheduler::SequenceSpec spec;
    spec.prompt = pools ? prompts[c.number] : scheduled;
    spec.computes_all = pools;
    c.rows = static_cast<std::int64_t>(spec.prompt->tokens().size());
    spec.tenant = r.ticket.tenant();
    spec.weight = r.ticket.weight();
    spec.tier = r.ticket.tier();
    spec.reserved_tokens_per_second = r.ticket.reserved_tokens_per_second();
    spec.max_tokens = s.max_tokens + (r.scored ? r.prompt_tokens - 1 : 0);
    spec.deadline_ns = s.deadline_ns;
    spec.leader = c.number == 0 || pools ? scheduler::kNoHandle : r.choices[0].handle;
    const auto handle = scheduler_->add(spec, clock_.steady_ns());
    assert(handle);                                  // check() asked the same question
    c.handle = *handle;
    if (by_handle_.size() <= *handle) by_handle_.resize(*handle + 1, nullptr);
    by_handle_[*handle] = &c;
    ++r.alive;
  }
}

void EngineImpl::on(const Cancel& message) {
  const auto found = requests_.find(message.request);
  if (found == requests_.end()) return;
  for (Choice& c : found->second->choices) {
    if (c.handle == scheduler::kNoHandle) continue;
    if (message.choice == kAllChoices || message.choice == c.number) end_choice(c, Finish::cancelled);
  }
}

void EngineImpl::on(const Extend& message) {
  const auto found = requests_.find(message.request);
  if (found == requests_.end()) return;
  Request& r = *found->second;
  r.limit = std::max(r.limit, message.output_tokens);
  r.final_limit = r.final_limit || message.final;
  for (Choice& c : r.choices) {
    if (!c.paused || c.handle == scheduler::kNoHandle) continue;
    if (c.produced < r.limit) {
      c.paused = false;
      scheduler_->resume(c.handle);
    } else if (r.final_limit) {
      end_choice(c, Finish::budget);
    }
  }
}

void EngineImpl::end_choice(Choice& choice, Finish finish) {
  scheduler_->cancel(choice.handle);
  choice.request->stream->push({.choice = choice.number, .finish = finish});
  choice.request->end = QueueBook::End::other;
  end_told(choice);
}

void EngineImpl::end_told(Choice& choice) {
  Request& r = *choice.request;
  touch(r);
  forget(choice);
  by_handle_[choice.handle] = nullptr;
  choice.handle = scheduler::kNoHandle;
  if (--r.alive == 0) {
    leave_waiting(r);
    ended_.push_back(r.ticket.request());            // forgotten in flush(): the step still looks at it
  }
}

void EngineImpl::end_all(Finish finish) {
  for (auto& [id, request] : requests_) {
    for (Choice& c : request->choices) {
      if (c.handle != scheduler::kNoHandle) end_choice(c, finish);
    }
  }
}

// The device is lost: everybody is told, and nothing runs any more. The process is to be restarted.
void EngineImpl::fail(const std::string& why) {
  failed_ = true;
  log::error("engine_failed", {{"reason", why}, {"sequences", static_cast<std::int64_t>(requests_.size())}});
  drop_all();
}

// A plan may be open; the scheduler is asked nothing any more.
void EngineImpl::drop_all() {
  for (auto& [id, request] : requests_) {
    for (Choice& c : request->choices) {
      if (c.handle == scheduler::kNoHandle) continue;
      request->stream->push({.choice = c.number, .finish = Finish::failed});
      request->end = QueueBook::End::other;
      end_told(c);
    }
  }
  flight_.open = false;
  scheduler_ = std::make_unique<scheduler::Scheduler>(scheduler_options_);
}

// What is under way comes to its end: nothing is planned behind it.
void EngineImpl::finish_flight() {
  if (!flight_.open) return;
  try {
    (void)land();
  } catch (const std::exception& e) {
    fail(std::string("the step threw: ") + e.what());
  }
}

// The step came back after all, too late for everybody in it. What stands in the cache belongs to nobody now.
void EngineImpl::start_anew() {
  finish_flight();
  if (failed_) return;
  log::warn("step_returned", {{"requests", static_cast<std::int64_t>(requests_.size())}});
  drop_all();
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(info().kv_blocks));
  std::iota(blocks.begin(), blocks.end(), 0);
  runner_->zero_blocks(blocks);
  std::vector<std::int32_t> slots(static_cast<std::size_t>(info().swap_slots));
  std::iota(slots.begin(), slots.end(), 0);
  runner_->swap_in({}, {}, slots);
  {
    std::lock_guard lock(status_mutex_);
    progress_ns_ = clock_.steady_ns();
  }
  abandoned_ = false;
}

void EngineImpl::touch(Request& request) {
  if (request.touched) return;
  request.touched = true;
  touched_.push_back(&request);
}

void EngineImpl::leave_waiting(Request& request) {
  if (!request.waits) return;
  request.waits = false;
  ++left_waiting_;
}

// One wake per stream and step, then the ended requests go.
void EngineImpl::flush() {
  {
    const Burst wakes;
    for (Request* request : touched_) {
      request->touched = false;
      request->stream->flush();
    }
  }
  touched_.clear();
  {
    std::lock_guard lock(streams_mutex_);
    const std::int64_t now = clock_.steady_ns();
    const auto gone = [&](const Request& request) {
      streams_.erase(request.stream);
      book_.ended(request.entry, request.began_ns, now, request.end);
    };
    for (const RequestId& id : ended_) gone(*requests_.at(id));
    for (const auto& request : refused_) gone(*request);
  }
  for (const RequestId& id : ended_) requests_.erase(id);
  ended_.clear();
  refused_.clear();
}

void EngineImpl::publish() {
  const scheduler::Stats stats = scheduler_->stats();
  const std::int64_t predicted = scheduler_->predicted_wait_ns();
  book_.publish(scheduler_->forecast());
  std::lock_guard lock(status_mutex_);
  waiting_.fetch_sub(std::exchange(left_waiting_, 0));   // with the rest: at every moment a request is counted somewhere
  status_.running = stats.running;
  status_.waiting = stats.waiting;
  status_.kv_blocks_used = stats.blocks_used;
  status_.kv_blocks_cached = stats.blocks_cached;
  status_.kv_blocks_free = stats.blocks_free;
  status_.steps = stats.steps;
  status_.tokens_generated = tokens_generated_;
  status_.preemptions = stats.preemptions;
  status_.swap_blocks_used = stats.swap_used;
  status_.swap_blocks_free = stats.swap_free;
  status_.swapped_out = stats.swapped_out;
  status_.swapped_in = stats.swapped_in;
  status_.prefix_hit_tokens = stats.prefix_hit_tokens;
  status_.prefill_tokens = stats.prefill_tokens;
  status_.decode_tokens = stats.decode_tokens;
  status_.reserved_tokens = stats.reserved_tokens;
  status_.draft_tokens = stats.draft_tokens;
  status_.draft_tokens_kept = stats.draft_tokens_kept;
  status_.steps_overlapped = steps_overlapped_;
  status_.rows_discarded = stats.rows_discarded;
  status_.predicted_wait_ns = predicted;
  status_.fairness_gap_units = stats.fairness_gap_units;
  status_.fairness_bound_units = stats.fairness_bound_units;
}

}  // namespace tokenworks::engine
