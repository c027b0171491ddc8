#pragma once
// Inbox: what callers hand to the ledger thread, in order. Bounded by records; progress and administration always fit
// (their number is bounded by running requests and by callers that wait). Knows since when the oldest SETTLE waits.
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include "ledger/sqlite.hpp"
#include "tokenworks/ledger/ledger.hpp"
#include "tokenworks/ledger/progress_feed.hpp"

namespace tokenworks::ledger {

struct RecordItem {
  Record record;
  OnDurable durable;
  std::int64_t queued_ns = 0;                        // steady
  std::optional<AuditEvent> audit = {};              // written with the entry
};
struct ProgressItem {
  Progress progress;
  OnDurable durable;
};
struct FollowItem {
  std::shared_ptr<ProgressFeed> feed;
};
// Work inside the transaction: a mutation of the rows beside the books. An error of `run` undoes only this item.
struct TaskItem {
  std::function<Result<>(const Connection&)> run;
  OnDurable durable;
};
using Item = std::variant<RecordItem, ProgressItem, TaskItem, FollowItem>;

// Forgets the first `next` items once they are as many as those that still wait: a queue that never runs empty must not keep
// all that ever went through it, and no item is moved more than once on the average.
template <class T>
void drop_consumed(std::vector<T>& items, std::size_t& next) {
  if (2 * next < items.size()) return;
  items.erase(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(next));
  next = 0;
}

class Inbox {
 public:
  // False when closed. Any thread.
  bool push(Item item) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return false;
      if (const auto* r = std::get_if<RecordItem>(&item); r != nullptr && r->record.type == EntryType::settle) {
        if (oldest_settle_ns_ == 0) oldest_settle_ns_ = r->queued_ns;
      }
      items_.push_back(std::move(item));
    }
    ready_.notify_one();
    return true;
  }

  // Ends a wait without an item. Any thread.
  void nudge() {
    {
      std::lock_guard lock(mutex_);
      nudged_ = true;
    }
    ready_.notify_one();
  }

  // Moves everything to the end of `into`, after waiting for something, for close or for `patience`. Ledger thread.
  // Returns the steady time at which the oldest SETTLE among them was queued, 0 when there is none.
  std::int64_t wait_drain(std::vector<Item>& into, std::chrono::nanoseconds patience) {
    std::unique_lock lock(mutex_);
    if (patience.count() > 0) ready_.wait_for(lock, patience, [&] { return closed_ || nudged_ || !items_.empty(); });
    nudged_ = false;
    if (into.empty()) {
      into.swap(items_);
    } else {
      for (Item& item : items_) into.push_back(std::move(item));
      items_.clear();
    }
    return std::exchange(oldest_settle_ns_, 0);
  }

  void close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }
  bool closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }
  bool empty() const {
    std::lock_guard lock(mutex_);
    return items_.empty();
  }
  std::int64_t oldest_settle_ns() const {
    std::lock_guard lock(mutex_);
    return oldest_settle_ns_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::vector<Item> items_;
  std::int64_t oldest_settle_ns_ = 0;
  bool closed_ = false, nudged_ = false;
};

}  // namespace tokenworks::ledger
