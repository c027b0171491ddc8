#include "ledger/service.hpp"

#include <pthread.h>

#include <algorithm>
#include <future>

#include "ledger/admin.hpp"
#include "ledger/outbox.hpp"
#include "ledger/price_history.hpp"
#include "ledger/backup.hpp"
#include "ledger/rules.hpp"
#include "ledger/verify.hpp"

namespace tokenworks::ledger {

Result<std::unique_ptr<Ledger>> Ledger::open(const LedgerOptions& options, const Clock& clock) {
  auto made = Service::open(options, Tuning{}, clock);
  if (!made) return made.error();
  return std::unique_ptr<Ledger>(std::move(*made));
}

Result<std::unique_ptr<Service>> Service::open(const LedgerOptions& options, const Tuning& tuning, const Clock& clock) {
  const StoreOptions store{options.path, options.vfs, options.build_id, tuning.planted};
  Recovery recovery;
  auto books = Books::open(store, clock, recovery);
  if (!books) return books.error();
  auto checkpointer =
      Checkpointer::open(options.path, options.vfs, tuning.checkpoints);
  if (!checkpointer) return checkpointer.error();
  return std::unique_ptr<Service>(
      new Service(options, tuning, clock, std::move(*books), std::move(*checkpointer), std::move(recovery)));
}

Service::Service(const LedgerOptions& options, const Tuning& tuning, const Clock& clock, std::unique_ptr<Books> books,
                 std::unique_ptr<Checkpointer> checkpointer, Recovery recovery)
    : options_(options), tuning_(tuning),
      store_{options.path, options.vfs, options.build_id, tuning.planted}, clock_(clock),
      recovery_(std::move(recovery)), readers_(options.path, options.vfs), checkpointer_(std::move(checkpointer)),
      books_(std::move(books)), writer_(books_->writer()) {
  last_flush_ns_ = next_journal_ns_ = clock_.steady_ns();
  thread_ = std::thread([this] { run(); });
  pthread_setname_np(thread_.native_handle(), "tw-ledger");
}

Service::~Service() {
  inbox_.close();
  thread_.join();
}

Health Service::health() const {
  Health health;
  {
    std::lock_guard lock(health_mutex_);
    health = health_;
  }
  health.queued = queued_.load();
  std::int64_t oldest = pending_settle_ns_.load();
  if (oldest == 0) oldest = inbox_.oldest_settle_ns();
  if (oldest != 0) health.oldest_unacknowledged_settle_ns = std::max<std::int64_t>(clock_.steady_ns() - oldest, 0);
  return health;
}

void Service::on_commit(std::function<void(std::int64_t, std::int64_t)> observer) {
  std::lock_guard lock(health_mutex_);
  observer_ = std::move(observer);
}

Result<> Service::push(Item item) {
  if (lost_.load())
    return error(Errc::ledger_unavailable, "another process took the books over; this one must restart");
  if (!inbox_.push(std::move(item))) return error(Errc::ledger_unavailable, "the ledger is closed");
  return {};
}

Result<> Service::append(Record record, OnDurable durable) {
  if (queued_.fetch_add(1) >= static_cast<std::int64_t>(options_.queue_records)) {
    --queued_;
    return error(Errc::ledger_unavailable, "the ledger's queue is full: the store does not keep up or cannot sync");
  }
  auto done = push(RecordItem{std::move(record), std::move(durable), clock_.steady_ns()});
  if (!done) --queued_;
  return done;
}

Result<> Service::book(const Record& record, const AuditEvent& audit) {
  const auto promise = std::make_shared<std::promise<Result<>>>();
  auto done = promise->get_future();
  if (queued_.fetch_add(1) >= static_cast<std::int64_t>(options_.queue_records)) {
    --queued_;
    return error(Errc::ledger_unavailable, "the ledger's queue is full: the store does not keep up or cannot sync");
  }
  auto pushed = push(RecordItem{record, [promise](const Result<>& result) { promise->set_value(result); }, clock_.steady_ns(), audit});
  if (!pushed) {
    --queued_;
    return pushed;
  }
  if (done.wait_for(std::chrono::nanoseconds(tuning_.admin_patience_ns)) != std::future_status::ready) {
    return error(Errc::ledger_unavailable, "the ledger did not commit in time; the entry may still be booked: ask again with the same id");
  }
  return done.get();
}

Result<> Service::annotate(Annotation annotation) {
  if (annotation.tags.empty()) return {};
  return push(TaskItem{[annotation = std::move(annotation)](const Connection& store) {
                         return write_annotation(store, annotation);
                       },
                       {}});
}

void Service::progress(Progress progress, OnDurable durable) {
  Result<> sound = check_usage(progress.usage);
  if (sound) sound = check_lines(progress.lines, progress.charge);
  if (!sound) {
    refused(sound.error());
  } else {
    const OnDurable tell = durable;
    sound = push(ProgressItem{std::move(progress), std::move(durable)});
    if (sound) return;
    durable = tell;
  }
  if (durable) durable(sound);
}

bool Service::follow(std::shared_ptr<ProgressFeed> feed) {
  return options_.progress == ProgressMode::cadence && bool(push(FollowItem{std::move(feed)}));
}

// Once stirred, it stays so until the journal asks: of all the tokens of a cadence the first one wakes the thread.
void Service::stir() {
  if (stirred_.load(std::memory_order_relaxed) || stirred_.exchange(true)) return;
  inbox_.nudge();
}

// Runs `work` in the ledger thread's next transaction and waits for its commit, but not for ever. What the caller gave up is
// not run any more; when it had been run in a transaction whose fate is open, that transaction decides.
Result<> Service::wait(std::function<Result<>(const Connection&)> work) {
  enum State : int { waiting, ran, told, given_up };
  struct Shared {
    std::promise<Result<>> promise;
    std::atomic<int> state{waiting};
  };
  auto shared = std::make_shared<Shared>();
  auto done = shared->promise.get_future();
  const auto run = [work = std::move(work), shared](const Connection& store) -> Result<> {
    int before = waiting;
    if (!shared->state.compare_exchange_strong(before, ran) && before == given_up) {
      return error(Errc::ledger_unavailable, "its caller has given up");
    }
    return work(store);
  };
  auto pushed = push(TaskItem{run, [shared, late = late_](const Result<>& result) {
                                if (shared->state.exchange(told) != given_up) return shared->promise.set_value(result);
                                if (result) *late = true;
                              }});
  if (!pushed) return pushed;
  if (done.wait_for(std::chrono::nanoseconds(tuning_.admin_patience_ns)) == std::future_status::ready) return done.get();
  switch (shared->state.exchange(given_up)) {
    case told: return done.get();
    case ran: return error(Errc::ledger_unavailable, "the ledger did not commit in time; the change may still take effect: look before you ask again");
    default: return error(Errc::ledger_unavailable, "the ledger did not commit in time; nothing was changed");
  }
}

Result<> Service::put_key(const KeyRow& row, const AuditEvent& audit) {
  return wait([row, audit](const Connection& store) -> Result<> {
    if (auto done = write_key(store, row); !done) return done;
    return write_audit(store, audit);
  });
}

Result<> Service::put_keys(const KeyRow& first, const AuditEvent& first_audit, const KeyRow& second, const AuditEvent& second_audit) {
  return wait([=](const Connection& store) -> Result<> {
    for (const auto& [row, audit] : {std::pair{&first, &first_audit}, std::pair{&second, &second_audit}}) {
      if (auto done = write_key(store, *row); !done) return done;
      if (auto done = write_audit(store, *audit); !done) return done;
    }
    return {};
  });
}

Result<> Service::audit(const AuditEvent& event) {
  return wait([event](const Connection& store) { return write_audit(store, event); });
}

Result<> Service::put_prices(const std::vector<PriceHistoryRow>& rows, const AuditEvent& audit) {
  return wait([rows, audit](const Connection& store) -> Result<> {
    if (const auto written = write_prices(store, rows); !written) return written.error();
    return write_audit(store, audit);
  });
}

Result<> Service::put_events(std::vector<OutboxEvent> events) {
  if (events.empty()) return {};
  return push(TaskItem{[events = std::move(events)](const Connection& store) { return write_events(store, events); }, {}});
}

Result<> Service::delivery_tried(const DeliveryOutcome& outcome) {
  return wait([outcome](const Connection& store) { return write_outcome(store, outcome); });
}

Result<> Service::put_idempotency(const IdempotencyRow& row) {
  return wait([row](const Connection& store) { return write_idempotency(store, row); });
}

Result<> Service::queue_idempotency(IdempotencyRow row, OnDurable durable) {
  return push(TaskItem{[row = std::move(row)](const Connection& store) { return write_idempotency(store, row); },
                       std::move(durable)});
}

Result<> Service::erase_annotations(const OrganizationId& organization, const AuditEvent& audit) {
  return wait([organization, audit](const Connection& store) -> Result<> {
    if (auto done = delete_annotations(store, organization); !done) return done;
    return write_audit(store, audit);
  });
}

Result<> Service::put_setting(const SettingRow& row, const AuditEvent& audit) {
  return wait([row, audit](const Connection& store) -> Result<> {
    if (auto done = write_setting(store, row); !done) return done;
    return write_audit(store, audit);
  });
}

Result<bool> Service::remove_setting(const std::string& kind, const OrganizationId& organization,
                                     const std::string& id, const AuditEvent& audit) {
  const auto there = std::make_shared<bool>(false);
  const SettingRow row{kind, organization, id, {}};
  const auto done = wait([row, audit, there](const Connection& store) -> Result<> {
    const auto removed = delete_setting(store, row);
    if (!removed) return removed.error();
    *there = *removed;
    return *removed ? write_audit(store, audit) : Result<>();
  });
  if (!done) return done.error();
  return *there;
}

Result<std::vector<SettingRow>> Service::settings(const std::string& kind) {
  return readers_.with([&](Reader& reader) { return reader.settings(kind); });
}
Result<std::vector<PriceHistoryRow>> Service::price_history() {
  return readers_.with([](Reader& reader) { return reader.price_history(); });
}
Result<std::vector<Delivery>> Service::deliveries_due(const std::string& receiver, std::int64_t unix_ns, std::int64_t most) {
  return readers_.with([&](Reader& reader) { return reader.deliveries_due(receiver, unix_ns, most); });
}
Result<std::int64_t> Service::deliveries_pending(const std::string& receiver) {
  return readers_.with([&](Reader& reader) { return reader.deliveries_pending(receiver); });
}
Result<std::vector<KeyRow>> Service::keys() {
  return readers_.with([](Reader& reader) { return reader.keys(); });
}
Result<std::vector<AuditEvent>> Service::audit_events(std::int64_t limit) {
  return readers_.with([limit](Reader& reader) { return reader.audit_events(limit); });
}
Result<std::vector<IdempotencyRow>> Service::idempotency(std::int64_t not_before_unix_ns) {
  return readers_.with([=](Reader& reader) { return reader.idempotency(not_before_unix_ns); });
}
Result<std::vector<UsageRow>> Service::usage(const UsageQuery& query) {
  return readers_.with([&](Reader& reader) { return reader.usage(query); });
}
Result<std::vector<SpendRow>> Service::spend_since(std::int64_t from_unix_ns) {
  return readers_.with([=](Reader& reader) { return reader.spend_since(from_unix_ns); });
}
Result<std::vector<TagSpendRow>> Service::spend_by_tag(std::int64_t from_unix_ns) {
  return readers_.with([=](Reader& reader) { return reader.spend_by_tag(from_unix_ns); });
}
Result<std::vector<Credit>> Service::credits(const OrganizationId& organization) {
  return readers_.with([&](Reader& reader) { return reader.credits(organization); });
}
Result<std::vector<BalanceRow>> Service::balances() {
  return readers_.with([](Reader& reader) { return reader.balances(); });
}
Result<std::vector<Entry>> Service::entries_of(const RequestId& request) {
  return readers_.with([&](Reader& reader) { return reader.entries_of(request); });
}
Result<VerifyReport> Service::verify() {
  return readers_.with([](Reader& reader) { return verify_store(reader.store()); });
}
Result<> Service::backup(const std::string& path) {
  return readers_.with([&](Reader& reader) { return backup_store(reader.store(), path, false); });
}

}  // namespace tokenworks::ledger
