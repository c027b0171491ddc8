// The ledger thread: absorb what arrived, build one transaction, commit, tell; after a failure reopen, find out whether
// the last transaction got in, and go on.
#include <algorithm>

#include "ledger/admin.hpp"
#include "ledger/journal.hpp"
#include "ledger/log_tail.hpp"
#include "ledger/rules.hpp"
#include "ledger/service.hpp"
#include "tokenworks/base/burst.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::ledger {
namespace {

constexpr std::size_t kBatch = 16384;                // items per transaction
constexpr std::int64_t kBusy = 4;                    // entries in a commit from which on the next one waits for company
constexpr std::int64_t kIdleFlushNs = 1'000'000'000; // rollups of a store that fell silent
constexpr std::int64_t kFirstBackoffNs = 10'000'000, kLastBackoffNs = 1'000'000'000;
constexpr std::chrono::milliseconds kPoll{20};       // how soon a stepped clock is noticed
constexpr std::chrono::milliseconds kFailingPoll{1};

void tell(OnDurable& durable, const Result<>& result) {
  if (durable) durable(result);
  durable = nullptr;
}

}  // namespace

void Service::run() {
  std::chrono::steady_clock::time_point closing{};
  for (;;) {
    gather();
    const std::size_t before = pending_.size();
    const std::int64_t oldest = inbox_.wait_drain(pending_, patience());
    if (oldest != 0 && pending_settle_ns_.load() == 0) pending_settle_ns_ = oldest;
    absorb(before);
    if (lost_.load()) {
      give_up(error(Errc::ledger_unavailable, "another process took the books over; this one must restart"));
    } else if (work_due()) {
      if (!failing_ || clock_.steady_ns() >= retry_at_ns_ || inbox_.closed()) attempt();
    }
    if (!inbox_.closed()) continue;
    if (closing == std::chrono::steady_clock::time_point{}) closing = std::chrono::steady_clock::now();
    // What was pushed between this round's drain and the close is still inside.
    const bool rest = !inbox_.empty() || next_ < pending_.size() || (!failing_ && books_ && books_->rollups_pending());
    const bool patient =
        std::chrono::steady_clock::now() - closing < std::chrono::nanoseconds(tuning_.close_patience_ns);
    if (rest && !lost_.load() && (patient || !failing_)) continue;
    give_up(error(Errc::ledger_unavailable, "the ledger was closed before the store could commit"));
    break;
  }
  checkpointer_.reset();
  books_.reset();
}

// On a fast disk commits could follow each other so closely that each carries a handful of entries and writes the same pages
// to the log again: fifty times the bytes, and a checkpoint every third of a second. A slow disk needs no such pause.
void Service::gather() const {
  if (attempted_entries_ < kBusy || failing_) return;
  std::this_thread::sleep_until(attempted_at_ + std::chrono::microseconds(tuning_.gather_us));
}

std::chrono::nanoseconds Service::patience() const {
  if (lost_.load()) return std::chrono::seconds(1);
  if (failing_ || inbox_.closed()) return work_due() ? kFailingPoll : std::chrono::milliseconds(0);
  if (work_due()) return std::chrono::nanoseconds(0);
  if (!changed() && !(books_ && books_->rollups_pending())) return std::chrono::seconds(1);
  std::int64_t due = last_flush_ns_ + kIdleFlushNs;
  if (changed()) due = std::min(due, next_journal_ns_);
  const std::chrono::nanoseconds left(std::max<std::int64_t>(due - clock_.steady_ns(), 0));
  return std::clamp<std::chrono::nanoseconds>(left, std::chrono::microseconds(50), kPoll);
}

bool Service::work_due() const {
  if (next_ < pending_.size()) return true;
  if (failing_ || !books_) return true;              // reopen, so that health is true again without traffic
  const std::int64_t now = clock_.steady_ns();
  if (changed() && (options_.progress == ProgressMode::step || now >= next_journal_ns_)) return true;
  return books_->rollups_pending() && (inbox_.closed() || now - last_flush_ns_ >= kIdleFlushNs);
}

