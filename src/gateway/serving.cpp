#include "serving.hpp"

#include <algorithm>

#include "tool_grammar.hpp"

namespace tokenworks::gateway {
namespace asio = boost::asio;

namespace {

// Awaitables with class-type arguments are named before they are awaited in this file: g++ 12 destroys such arguments
// twice, or too early, when they are temporaries of a co_await expression.

// How serious an end is, when the choices of one request ended differently.
int weight(engine::Finish finish) {
  switch (finish) {
    case engine::Finish::running: return 0;
    case engine::Finish::stop: return 1;
    case engine::Finish::length: return 2;
    case engine::Finish::budget: return 3;
    case engine::Finish::cancelled: return 4;
    case engine::Finish::deadline: return 5;
    case engine::Finish::failed: return 6;
  }
  return 6;
}

constexpr std::int64_t kLongestPauseMs = 65'000;     // for room in a window of a minute; nobody waits for one of an hour or a day
constexpr std::int64_t kExtendAhead = 16;            // tokens before a chunked hold runs out, so that the engine need not wait

}  // namespace

Serving::Serving(const ServiceParts& parts, std::shared_ptr<const ServedModel> model,
                 std::shared_ptr<const GenerateRequest> request, RequestId id, std::shared_ptr<Bell> bell,
                 std::shared_ptr<Signals> signals, Prepared prepared, Hold hold, AnswerStart start, AnswerSink& sink,
                 Departure& departure, Outcome& outcome)
    : parts_(parts), model_(std::move(model)), request_(std::move(request)), id_(id), bell_(std::move(bell)),
      signals_(std::move(signals)), prepared_(std::move(prepared)), hold_(std::move(hold)), start_(std::move(start)),
      sink_(sink), quick_(dynamic_cast<QuickSink*>(&sink)), shown_(quick_ == nullptr || quick_->streams()), departure_(departure), outcome_(outcome), began_ns_(prepared_.arrived_ns) {
  if (request_->timeout_ns > 0) deadline_ns_ = began_ns_ + request_->timeout_ns;
  for (const auto& prompt : prepared_.prompts) usage_.input += static_cast<std::int64_t>(prompt.size());
  // A plain pointer: the departure outlives this object, and the destructor takes the call back.
  departure_.on_leave([bell = bell_.get()] { bell->ring_here(); });
}

Serving::~Serving() {
  departure_.on_leave({});
  if (stream_) stream_->detach();
  if (running_) model_->engine->cancel(id_);
  // Without a settlement of its own (the ledger lost the hold, or this coroutine died): what was counted is what is booked,
  // and nothing generated is nothing owed.
  if (!ended_) (void)end_hold(usage_.output > 0 ? usage_ : Usage{}, "cancelled", {});
}

asio::awaitable<Result<Receipt>> Serving::run() {
  for (std::size_t prompt = 0; prompt < prepared_.prompts.size() && !gone_; ++prompt) {
    auto done = co_await generate(prompt);
    if (!done) co_return done.error();
  }
  auto receipt = co_await settle();
  co_return receipt;
}

Result<> Serving::submit(std::size_t prompt) {
  engine::Sequence sequence;
  echo_ = request_->echo ? prompt_text(prompt) : std::string();
  score_prompt_ = request_->echo && request_->logprobs;
  sequence.score_prompt = score_prompt_;
  sequence.prompt = std::move(prepared_.prompts[prompt]);
  const auto length = static_cast<std::int64_t>(sequence.prompt.size());
  const std::int64_t room = model_->engine->info().context_tokens - length;
  sequence.choices = request_->made();
  sequence.max_tokens = std::min(std::max<std::int64_t>(request_->max_tokens.value_or(room), 1), room);
  sequence.sampling = request_->sampling;
  if (request_->seed) {
    sequence.sampling.seed = *request_->seed;
  } else {
    for (std::size_t i = 8; i < 16; ++i) sequence.sampling.seed = sequence.sampling.seed << 8 | id_.bytes[i];
  }
  if (!request_->logprobs) sequence.sampling.top_logprobs = request_->made() > request_->choices ? 0 : -1;   // what best_of goes by
  sequence.bias = request_->bias;
  if (!request_->tools.forced()) sequence.stop_tokens = request_->stop_tokens;   // nothing cuts a forced call
  sequence.ignore_eos = request_->ignore_eos;
  sequence.deadline_ns = deadline_ns_;
  sequence.extendable = hold_.chunked();
  if (!prepared_.constraints.empty()) {
    const auto first = prepared_.constraints.begin() + static_cast<std::ptrdiff_t>(prompt * request_->made());
    sequence.constraints.assign(first, first + request_->made());
  }
  choices_.clear();
  const Reading reading = reading_of(prompt);
  for (std::uint32_t c = 0; c < request_->made(); ++c) {
    choices_.emplace_back(model_->tokenizer, model_->style, reading, static_cast<std::uint32_t>(prompt) * request_->made() + c);
    if (score_prompt_) choices_.back().echo(echo_, sequence.prompt.front());
  }
  stream_ = std::make_shared<engine::TokenStream>([bell = bell_] { bell->ring(); });
  submitted_ns_ = parts_.clock.steady_ns();
  auto accepted = model_->engine->submit(hold_.take_ticket(), std::move(sequence), stream_);
  if (!accepted) return accepted.error();
  running_ = true;
  return {};
}

Reading Serving::reading_of(std::size_t prompt) const {
  Reading reading;
  const ToolUse& tools = request_->tools;
  if (!tools.forced()) reading.stops = request_->stop;
  reading.want_tokens = request_->logprobs;
  reading.prompt_alone = request_->max_tokens == 0;
  reading.constrained = !prepared_.constraints.empty();
  reading.chat = std::holds_alternative<GenerateRequest::Chat>(request_->prompts[prompt]);
  reading.thinking = prepared_.begin.thinking;
  reading.calling = prepared_.begin.calling;
  reading.calls = tools.choice != ToolUse::Choice::none;
  for (const Tool& tool : tools.tools) {
    reading.names.push_back(tool.name);
    if (model_->style.calls == CallForm::parameters) reading.texts[tool.name] = text_parameters(tool);
  }
  reading.request = id_;
  return reading;
}

// What `echo` repeats: the text as the client sent it, or what its token ids say.
std::string Serving::prompt_text(std::size_t prompt) const {
  if (const auto* text = std::get_if<std::string>(&request_->prompts[prompt])) return *text;
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&request_->prompts[prompt])) return model_->tokenizer->decode(*ids, true);
  return {};
}

