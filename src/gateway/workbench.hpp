#pragma once
// Workbench: what takes too long for an IO thread, done on the plant's workers in turns between organizations, so that one
// with many long prompts or hostile schemas in hand keeps another waiting for a single job and not for all of its own.
// Grammars take far longer than prompts and never occupy the last worker. Any thread. The pool is stopped and joined before
// this goes; jobs that were not begun by then are dropped.
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace tokenworks::gateway {

enum class Work { prompt, grammar };

class Workbench {
 public:
  // `workers`: how many threads the pool has; of one alone grammars take their turns with prompts.
  Workbench(boost::asio::thread_pool& pool, int workers) : pool_(pool), grammars_most_(workers > 1 ? workers - 1 : 1) {}
  Workbench(const Workbench&) = delete;
  Workbench& operator=(const Workbench&) = delete;

  // `job` must not throw.
  void post(const std::string& organization, Work work, std::function<void()> job);

 private:
  struct Turns {                                     // one queue per organization, served in a circle
    std::map<std::string, std::deque<std::function<void()>>> waiting;
    std::deque<std::string> circle;
    void push(const std::string& organization, std::function<void()> job);
    std::function<void()> pop();
    bool empty() const { return circle.empty(); }
  };
  struct Next {
    std::function<void()> job;
    Work work;
  };
  std::optional<Next> next();
  void work_on();

  boost::asio::thread_pool& pool_;
  const int grammars_most_;
  std::mutex mutex_;
  Turns prompts_, grammars_;
  int grammars_running_ = 0;
};

}  // namespace tokenworks::gateway