// Progress is only the newest state of its request: it never queues behind a store that fails.
void Service::absorb(std::size_t from) {
  for (std::size_t i = from; i < pending_.size(); ++i) {
    if (auto* follow = std::get_if<FollowItem>(&pending_[i])) {
      running_[follow->feed->request()].feed = std::move(follow->feed);
      dirty_ = true;
      continue;
    }
    auto* item = std::get_if<ProgressItem>(&pending_[i]);
    if (item == nullptr) continue;
    Running& running = running_[item->progress.request];
    running.newest = std::move(item->progress);
    running.told = true;
    dirty_ = true;
    if (item->durable) running.waiters.push_back(std::move(item->durable));
  }
  if (!failing_) return;
  const auto first = pending_.begin() + static_cast<std::ptrdiff_t>(std::max(from, next_ + outcomes_.size()));
  if (first >= pending_.end()) return;
  const auto end = std::remove_if(first, pending_.end(),
                                  [](const Item& item) { return std::holds_alternative<ProgressItem>(item) || std::holds_alternative<FollowItem>(item); });
  pending_.erase(end, pending_.end());
}

void Service::attempt() {
  if (!books_) {
    auto again = Books::resume(store_, clock_, writer_);
    if (!again) return failed(again.error());
    books_ = std::move(*again);
    // What surfaced as committed is acknowledged: it may be in the log without having been synced.
    if (attempted_commit_ != 0 && books_->commits() == attempted_commit_) {
      if (auto done = write_last_commit_again(books_->store()); !done) return failed(done.error());
      return committed(0);
    }
    // On a full disk the log may hold the space that is missing: what is committed goes into the database file, and the
    // log begins again. It works when it can; otherwise the attempt below says what is wrong.
    checkpointer_->copy_now(books_->store());
  }
  const std::int64_t begun = clock_.steady_ns();
  attempted_at_ = std::chrono::steady_clock::now();
  const std::size_t count = std::min(kBatch, pending_.size() - next_);
  attempted_commit_ = books_->commits() + 1;
  if (tuning_.planted.acknowledge_early) {
    for (std::size_t i = next_; i < next_ + count; ++i) {
      if (auto* r = std::get_if<RecordItem>(&pending_[i])) tell(r->durable, {});
    }
  }
  if (auto done = build(count); !done) return failed(done.error());
  committed(clock_.steady_ns() - begun);
}

Result<> Service::build(std::size_t count) {
  outcomes_.assign(count, Result<>());
  ended_.clear();
  journaled_.clear();
  dropped_.clear();
  if (auto done = books_->begin(); !done) return done;
  for (std::size_t i = 0; i < count; ++i) {
    Item& item = pending_[next_ + i];
    if (auto* r = std::get_if<RecordItem>(&item)) {
      if (auto done = books_->apply(r->record, outcomes_[i]); !done) return done;
      if (r->audit && outcomes_[i]) {
        if (auto done = write_audit(books_->store(), *r->audit); !done) return done;
      }
      const EntryType type = r->record.type;
      const bool ends = type == EntryType::settle || type == EntryType::release || type == EntryType::expire;
      if (ends && outcomes_[i] && running_.contains(r->record.request)) ended_.insert(r->record.request);
    } else if (auto* task = std::get_if<TaskItem>(&item)) {
      if (auto done = run_task(*task, outcomes_[i]); !done) return done;
    }
  }
  if (auto done = build_journal(next_ + count == pending_.size()); !done) return done;
  attempted_entries_ = books_->entries_in_transaction();
  // A few rows with every commit, in proportion to what it books and to what has piled up; all when nothing else is due.
  const bool all = inbox_.closed() || (count == 0 && clock_.steady_ns() - last_flush_ns_ >= kIdleFlushNs);
  RollupPace pace = tuning_.rollups;
  pace.rows += 4 * static_cast<std::size_t>(attempted_entries_) + books_->rollup_cells() / 64;
  if (all) pace.rows = SIZE_MAX;
  return books_->commit(pace);
}

