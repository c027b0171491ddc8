#include "bell.hpp"

#include <boost/asio/execution_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>

#include <mutex>
#include <vector>

#include "tokenworks/base/burst.hpp"

namespace tokenworks::gateway {
namespace asio = boost::asio;

// The bells of one io_context. `rung_` is shared, the list of those that wait is the IO thread's own.
class BellBoard : public Burst::End, public std::enable_shared_from_this<BellBoard> {
 public:
  explicit BellBoard(asio::any_io_executor executor) : executor_(std::move(executor)) {}

  static std::shared_ptr<BellBoard> of(const asio::any_io_executor& executor);

  void ring(std::shared_ptr<Bell> bell) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return;
      rung_.push_back(std::move(bell));
      if (posted_) return;
      posted_ = true;
    }
    if (!Burst::postpone(shared_from_this())) burst_over();
  }

  // Not under the lock of the list, which the thread that this wakes needs at once.
  void burst_over() override {
    std::lock_guard lock(post_mutex_);
    if (ended_) return;
    asio::post(executor_, [board = shared_from_this()] { board->wake_all(); });
  }

  void enlist(Bell& bell) {
    bell.before_ = nullptr;
    bell.after_ = first_;
    if (first_ != nullptr) first_->before_ = &bell;
    first_ = &bell;
  }
  void delist(Bell& bell) {
    (bell.before_ != nullptr ? bell.before_->after_ : first_) = bell.after_;
    if (bell.after_ != nullptr) bell.after_->before_ = bell.before_;
  }

  // The io_context ends: nothing is posted to it any more, and what waits here dies with it.
  void close() {
    std::vector<std::shared_ptr<Bell>> late;
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
      late.swap(rung_);
    }
    {
      std::lock_guard lock(post_mutex_);
      ended_ = true;
    }
    while (first_ != nullptr) first_->drop();
  }

 private:
  // A coroutine that throws must not take the wakes of the others along.
  struct Rest {
    BellBoard& board;
    std::vector<std::shared_ptr<Bell>>& bells;
    std::size_t next = 0;
    ~Rest() {
      for (; next < bells.size(); ++next) board.ring(std::move(bells[next]));
      bells.clear();
    }
  };

  void wake_all() {
    std::vector<std::shared_ptr<Bell>> bells;
    {
      std::lock_guard lock(mutex_);
      bells.swap(rung_);
      rung_.swap(spare_);
      posted_ = false;
    }
    {
      Rest rest{*this, bells};
      while (rest.next < bells.size()) {
        const std::shared_ptr<Bell> bell = std::move(bells[rest.next++]);
        bell->on_board_.exchange(false, std::memory_order_acq_rel);
        bell->wake();
      }
    }
    std::lock_guard lock(mutex_);
    if (spare_.capacity() < bells.capacity()) spare_.swap(bells);
  }

  const asio::any_io_executor executor_;
  Bell* first_ = nullptr;
  std::mutex mutex_;
  std::vector<std::shared_ptr<Bell>> rung_, spare_;  // the spare one is empty, and saves an allocation per wake
  bool posted_ = false, closed_ = false;
  std::mutex post_mutex_;                            // nothing is posted to an io_context that has ended
  bool ended_ = false;
};

namespace {

// Finds an io_context's board, and learns when it ends.
class BoardService : public asio::execution_context::service {
 public:
  using key_type = BoardService;
  static inline asio::execution_context::id id;
  explicit BoardService(asio::execution_context& context) : service(context) {}

  std::shared_ptr<BellBoard> board;

 private:
  void shutdown() override {
    if (board) board->close();
  }
};

}  // namespace

std::shared_ptr<BellBoard> BellBoard::of(const asio::any_io_executor& executor) {
  auto& service = asio::use_service<BoardService>(asio::query(executor, asio::execution::context));
  if (!service.board) service.board = std::make_shared<BellBoard>(executor);
  return service.board;
}

Bell::Bell(const asio::any_io_executor& executor) : executor_(executor), board_(BellBoard::of(executor)) {}

Bell::~Bell() = default;

void Bell::ring() {
  if (on_board_.exchange(true, std::memory_order_acq_rel)) return;   // it will be woken, and see what the caller wrote before
  board_->ring(shared_from_this());
}

void Bell::enlist() { board_->enlist(*this); }

void Bell::wake() {
  rung_ = true;
  if (wake_ == nullptr) return;
  board_->delist(*this);
  std::exchange(wake_, nullptr)(place_, true);
}

void Bell::drop() {
  board_->delist(*this);
  std::exchange(wake_, nullptr)(place_, false);
}

void Bell::ring_at(std::chrono::steady_clock::time_point deadline) {
  if (!timer_) timer_.emplace(executor_);
  timer_->expires_at(deadline);
  timer_->async_wait([weak = weak_from_this()](const boost::system::error_code& code) {
    const auto bell = weak.lock();
    if (!code && bell != nullptr) bell->ring_here();
  });
}

}  // namespace tokenworks::gateway
