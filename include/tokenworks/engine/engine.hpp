#pragma once
// Engine: runs sequences on one model with continuous batching. It knows tenants as numbers with weights and has never
// heard of money: what a request may generate stands in its Ticket. One engine thread owns scheduler, blocks and model;
// everything public here may be called from any thread.
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "tokenworks/backend/sampling.hpp"
#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/base/work.hpp"
#include "tokenworks/model/runner.hpp"

namespace tokenworks::engine {

enum class Finish : std::uint8_t {
  running,
  stop,                                              // a stop token
  length,                                            // max_tokens, or the context is full
  budget,                                            // the ticket's output tokens, and no extension came
  cancelled,
  deadline,
  failed,                                            // the engine or the device
};
const char* name(Finish finish);

// Supplies a token mask per output position and learns what was chosen (grammar::Matcher wraps into this). Called on the
// engine thread; must be quick. `mask` points at (vocab + 31) / 32 words.
class Constraint {
 public:
  virtual ~Constraint() = default;
  virtual const std::uint32_t* mask() = 0;           // null: everything allowed
  virtual void accept(TokenId token) = 0;
  virtual bool finished() const = 0;                 // nothing but a stop token may follow
};

// One request for the engine: a prompt and `choices` continuations of it that differ in their draws.
struct Sequence {
  std::vector<TokenId> prompt;                       // not empty; wiped when the sequence ends
  std::uint32_t choices = 1;
  std::int64_t max_tokens = 0;                       // output tokens per choice, >= 1
  backend::SamplingParams sampling;
  std::vector<backend::TokenBias> bias;
  std::vector<TokenId> stop_tokens;                  // besides the model's own
  bool ignore_eos = false;                           // the model's own stop tokens do not stop it
  std::int64_t deadline_ns = 0;                      // steady clock; 0: none
  bool extendable = false;                           // at the ticket's limit wait for extend() instead of ending (chunked holds)
  std::vector<std::shared_ptr<Constraint>> constraints;   // empty, or one per choice
  bool score_prompt = false;                         // every prompt token but the first is an event too, before the output
  // Embeddings: nothing is generated; each of `texts` is a choice of its own, whose vector its stream gets with its finish.
  // `prompt` stays empty, max_tokens is 1, no choice samples.
  model::Pooling pooling = model::Pooling::none;
  std::vector<std::vector<TokenId>> texts;
};

struct TokenEvent {
  std::uint32_t choice = 0;
  TokenId token = -1;                                // -1: no token, only the end
  float logprob = 0;
  std::vector<backend::TokenLogprob> top;
  Finish finish = Finish::running;                   // on the last event of a choice
  bool prompt = false;                               // of the prompt (score_prompt): what the model gave it, not generated
};

// The way back: the engine pushes, one consumer drains. Holds at most the request's own remaining output. `wake` is called
// at most once per drain, from the engine thread, after the step; it must only post (no locks, no I/O).
class TokenStream {
 public:
  explicit TokenStream(std::function<void()> wake) : wake_(std::move(wake)) {}
  // Moves what arrived into `into` (appended). Consumer only.
  void drain(std::vector<TokenEvent>& into);
  // Prompt tokens taken from the prefix cache; valid once an event arrived.
  std::int64_t cached_tokens() const;
  // When its first rows were computed, on the engine's steady clock; 0: not yet.
  std::int64_t began_ns() const;
  // The pooled vector of a choice that finished with `stop`; moved out. Consumer only.
  std::vector<float> take_embedding(std::uint32_t choice);
  // Called from the consumer before it goes away: no further wake.
  void detach();

 private:
  friend class EngineImpl;
  void push(TokenEvent&& event);                     // engine thread; dropped when its choice has its finish
  // Any thread: a finish for every choice that has none, and a wake. What the engine pushes later is dropped.
  void end_rest(std::uint32_t choices, Finish finish);
  bool ended(std::uint32_t choices) const;           // every choice has its finish
  void flush();                                      // engine thread, once per step: at most one wake
  void set_cached(std::int64_t tokens);
  void set_began(std::int64_t steady_ns);
  void set_embedding(std::uint32_t choice, std::vector<float> vector);

