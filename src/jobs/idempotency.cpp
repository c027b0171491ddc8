#include "tokenworks/jobs/idempotency.hpp"

#include <algorithm>

#include "kept_bodies.hpp"

namespace tokenworks::jobs {
namespace {

constexpr std::int64_t kFullRetryMs = 60'000;        // keys of the same minute of yesterday become free until then

}  // namespace

Idempotency::Idempotency(ledger::Ledger& ledger, const Clock& clock, IdempotencyBounds bounds)
    : ledger_(ledger), clock_(clock), kept_(std::make_unique<KeptBodies>(bounds)) {}
Idempotency::~Idempotency() = default;

Result<std::unique_ptr<Idempotency>> Idempotency::open(ledger::Ledger& ledger, const Clock& clock, IdempotencyBounds bounds) {
  auto rows = ledger.idempotency(clock.unix_ns() - kKeptNs);
  if (!rows) return rows.error();
  auto made = std::unique_ptr<Idempotency>(new Idempotency(ledger, clock, bounds));
  for (ledger::IdempotencyRow& row : *rows) {
    if (!row.finished) {
      // It was running when the last process died. What recovery settled counts as finished, with no answer to show; where
      // nothing was charged the request may run again.
      const auto entries = ledger.entries_of(row.request);
      if (!entries) return entries.error();
      const auto settle = std::ranges::find(*entries, ledger::EntryType::settle, &ledger::Entry::type);
      if (settle == entries->end()) continue;
      row.finished = true;
      row.usage = settle->usage;
      row.cost = settle->amount;
    }
    Place place{row.organization.value, row.key};
    ++made->keys_[place.first];
    made->rows_.emplace_hint(made->rows_.end(), std::move(place), std::move(row));   // they come in this order
  }
  std::vector<const std::pair<const Place, ledger::IdempotencyRow>*> aged;
  aged.reserve(made->rows_.size());
  for (const auto& known : made->rows_) aged.push_back(&known);
  std::ranges::stable_sort(aged, {}, [](const auto* known) { return known->second.created_unix_ns; });
  for (const auto* known : aged) {
    made->by_age_.emplace_hint(made->by_age_.end(), known->second.created_unix_ns, known->first);
    made->kept_->keep(known->first, static_cast<std::int64_t>(known->second.body.size()));
  }
  for (ledger::IdempotencyRow& row : made->drop_bodies()) (void)ledger.queue_idempotency(std::move(row), {});
  return made;
}

Result<std::optional<ledger::IdempotencyRow>> Idempotency::begin(const OrganizationId& organization, const std::string& key,
                                                                 const Digest& body_hash, const RequestId& request) {
  if (key.empty() || key.size() > kKeyBytesMax) {
    return error(Errc::invalid_request, "Idempotency-Key must have 1 to 255 characters", "Idempotency-Key");
  }
  ledger::IdempotencyRow row;
  {
    std::lock_guard lock(mutex_);
    drop_old();
    const Place place{organization.value, key};
    if (const auto found = rows_.find(place); found != rows_.end()) {
      const ledger::IdempotencyRow& known = found->second;
      if (known.body_hash != body_hash) {
        return error(Errc::idempotency_mismatch, "This Idempotency-Key was used with another request body; use a new key.");
      }
      if (!known.finished) {
        Error e = error(Errc::idempotency_in_progress, "The first request with this Idempotency-Key is still running.");
        e.retry_after_ms = 1000;
        return e;
      }
      return std::optional(known);
    }
    if (const auto has = keys_.find(place.first); has != keys_.end() && has->second >= kept_->bounds().keys_per_organization) {
      Error e = error(Errc::rate_limit_exceeded,
                      "Your organization has used " + std::to_string(has->second) + " Idempotency-Keys within 24 hours, the most that are "
                      "kept; nothing was run. Ask again without the header, or once earlier keys are a day old.", "Idempotency-Key");
      e.retry_after_ms = kFullRetryMs;
      return e;
    }
    row.organization = organization;
    row.key = key;
    row.body_hash = body_hash;
    row.request = request;
    row.created_unix_ns = clock_.unix_ns();
    rows_[place] = row;
    ++keys_[place.first];
    by_age_.emplace(row.created_unix_ns, place);
  }
  // Queued before the HOLD of the same request: the ledger commits in order, so no charge can outlive its key.
  if (auto queued = ledger_.queue_idempotency(row, {}); !queued) {
    forget(organization, key);
    return queued.error();
  }
  return std::optional<ledger::IdempotencyRow>();
}

void Idempotency::finish(const OrganizationId& organization, const std::string& key, std::int32_t status, std::string body,
                         const Usage& usage, Money cost, bool keep_body) {
  std::vector<ledger::IdempotencyRow> changed;
  {
    std::lock_guard lock(mutex_);
    const Place place{organization.value, key};
    const auto found = rows_.find(place);
    if (found == rows_.end()) return;
    found->second.finished = true;
    found->second.status = status;
    found->second.usage = usage;
    found->second.cost = cost;
    if (keep_body && body.size() <= kBodyBytesMax) found->second.body = std::move(body);
    kept_->keep(place, static_cast<std::int64_t>(found->second.body.size()));
    changed = drop_bodies();
    const auto same = [&](const ledger::IdempotencyRow& row) { return row.organization == organization && row.key == key; };
    if (std::ranges::none_of(changed, same)) changed.push_back(found->second);
  }
  // A full queue: the row in memory still answers.
  for (ledger::IdempotencyRow& row : changed) (void)ledger_.queue_idempotency(std::move(row), {});
}

std::int64_t Idempotency::bytes_kept() const {
  std::lock_guard lock(mutex_);
  return kept_->bytes();
}

// Takes the content of the oldest answers until all are within the bounds; returns their rows, to be stored without it. Under
// the lock.
std::vector<ledger::IdempotencyRow> Idempotency::drop_bodies() {
  std::vector<ledger::IdempotencyRow> dropped;
  while (const auto place = kept_->too_many()) {
    kept_->drop(*place);
    ledger::IdempotencyRow& row = rows_.at(*place);
    std::string().swap(row.body);
    dropped.push_back(row);
  }
  return dropped;
}

void Idempotency::forget(const OrganizationId& organization, const std::string& key) {
  const Place place{organization.value, key};
  ledger::IdempotencyRow row;
  {
    std::lock_guard lock(mutex_);
    const auto found = rows_.find(place);
    if (found == rows_.end()) return;
    row = std::move(found->second);
    kept_->drop(place);
    rows_.erase(found);
    uncount(place.first);
    const auto [first, last] = by_age_.equal_range(row.created_unix_ns);
    const auto at = std::find_if(first, last, [&](const auto& aged) { return aged.second == place; });
    if (at != last) by_age_.erase(at);
  }
  row.created_unix_ns = 0;                           // older than any that is read again: removed with those
  (void)ledger_.queue_idempotency(std::move(row), {});
}

void Idempotency::uncount(const std::string& organization) {
  const auto found = keys_.find(organization);
  if (--found->second == 0) keys_.erase(found);
}

void Idempotency::drop_old() {
  const std::int64_t oldest = clock_.unix_ns() - kKeptNs;
  while (!by_age_.empty() && by_age_.begin()->first < oldest) {
    const auto found = rows_.find(by_age_.begin()->second);
    if (found != rows_.end() && found->second.created_unix_ns < oldest) {
      kept_->drop(found->first);
      uncount(found->first.first);
      rows_.erase(found);
    }
    by_age_.erase(by_age_.begin());
  }
}

}  // namespace tokenworks::jobs