asio::awaitable<Result<>> Serving::generate(std::size_t prompt) {
  auto submitted = submit(prompt);
  if (!submitted) co_return submitted.error();
  final_extension_ = !hold_.chunked();
  std::vector<AnswerChunk> ready;
  const bool picking = request_->made() > request_->choices;
  for (std::uint32_t c = 0; !score_prompt_ && !echo_.empty() && c < request_->made(); ++c) {
    ready.push_back({});
    ready.back().choice = static_cast<std::uint32_t>(prompt) * request_->made() + c;
    ready.back().text = echo_;
  }
  while (running_) {
    co_await bell_->wait(extend_again_);
    if (departure_.left() && !gone_) leave();
    take_events(prompt, ready);
    if (expired_) co_return error(Errc::deadline_exceeded, "The request showed no sign of life for longer than limits.hold_expiry and was ended.");
    if (signals_->hold.load() == 2 && (!started_ || !shown_) && !gone_) {
      co_return error(Errc::ledger_unavailable, "The ledger could not record this request; try again later.");
    }
    if (gone_) ready.clear();
    if (ready.empty() || picking || held_back()) continue;
    if (deliver_now(ready)) continue;
    std::vector<AnswerChunk> now;
    now.swap(ready);
    auto delivering = deliver(std::move(now));
    auto delivered = co_await std::move(delivering);
    if (!delivered && !gone_) leave();
  }
  for (const ChoiceText& choice : choices_) outcome_.discarded_tokens += choice.discarded();
  output_before_ = usage_.output;
  reasoning_before_ = usage_.reasoning;
  cached_before_ = usage_.cached_input;
  if (picking) keep_best(prompt, ready);
  while (!ready.empty() && !gone_ && held_back()) {
    co_await bell_->wait();
    if (departure_.left()) leave();
  }
  if (!ready.empty() && !gone_) {
    auto delivering = deliver(std::move(ready));
    auto delivered = co_await std::move(delivering);
    if (!delivered) leave();
  }
  co_return Result<>{};
}