  mutable std::mutex mutex_;
  std::vector<TokenEvent> events_;
  std::function<void()> wake_;
  std::int64_t cached_ = 0, began_ns_ = 0;
  bool pending_ = false, woken_ = false;
  std::vector<bool> ended_;                          // [choice]
  std::vector<std::vector<float>> embeddings_;       // [choice], of those that have one
};

struct EngineOptions {
  std::size_t inbox = 1024;                          // requests waiting to be drained or scheduled, queue_requests
  std::int64_t step_target_ns = 25'000'000;
  std::array<std::int64_t, 3> cost_units_micro{1'000'000, 100'000, 2'000'000};   // of a prompt token, a cached one, one of output
  bool prefix_cache = true;
  std::string cache_secret;                          // the server's secret: salts the prefix cache per tenant
  std::int64_t queue_per_tenant = 256;               // of the inbox: of one tenant in one tier
  bool speculation = false;                          // n-gram drafts from the request's own tokens; the output is the same
  // The watchdog, by the age of the last finished step: not healthy; every sequence ends as failed; the device is lost.
  std::int64_t stuck_after_ns = 2'000'000'000, fail_after_ns = 10'000'000'000, lost_after_ns = 30'000'000'000;
};

struct EngineStatus {                                // one consistent picture, at most one step old
  std::int64_t running = 0, waiting = 0;
  std::int64_t kv_blocks_used = 0, kv_blocks_cached = 0, kv_blocks_free = 0;
  std::int64_t steps = 0, tokens_generated = 0, preemptions = 0, prefix_hit_tokens = 0;
  std::int64_t prefill_tokens = 0, decode_tokens = 0, reserved_tokens = 0;
  std::int64_t draft_tokens = 0, draft_tokens_kept = 0;
  std::int64_t steps_overlapped = 0;                 // begun before the step before had told its tokens
  std::int64_t rows_discarded = 0;                   // decoded in such a step for what had ended: nobody's tokens
  std::int64_t swap_blocks_used = 0, swap_blocks_free = 0, swapped_out = 0, swapped_in = 0;   // host memory, in KV blocks
  std::int64_t last_step_age_ns = 0;                 // since the last finished step while work is pending, else 0
  std::int64_t predicted_wait_ns = 0;                // what the last in all the queues would wait for its first step
  double fairness_gap_units = 0, fairness_bound_units = 0;
  bool healthy = true;
  bool failed = false;                               // the device is lost: restart the process
  bool hung = false;                                 // ... in a step that does not return: stop() would not either
};

// What a step cost and for whom it worked; called on the engine thread after each step.
struct StepReport {
  std::int64_t duration_ns = 0;
  std::int32_t prefill_tokens = 0, decode_tokens = 0, sequences = 0;
  std::span<const TenantWork> work{};                // valid during the call
};

class Engine {
 public:
  virtual ~Engine() = default;                       // stops: running sequences end as cancelled
  virtual const model::RunnerInfo& info() const = 0;

  // The stream gets every token and exactly one finish per choice, also after a failure. rate_limit_exceeded when the
  // tenant's own queue in this tier is full, server_is_overloaded when the inbox is or when the request is not expected to
  // end before its deadline, both with the time after which to try again; engine_failed when the device is lost,
  // server_draining after stop().
  virtual Result<> submit(Ticket ticket, Sequence sequence, std::shared_ptr<TokenStream> stream) = 0;
  // Ends one choice, or all with kAllChoices; their blocks are free before the next plan. The stream still gets the
  // tokens made until then and the finish. Unknown ids are ignored: the sequence ended first.
  static constexpr std::uint32_t kAllChoices = ~0u;
  virtual void cancel(const RequestId& request, std::uint32_t choice = kAllChoices) = 0;
  // Chunked holds: every choice may now generate `output_tokens` in all; `final`: no further extension will come, at that
  // limit the sequence ends as `budget`.
  virtual void extend(const RequestId& request, std::int64_t output_tokens, bool final) = 0;

  virtual EngineStatus status() const = 0;
  // The watchdog's look, to be taken a few times a second from a thread that is not the engine's. When a step is older than
  // fail_after it ends every stream as failed, with exactly the tokens that were handed over; if the step returns after
  // all, the engine starts anew with an empty cache. After lost_after the status says failed and hung.
  virtual void watch() = 0;
  virtual void stop() = 0;                           // refuses new work, ends what runs, joins the thread
};

std::unique_ptr<Engine> make_engine(std::unique_ptr<model::Runner> runner, const EngineOptions& options, const Clock& clock,
                                    std::function<void(const StepReport&)> on_step = {});

}  // namespace tokenworks::engine