// A task that fails is undone alone; only a transaction that cannot go on is the store's failure.
Result<> Service::run_task(const TaskItem& task, Result<>& outcome) {
  if (auto done = books_->store().run("SAVEPOINT task"); !done) return done;
  outcome = task.run(books_->store());
  if (!outcome) {
    if (auto done = books_->store().run("ROLLBACK TO task"); !done) return done;
  }
  return books_->store().run("RELEASE task");
}

// News that come while they are asked stir again, and wait for the next journal. A feed may know of an EXTEND that is still in
// the inbox: what is above the hold as booked waits one cadence for it.
void Service::ask_feeds() {
  dirty_ = stirred_.exchange(false) || dirty_;       // until a commit has it
  ahead_left_ = false;
  for (auto& [request, running] : running_) {
    if (running.feed == nullptr) continue;
    const bool waited = running.ahead.has_value();
    if (auto newest = running.feed->newest()) running.ahead = std::move(newest);
    if (!running.ahead) continue;
    Progress& news = *running.ahead;
    Result<> sound = check_usage(news.usage);
    if (sound) sound = check_lines(news.lines, news.charge);
    const std::int64_t held = books_->held(request);
    if (sound && held >= 0 && news.charge.nano > held) {
      if (!waited) {
        ahead_left_ = true;
        continue;
      }
      sound = error(Errc::internal, "progress of " + request.to_string() + " above its hold");
    }
    if (sound) {
      running.newest = std::move(news);
      running.told = true;
    } else {
      refused(sound.error());
    }
    running.ahead.reset();
  }
}

// The newest state of every running request in one row. Requests without an open hold have ended (their end covered
// them) unless records still wait that may open it.
Result<> Service::build_journal(bool all_consumed) {
  journal_after_ = journal_stored_;
  asked_ = false;
  const bool due = changed() && all_consumed &&
                   (options_.progress == ProgressMode::step || clock_.steady_ns() >= next_journal_ns_);
  if (!due) {
    if (!journal_stored_ || running_.size() != ended_.size()) return {};
    journal_after_ = false;
    return books_->write_journal({});
  }
  asked_ = true;
  ask_feeds();
  JournalWriter journal;
  for (auto& [request, running] : running_) {
    const std::int64_t held = books_->held(request);
    if (held < 0) {
      const bool ended = ended_.contains(request);
      if (!ended) dropped_.emplace_back(request, error(Errc::not_found, "progress of a request without an open hold"));
    } else if (!running.told) {
      continue;
    } else if (running.newest.charge.nano > held) {
      dropped_.emplace_back(request, error(Errc::internal, "progress of " + request.to_string() + " above its hold"));
    } else {
      journal.add(running.newest);
      running.covered = running.waiters.size();
      journaled_.push_back(request);
    }
  }
  journal_after_ = journal.count() > 0;
  if (!journal_after_ && !journal_stored_) return {};
  return books_->write_journal(journal_after_ ? journal.finish() : std::string());
}