void Serving::take_events(std::size_t prompt, std::vector<AnswerChunk>& ready) {
  events_.clear();
  stream_->drain(events_);
  if (events_.empty() && extend_again_ == kNever) return;
  for (const engine::TokenEvent& event : events_) {
    ChoiceText& choice = choices_[event.choice];
    const auto number = static_cast<std::uint32_t>(prompt) * request_->made() + event.choice;
    auto chunk = std::find_if(ready.begin(), ready.end(), [&](const AnswerChunk& c) { return c.choice == number; });
    if (chunk == ready.end()) {
      ready.push_back({});
      chunk = ready.end() - 1;
      chunk->choice = number;
    }
    const bool ended_before = choice.ended();
    choice.take(event, *chunk);
    if (choice.ended() && !ended_before && !choice.engine_ended()) model_->engine->cancel(id_, event.choice);
    if (chunk->text.empty() && chunk->tokens.empty() && chunk->finish.empty() && chunk->reasoning.empty() && chunk->calls.empty()) {
      ready.erase(chunk);
    }
  }
  running_ = false;
  std::int64_t output = 0, reasoning = 0;
  for (const ChoiceText& choice : choices_) {
    output += choice.output();
    reasoning += choice.reasoning();
    if (!choice.engine_ended()) running_ = true;
    if (choice.ended() && weight(choice.finish()) > weight(finish_)) finish_ = choice.finish();
  }
  usage_.output = output_before_ + output;
  usage_.reasoning = reasoning_before_ + reasoning;
  usage_.cached_input = cached_before_ + stream_->cached_tokens();
  if (outcome_.queue_seconds < 0) {                  // of the first prompt
    const std::int64_t began = stream_->began_ns();
    if (began != 0) outcome_.queue_seconds = static_cast<double>(std::max<std::int64_t>(0, began - submitted_ns_)) * 1e-9;
  }
  // Of an answer that nobody has seen and that ends now the end itself tells the ledger. (In step mode deliver() waits for it.)
  const bool at_end = !parts_.progress_step && !running_ && prompt + 1 == prepared_.prompts.size() && !shown_;
  if (!events_.empty() && !at_end) count_progress();
  if (running_ && !final_extension_ && !gone_) extend_when_near();
}

// best_of: the answers whose tokens are the likeliest in the mean stay, the best first; the others were made and are counted.
void Serving::keep_best(std::size_t prompt, std::vector<AnswerChunk>& ready) const {
  const auto first = static_cast<std::uint32_t>(prompt) * request_->made();
  std::stable_sort(ready.begin(), ready.end(), [&](const AnswerChunk& a, const AnswerChunk& b) {
    return choices_[a.choice - first].mean_logprob() > choices_[b.choice - first].mean_logprob();
  });
  ready.resize(std::min<std::size_t>(ready.size(), request_->choices));
  for (std::size_t i = 0; i < ready.size(); ++i) ready[i].choice = static_cast<std::uint32_t>(prompt * request_->choices + i);
}

// The two counts may be of different commits: the output is never shown below its part.
Usage Serving::committed() const {
  Usage usage;
  usage.input = usage_.input;
  usage.cached_input = usage_.cached_input;
  usage.reasoning = signals_->durable_reasoning.load();
  usage.output = std::max(signals_->durable_output.load(), usage.reasoning);
  return usage;
}

void Serving::count_progress() {
  ledger::OnDurable durable;
  if (parts_.progress_step || request_->continuous_usage) {
    durable = [signals = signals_, bell = bell_, output = usage_.output, reasoning = usage_.reasoning](const Result<>& committed) {
      if (committed && output > signals->durable_output.load()) {
        signals->durable_reasoning.store(reasoning);
        signals->durable_output.store(output);
      }
      bell->ring();
    };
  }
  if (!hold_.progress(usage_, std::move(durable))) expired_ = true;
}

void Serving::extend_when_near() {
  std::int64_t most = 0;
  for (const ChoiceText& choice : choices_) {
    if (!choice.engine_ended()) most = std::max(most, choice.output());
  }
  const std::int64_t granted = hold_.granted_output();
  if (most + kExtendAhead < granted || std::chrono::steady_clock::now() < not_before_) return;
  extend_again_ = kNever;
  auto extended = hold_.extend();
  const std::int64_t pause_ms = !extended && extended.error().code == Errc::rate_limit_exceeded ? extended.error().retry_after_ms : -1;
  if (pause_ms > 0 && pause_ms <= kLongestPauseMs) {
    // The minute's tokens are used up: the engine waits at its limit, the answer goes on when the window has room again.
    not_before_ = extend_again_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(pause_ms);
    return;
  }
  final_extension_ = !extended || !hold_.chunked();
  model_->engine->extend(id_, extended ? *extended : granted, final_extension_);
}

// No byte leaves before the hold is durable. An answer that is sent whole leaves behind its settlement, whose commit covers
// the hold as well: it waits for one commit and not for two.
bool Serving::held_back() {
  if (!shown_ || signals_->hold.load() != 0) return false;
  signals_->hold_awaited.store(true);
  return signals_->hold.load() == 0;
}

