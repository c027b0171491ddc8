#pragma once
// IoThread: one io_context(1), the thread that runs it, and the connections that live on it.
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <atomic>
#include <future>
#include <thread>
#include <unordered_set>

#include "session.hpp"

namespace tokenworks::http {

class IoThread final : public Sessions {
 public:
  IoThread();
  ~IoThread() override;                              // stop() must have been called, or start() never

  void start();
  boost::asio::io_context& context() { return context_; }
  // Connections that live here or are on their way (announced by expect(), before their session exists). Any thread.
  std::int64_t connections() const { return count_.load(std::memory_order_relaxed); }
  void expect() { count_.fetch_add(1, std::memory_order_relaxed); }

  // Any thread: posted to the connections.
  void drain();
  // Aborts all connections, waits up to `patience` for them to end, then leaves the rest where they are and joins.
  void stop(std::chrono::nanoseconds patience);

  void add(Session& session) override;
  void remove(Session& session) override;

 private:
  std::unordered_set<Session*> sessions_;
  bool draining_ = false;
  std::atomic<std::int64_t> count_{0};
  boost::asio::io_context context_{1};               // after sessions_: what is left in it when it dies refers to them
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
  std::future<void> done_;
};

}  // namespace tokenworks::http
