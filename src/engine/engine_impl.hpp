#pragma once
// EngineImpl: the step loop. Everything below "engine thread" is touched by that thread alone and needs no lock; other
// threads reach it through the inbox and read it through `status_`. The thread never waits for a client, never spins: with
// nothing to run it sleeps on the inbox.
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "engine/queue_book.hpp"
#include "engine/request.hpp"
#include "engine/work_book.hpp"
#include "tokenworks/base/mailbox.hpp"
#include "tokenworks/engine/engine.hpp"
#include "tokenworks/scheduler/scheduler.hpp"

namespace tokenworks::engine {

class EngineImpl final : public Engine {
 public:
  EngineImpl(std::unique_ptr<model::Runner> runner, const EngineOptions& options, const Clock& clock,
             std::function<void(const StepReport&)> on_step);
  ~EngineImpl() override;

  const model::RunnerInfo& info() const override { return runner_->info(); }
  Result<> submit(Ticket ticket, Sequence sequence, std::shared_ptr<TokenStream> stream) override;
  void cancel(const RequestId& request, std::uint32_t choice) override;
  void extend(const RequestId& request, std::int64_t output_tokens, bool final) override;
  EngineStatus status() const override;
  void watch() override;
  void stop() override;

 private:
  struct Cancel {
    RequestId request;
    std::uint32_t choice;
  };
  struct Extend {
    RequestId request;
    std::int64_t output_tokens;
    bool final;
  };
  using Message = std::variant<std::unique_ptr<Request>, Cancel, Extend>;

  struct Drawn {                                     // the sampled rows of a choice: [first, first + 1 + drafts)
    Choice* choice;                                  // null: it ended meanwhile
    std::size_t first;
    std::int32_t drafts;
    bool pooled = false;                             // nothing was sampled: its text is complete
  };
  struct Flight {                                    // a step from its launch until its tokens are handed out
    bool open = false;
    std::vector<Drawn> drawn;
    std::vector<backend::Sampled> sampled;
    StepReport report;
    WorkBook work;
    std::int64_t began_ns = 0;
  };

  Result<> check(const Ticket& ticket, const Sequence& sequence) const;
  Result<> check_pooled(const Sequence& sequence) const;

  // Engine thread: the loop (engine_impl.cpp).
  void loop();
  void receive(bool wait);
  void begin(std::unique_ptr<Request> request);
  void on(const Cancel& message);
  void on(const Extend& message);
  void end_choice(Choice& choice, Finish finish);    // tells the scheduler, then the stream
  void end_told(Choice& choice);                     // the scheduler and the stream know already
  void end_all(Finish finish);
  void fail(const std::string& why);
  void finish_flight();
  void start_anew();                                 // after the watchdog ended every stream
  void drop_all();                                   // every request ends as failed, the scheduler starts empty
  void touch(Request& request);
  void leave_waiting(Request& request);
  void flush();
  void publish();

  // Engine thread: one step (step.cpp).
  bool step();                                       // false: nothing to run, or the device is lost
  bool land();                                       // flight_: take its tokens, hand them out, commit; false: the device is lost
  bool waits_for_host(const Drawn& drawn) const;     // what follows it needs the host to know its token
  void assume();                                     // ... of flight_: the next step may be planned before it has landed
  void forget(const Choice& choice);                 // by what is under way
  void expire(const std::vector<scheduler::Handle>& handles);
  void build(const scheduler::StepPlan& plan);
  void propose();                                    // drafts for what decodes
  std::span<const TokenId> still_forced(const Choice& choice) const;   // of a prompt that is scored: what it must say yet
  scheduler::Outcome take(Flight& flight, const Drawn& drawn);
  scheduler::Outcome take_one(Choice& choice, backend::Sampled& sampled);
  scheduler::Outcome take_pooled(Choice& choice);
  Finish finish_after(const Choice& choice, TokenId token) const;

  std::unique_ptr<model::Runner> runner_;
  const EngineOptions options_;
  const Clock& clock_;
  const std::function<void(const StepReport&)> on_step_;
  scheduler::Options scheduler_options_;

  Mailbox<Message> inbox_;
  std::atomic<std::int64_t> waiting_{0};             // requests between submit and their first rows
  std::atomic<bool> failed_{false}, stopping_{false};
  std::atomic<bool> abandoned_{false};               // the watchdog ended every stream; the engine thread has to follow
  std::atomic<bool> hung_{false};
  QueueBook book_;
  std::mutex streams_mutex_;                         // all that is in the engine, for the watchdog: stream and its choices
  std::unordered_map<std::shared_ptr<TokenStream>, std::uint32_t> streams_;
  mutable std::mutex status_mutex_;
  EngineStatus status_;
  std::int64_t progress_ns_ = 0;                     // last finished step, or when work came after none was there
  bool idle_ = true;                                 // nothing pending
  std::mutex stop_mutex_;

  // Engine thread.
  std::unique_ptr<scheduler::Scheduler> scheduler_;
  std::vector<Message> messages_;
  std::unordered_map<RequestId, std::unique_ptr<Request>> requests_;
  std::vector<Choice*> by_handle_;
  std::vector<RequestId> ended_;
  std::vector<std::unique_ptr<Request>> refused_;    // told `failed` at once
  std::vector<Request*> touched_;
  std::vector<backend::SequenceRows> sequence_rows_;
  std::vector<std::int32_t> sample_rows_;
  std::vector<backend::SampleRow> sampling_;
  Flight flight_, next_;                             // under way, and the one that is built behind it
  std::vector<std::uint8_t> goes_on_;
  ForcedMasks forced_;
  std::vector<model::PooledRows> pooled_;
  std::vector<TokenId> further_;                     // tokens beyond the first of each drawn choice, in order
  std::vector<scheduler::Outcome> outcomes_;
  std::int32_t without_number_ = 0;                  // requests that ended for want of one, with no row that had one between them
  std::int64_t tokens_generated_ = 0, left_waiting_ = 0, steps_overlapped_ = 0, landed_ns_ = 0;

  std::thread thread_;                               // last: starts when everything else stands
};

}  // namespace tokenworks::engine