void Service::committed(std::int64_t nanoseconds) {
  const std::size_t count = outcomes_.size();
  const std::int64_t now = clock_.steady_ns();
  std::function<void(std::int64_t, std::int64_t)> observer;
  {
    std::lock_guard lock(health_mutex_);
    health_.ok = true;
    observer = observer_;
  }
  if (failing_) log::info("ledger.works_again", {{"queued", queued_.load()}});
  failing_ = false;
  backoff_ns_ = 0;
  attempted_commit_ = 0;
  if (count > 0 || !books_->rollups_pending()) last_flush_ns_ = now;
  journal_stored_ = journal_after_;
  if (observer && nanoseconds > 0) observer(nanoseconds, attempted_entries_);

  std::vector<std::pair<std::vector<OnDurable>, Result<>>> waiting;
  for (const RequestId& request : ended_) {
    if (const auto found = running_.find(request); found != running_.end()) {
      waiting.emplace_back(std::move(found->second.waiters), Result<>());
      running_.erase(found);
    }
  }
  bool newer = ahead_left_;                          // progress that came while a commit was in doubt
  for (const RequestId& request : journaled_) {
    const auto found = running_.find(request);
    if (found == running_.end()) continue;
    auto& all = found->second.waiters;
    const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(found->second.covered, all.size()));
    if (end != all.begin()) {
      waiting.emplace_back(std::vector<OnDurable>(std::make_move_iterator(all.begin()), std::make_move_iterator(end)),
                           Result<>());
    }
    all.erase(all.begin(), end);
    newer = newer || !all.empty();
  }
  for (auto& [request, why] : dropped_) {
    if (why.error().code == Errc::internal) refused(why.error());
    waiting.emplace_back(std::move(running_[request].waiters), why);
    running_.erase(request);
  }
  if (asked_) {
    next_journal_ns_ = now + options_.progress_every_ns;
    dirty_ = newer;
  }
  if (running_.empty()) dirty_ = false;

  const std::size_t first = next_;
  next_ += count;
  std::int64_t oldest = 0;
  for (std::size_t i = next_; i < pending_.size() && oldest == 0; ++i) {
    const auto* r = std::get_if<RecordItem>(&pending_[i]);
    if (r != nullptr && r->record.type == EntryType::settle) oldest = r->queued_ns;
  }
  pending_settle_ns_ = oldest;
  {
    const Burst wakes;                               // over before the checkpoint, which may take its time
    for (std::size_t i = 0; i < count; ++i) {
      Item& item = pending_[first + i];
      if (auto* r = std::get_if<RecordItem>(&item)) {
        --queued_;
        if (!outcomes_[i]) refused(outcomes_[i].error());
        tell(r->durable, outcomes_[i]);
      } else if (auto* task = std::get_if<TaskItem>(&item)) {
        if (!outcomes_[i]) log::warn("ledger.task_failed", {{"error", outcomes_[i].error().message}});
        tell(task->durable, outcomes_[i]);
      }
    }
    for (auto& [waiters, result] : waiting) {
      for (OnDurable& waiter : waiters) tell(waiter, result);
    }
  }
  asked_ = false;
  outcomes_.clear();
  ended_.clear();
  journaled_.clear();
  dropped_.clear();
  drop_consumed(pending_, next_);
  checkpointer_->after_commit(books_->store(), books_->wal_pages());
}

// Whatever went wrong, the connection is suspect: it is closed, and the store is asked what it really holds.
void Service::failed(const Error& why) {
  books_.reset();
  if (why.code == Errc::ledger_unavailable) lost_ = true;
  {
    std::lock_guard lock(health_mutex_);
    health_.ok = false;
    ++health_.failures;
    health_.last_error = why.message;
  }
  if (!failing_) log::error("ledger.commit_failed", {{"error", why.message}});
  retry_at_ns_ = clock_.steady_ns() + backoff_ns_;
  backoff_ns_ = backoff_ns_ == 0 ? kFirstBackoffNs : std::min(2 * backoff_ns_, kLastBackoffNs);
  failing_ = true;
}

void Service::give_up(const Error& why) {
  for (std::size_t i = next_; i < pending_.size(); ++i) {
    if (auto* r = std::get_if<RecordItem>(&pending_[i])) {
      --queued_;
      tell(r->durable, why);
    } else if (auto* task = std::get_if<TaskItem>(&pending_[i])) {
      tell(task->durable, why);
    }
  }
  for (auto& [request, running] : running_) {
    for (OnDurable& waiter : running.waiters) tell(waiter, why);
  }
  pending_.clear();
  running_.clear();
  outcomes_.clear();
  next_ = 0;
  pending_settle_ns_ = 0;
}

void Service::refused(const Error& why) {
  {
    std::lock_guard lock(health_mutex_);
    ++health_.refused;
  }
  log::error("ledger.refused", {{"error", why.message}});
}

}  // namespace tokenworks::ledger