// The usual way of a token that is not the first: to the socket, without waiting. False: deliver() must be awaited.
bool Serving::deliver_now(std::vector<AnswerChunk>& ready) {
  if (!started_ || parts_.progress_step || quick_ == nullptr) return false;
  const int tokens = prepare_delivery(ready);
  if (!quick_->write_now(ready)) return false;
  ready.clear();
  note_delivery(tokens);
  return true;
}

int Serving::prepare_delivery(std::vector<AnswerChunk>& ready) const {
  int tokens = 0;
  for (AnswerChunk& chunk : ready) {
    tokens += chunk.text.empty() && chunk.reasoning.empty() && chunk.calls.empty() ? 0 : 1;
    if (request_->continuous_usage) chunk.committed = committed();
  }
  return tokens;
}

void Serving::note_delivery(int tokens) {
  const std::int64_t now = parts_.clock.steady_ns();
  if (last_delivery_ns_ != 0 && tokens > 0 && parts_.on_inter_token) {
    parts_.on_inter_token(model_->card.id, static_cast<double>(now - last_delivery_ns_) * 1e-9, tokens);
  }
  last_delivery_ns_ = now;
}

asio::awaitable<Result<>> Serving::deliver(std::vector<AnswerChunk> ready) {
  const std::int64_t counted = usage_.output;
  // progress: step: a token is written only after the commit that covers it.
  bool again = false;
  while (parts_.progress_step && signals_->durable_output.load() < counted) {
    if (departure_.left()) co_return error(Errc::cancelled, "the client left");
    co_await bell_->wait();
    again = true;
  }
  if (again) bell_->ring_here();                     // a ring may have been for tokens: generate() looks before it waits
  if (!started_) {
    started_ = true;
    start_.rates = hold_.rates();
    auto begun = co_await sink_.begin(start_);
    if (!begun) co_return begun.error();
    outcome_.first_token_seconds = static_cast<double>(parts_.clock.steady_ns() - began_ns_) * 1e-9;
  }
  const int tokens = prepare_delivery(ready);
  if (quick_ != nullptr && quick_->write_now(ready)) {
    note_delivery(tokens);
    co_return Result<>{};
  }
  auto writing = sink_.write(std::move(ready));
  auto written = co_await std::move(writing);
  note_delivery(tokens);
  co_return written;
}

void Serving::leave() {
  gone_ = true;
  if (running_) model_->engine->cancel(id_);
}

// The one end of the hold; the outcome says what the entry says.
Result<billing::Charge> Serving::end_hold(const Usage& usage, const char* finish, ledger::OnDurable durable) {
  ended_ = true;
  auto charge = hold_.settle(usage, finish, std::move(durable));
  outcome_.finish = finish;
  if (!charge) return charge;
  outcome_.usage = usage;
  outcome_.charge = charge->total;
  outcome_.currency = hold_.currency();
  return charge;
}

asio::awaitable<Result<Receipt>> Serving::settle() {
  if (gone_ && weight(finish_) < weight(engine::Finish::cancelled)) finish_ = engine::Finish::cancelled;
  ledger::OnDurable durable = [signals = signals_, bell = bell_](const Result<>& committed) {
    signals->settle.store(committed ? 1 : 2);
    bell->ring();
  };
  auto charge = end_hold(usage_, engine::name(finish_), std::move(durable));
  if (!charge) co_return charge.error();
  // No client sees a count that a crash could lose. One that left has nobody to tell.
  while (signals_->settle.load() == 0 && !departure_.left()) co_await bell_->wait();
  if (gone_ || departure_.left()) co_return error(Errc::cancelled, "the client left");
  if (signals_->settle.load() == 2) {
    co_return error(Errc::ledger_unavailable, "The ledger could not record the end of this request.");
  }
  if (finish_ == engine::Finish::failed) co_return error(Errc::engine_failed, "The engine failed while answering; what was generated until then was counted.");
  if (finish_ == engine::Finish::deadline) {
    co_return error(Errc::deadline_exceeded, "The request could not end within its x-request-timeout; it was ended after " +
                                                 std::to_string(usage_.output) + " tokens.");
  }
  Receipt receipt;
  receipt.request = id_;
  receipt.model = model_->card.id;
  receipt.usage = usage_;
  receipt.cost = charge->total;
  receipt.currency = hold_.currency();
  receipt.tier = hold_.tier();
  for (billing::ChargeLine& line : charge->lines) receipt.lines.push_back({std::move(line.token_class), line.tokens, line.amount});
  co_return receipt;
}

}  // namespace tokenworks::gateway
