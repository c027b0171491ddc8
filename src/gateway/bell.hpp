#pragma once
// Bell: what a request's coroutine sleeps on. Other threads (engine, ledger) ring it; it wakes on its own IO thread. Rings
// that come while it is awake are not lost, several rings wake it once. Owned by shared_ptr: a late ring is harmless.
//
// All bells of an IO thread share a board: whoever rings writes the bell there, and only the first one wakes the thread,
// which then wakes every coroutine on the board. A step of the engine that ends with tokens for sixty streams, or a commit
// that covers sixty requests, costs one wake and not sixty.
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

namespace tokenworks::gateway {

class BellBoard;

class Bell : public std::enable_shared_from_this<Bell> {
 public:
  explicit Bell(const boost::asio::any_io_executor& executor);
  ~Bell();
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  // Any thread.
  void ring();
  // The IO thread only. The coroutine goes on later, never inside this call.
  void ring_here() {
    if (wake_ != nullptr) {
      ring();
    } else {
      rung_ = true;
    }
  }

  // Waits for a ring, or until `deadline` when one is given. The IO thread only; one at a time.
  boost::asio::awaitable<void> wait(std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max()) {
    if (!rung_) {
      if (deadline != std::chrono::steady_clock::time_point::max()) ring_at(deadline);
      auto initiation = [bell = this](auto&& handler) { bell->sleep(std::forward<decltype(handler)>(handler)); };
      auto sleeping = boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(initiation, boost::asio::use_awaitable);
      co_await std::move(sleeping);
      if (timer_) timer_->cancel();
    }
    rung_ = false;
  }

 private:
  friend class BellBoard;

  // Keeps the handler in this object until the coroutine is woken, or dropped with its io_context.
  template <class Handler>
  void sleep(Handler&& handler) {
    using H = std::decay_t<Handler>;
    static_assert(sizeof(H) <= sizeof place_ && alignof(H) <= alignof(std::max_align_t));
    ::new (static_cast<void*>(place_)) H(std::forward<Handler>(handler));
    wake_ = [](void* place, bool go_on) {
      H* kept = std::launder(static_cast<H*>(place));
      H mine(std::move(*kept));
      kept->~H();
      if (go_on) std::move(mine)();                  // may be the end of the coroutine and of this bell
    };
    enlist();
  }
  void enlist();
  void wake();                                       // IO thread, from the board
  void drop();                                       // the same, as the io_context ends
  void ring_at(std::chrono::steady_clock::time_point deadline);

  const boost::asio::any_io_executor executor_;
  const std::shared_ptr<BellBoard> board_;
  std::atomic<bool> on_board_{false};
  std::optional<boost::asio::steady_timer> timer_;
  bool rung_ = false;
  void (*wake_)(void*, bool) = nullptr;              // while a coroutine waits
  alignas(std::max_align_t) std::byte place_[64];
  Bell* before_ = nullptr;                           // of the board's list of those that wait
  Bell* after_ = nullptr;
};

}  // namespace tokenworks::gateway
