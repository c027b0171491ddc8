#pragma once
// Serving: one admitted request while it runs: its hold, its choices, what was counted. `run` is the middle of the story in
// docs/life_of_a_request.md (steps 5 to 9). Lives in the coroutine's frame; when that dies early, the sequences are
// cancelled and the hold settles what was counted.
#include <boost/asio/awaitable.hpp>
#include <atomic>
#include <memory>
#include <vector>

#include "answer.hpp"
#include "bell.hpp"
#include "prepare.hpp"
#include "tokenworks/gateway/plant.hpp"
#include "tokenworks/gateway/quick_sink.hpp"

namespace tokenworks::gateway {

// Written by the ledger thread, read by the coroutine after a ring.
struct Signals {
  std::atomic<int> hold{0};                          // 0 pending, 1 durable, 2 lost
  std::atomic<bool> hold_awaited{false};             // by the coroutine: it sets this, then looks at `hold` once more, then sleeps
  std::atomic<int> settle{0};
  std::atomic<std::int64_t> durable_output{0}, durable_reasoning{0};   // progress: step, continuous usage
};

class Serving {
 public:
  Serving(const ServiceParts& parts, std::shared_ptr<const ServedModel> model, std::shared_ptr<const GenerateRequest> request,
          RequestId id, std::shared_ptr<Bell> bell, std::shared_ptr<Signals> signals, Prepared prepared, Hold hold,
          AnswerStart start, AnswerSink& sink, Departure& departure, Outcome& outcome);
  ~Serving();
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

  // Generates every prompt's choices, then settles. The receipt is durable.
  boost::asio::awaitable<Result<Receipt>> run();

 private:
  Result<> submit(std::size_t prompt);
  Reading reading_of(std::size_t prompt) const;
  std::string prompt_text(std::size_t prompt) const;
  boost::asio::awaitable<Result<>> generate(std::size_t prompt);
  void take_events(std::size_t prompt, std::vector<AnswerChunk>& ready);
  void keep_best(std::size_t prompt, std::vector<AnswerChunk>& ready) const;
  void count_progress();
  Usage committed() const;                           // what the ledger has of it
  void extend_when_near();
  bool held_back();
  bool deliver_now(std::vector<AnswerChunk>& ready);
  boost::asio::awaitable<Result<>> deliver(std::vector<AnswerChunk> ready);
  int prepare_delivery(std::vector<AnswerChunk>& ready) const;
  void note_delivery(int tokens);
  boost::asio::awaitable<Result<Receipt>> settle();
  Result<billing::Charge> end_hold(const Usage& usage, const char* finish, ledger::OnDurable durable);
  void leave();                                      // the client is gone: cancel what runs, go on counting

  const ServiceParts& parts_;
  std::shared_ptr<const ServedModel> model_;
  std::shared_ptr<const GenerateRequest> request_;
  RequestId id_;
  std::shared_ptr<Bell> bell_;
  std::shared_ptr<Signals> signals_;
  Prepared prepared_;
  Hold hold_;
  AnswerStart start_;
  AnswerSink& sink_;
  QuickSink* const quick_;                           // the sink, if it is one
  const bool shown_;                                 // the client sees parts of the answer before its end
  Departure& departure_;
  Outcome& outcome_;                                 // learns counts, charge and times; outlives this object

  std::int64_t began_ns_;
  std::int64_t deadline_ns_ = 0;
  std::shared_ptr<engine::TokenStream> stream_;      // of the prompt that runs
  std::vector<ChoiceText> choices_;                  // of the prompt that runs
  std::vector<engine::TokenEvent> events_;
  std::string echo_;
  Usage usage_;                                      // of all prompts so far
  std::int64_t output_before_ = 0, cached_before_ = 0, reasoning_before_ = 0;   // of the prompts that ended
  bool running_ = false, started_ = false, gone_ = false, final_extension_ = false, ended_ = false;
  bool expired_ = false;                             // the hold was ended by the tick
  bool score_prompt_ = false;                        // echo with log probabilities
  std::int64_t submitted_ns_ = 0, last_delivery_ns_ = 0;
  static constexpr auto kNever = std::chrono::steady_clock::time_point::max();
  std::chrono::steady_clock::time_point extend_again_ = kNever, not_before_{};   // a token window that is full for now
  engine::Finish finish_ = engine::Finish::stop;     // the worst end of any choice
};

}  // namespace tokenworks::gateway
