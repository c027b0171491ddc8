#pragma once
// Collector: the consumer's end of a request in a test: waits for wakes, drains, checks the shape of what came.
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>

#include "support/fake_runner.hpp"
#include "support/ticket.hpp"
#include "tokenworks/engine/engine.hpp"

namespace tokenworks::engine {

class Collector {
 public:
  explicit Collector(std::uint32_t choices = 1) : choices_(choices) {
    stream_ = std::make_shared<TokenStream>([this] {
      std::lock_guard lock(mutex_);
      ++wakes_;
      changed_.notify_all();
    });
  }
  ~Collector() { stream_->detach(); }

  const std::shared_ptr<TokenStream>& stream() const { return stream_; }

  // Until every choice ended, or `tokens` came in all.
  void wait(std::size_t tokens = ~std::size_t{0}) {
    for (;;) {
      drain();
      if (finishes_.size() == choices_ || count_ >= tokens) return;
      std::unique_lock lock(mutex_);
      ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] { return wakes_ > handled_; })) << "no wake came";
      handled_ = wakes_;
    }
  }
  void drain() {
    std::vector<TokenEvent> events;
    stream_->drain(events);
    for (TokenEvent& e : events) {
      EXPECT_EQ(finishes_.count(e.choice), 0u) << "an event after the finish of its choice";
      if (e.prompt) {
        EXPECT_TRUE(tokens_[e.choice].empty()) << "the prompt comes before the output";
        prompt_[e.choice].push_back(e.token);
        continue;
      }
      if (e.token >= 0) tokens_[e.choice].push_back(e.token), logprobs_[e.choice].push_back(e.logprob), ++count_;
      if (e.finish != Finish::running) finishes_[e.choice] = e.finish;
      last_ = std::move(e);
    }
  }
  const std::vector<TokenId>& tokens(std::uint32_t choice = 0) { return tokens_[choice]; }
  const std::vector<TokenId>& prompt(std::uint32_t choice = 0) { return prompt_[choice]; }   // of a prompt that is scored
  const std::vector<float>& logprobs(std::uint32_t choice = 0) { return logprobs_[choice]; }
  Finish finish(std::uint32_t choice = 0) const { return finishes_.count(choice) != 0 ? finishes_.at(choice) : Finish::running; }
  const TokenEvent& last() const { return last_; }
  int wakes() {
    std::lock_guard lock(mutex_);
    return wakes_;
  }

 private:
  const std::uint32_t choices_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int wakes_ = 0, handled_ = 0;
  std::map<std::uint32_t, std::vector<TokenId>> tokens_, prompt_;
  std::map<std::uint32_t, std::vector<float>> logprobs_;
  std::map<std::uint32_t, Finish> finishes_;
  std::size_t count_ = 0;
  TokenEvent last_;
  std::shared_ptr<TokenStream> stream_;
};

inline RequestId request_id(std::uint64_t n) {
  std::array<std::uint8_t, 10> random{};
  for (std::size_t i = 0; i < 8; ++i) random[2 + i] = static_cast<std::uint8_t>(n >> 8 * (7 - i));
  return RequestId::make(1, random);
}

inline Sequence sequence(std::vector<TokenId> prompt, std::int64_t max_tokens, std::uint64_t seed = 0) {
  Sequence s;
  s.prompt = std::move(prompt);
  s.max_tokens = max_tokens;
  s.sampling.seed = seed;
  return s;
}

inline Sequence endless(std::vector<TokenId> prompt) {
  Sequence s = sequence(std::move(prompt), 900);
  s.ignore_eos = true;
  return s;
}

inline std::vector<TokenId> prompt_of(std::uint64_t seed, std::size_t length) {
  std::mt19937_64 random(seed);
  std::vector<TokenId> prompt(length);
  for (TokenId& t : prompt) t = 10 + static_cast<TokenId>(random() % 900);
  return prompt;
}

// An engine over a FakeRunner.
struct Rig {
  explicit Rig(const test::FakeRunner::Shape& shape = {}, const EngineOptions& options = {})
      : engine(make_engine(std::make_unique<test::FakeRunner>(shape, controls), options, clock)) {}
  ~Rig() {                                           // a test that gave up while a step is held ends as failed, not never
    controls->hold_before_step(-1);
    controls->hold(false);
  }

  std::shared_ptr<test::FakeRunner::Controls> controls = std::make_shared<test::FakeRunner::Controls>();
  ManualClock clock{1'700'000'000'000'000'000};
  std::unique_ptr<Engine> engine;

  // Until the engine's thread has come so far, however late it is given a core.
  template <class Condition>
  void until(const Condition& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition(engine->status())) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "the engine does not come to the state the test waits for";
      std::this_thread::yield();
    }
  }
  void settle() {                                    // until the engine holds nothing of any request
    until([](const EngineStatus& s) { return s.running == 0 && s.waiting == 0 && s.last_step_age_ns == 0 && s.kv_blocks_used == 0; });
  }
};

}  // namespace tokenworks::engine
