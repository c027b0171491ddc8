#pragma once
// Bell: what a request's coroutine sleeps on. Other threads (engine, ledger) ring it; it wakes on its own IO thread. Rings
// that come while it is awake are not lost, several rings wake it once. Owned by shared_ptr: a late ring is harmless.
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>

namespace tokenworks::gateway {

class Bell : public std::enable_shared_from_this<Bell> {
 public:
  explicit Bell(const boost::asio::any_io_executor& executor) : timer_(executor) {}

  // Any thread.
  void ring() {
    boost::asio::post(timer_.get_executor(), [self = shared_from_this()] { self->ring_here(); });
  }
  // The IO thread only.
  void ring_here() {
    rung_ = true;
    timer_.cancel();
  }

  // Waits for a ring, or until `deadline` when one is given. The IO thread only.
  boost::asio::awaitable<void> wait(std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max()) {
    if (!rung_) {
      timer_.expires_at(deadline);
      constexpr auto token = boost::asio::as_tuple(boost::asio::use_awaitable);
      co_await timer_.async_wait(token);
    }
    rung_ = false;
  }

 private:
  boost::asio::steady_timer timer_;
  bool rung_ = false;
};

}  // namespace tokenworks::gateway
