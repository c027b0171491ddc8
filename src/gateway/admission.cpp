#include "tokenworks/gateway/admission.hpp"

#include <cassert>

#include "admission_hold.hpp"
#include "admission_state.hpp"
#include "tokenworks/base/log.hpp"

namespace tokenworks::gateway {

Entrance::Entrance(Entrance&&) noexcept = default;
Entrance& Entrance::operator=(Entrance&&) noexcept = default;
Entrance::~Entrance() = default;

Admission::Admission(std::shared_ptr<AdmissionState> state) : state_(std::move(state)) {}
Admission::~Admission() = default;

Result<std::unique_ptr<Admission>> Admission::make(const Clock& clock, ledger::Ledger& ledger, const PlantLabels& labels,
                                                   const config::Tenants& tenants, std::shared_ptr<const billing::PriceBook> prices) {
  auto state = std::make_shared<AdmissionState>(clock, ledger, labels);
  if (auto applied = state->apply(tenants, prices, {}); !applied) return applied.error();
  return std::unique_ptr<Admission>(new Admission(std::move(state)));
}

Result<> Admission::reload(const config::Tenants& tenants, std::shared_ptr<const billing::PriceBook> prices,
                           const std::function<Result<>()>& last_step) {
  return state_->apply(tenants, prices, last_step);
}

void Admission::set_events(EventSink* sink) { state_->events.store(sink, std::memory_order_release); }

Result<Entrance> Admission::enter(const tenancy::Principal& who, std::string_view model, RateState* rates) {
  if (who.organization.value.empty() || !tenancy::may_use_models(who.role)) {
    return error(Errc::insufficient_permissions, "A key of role " + std::string(tenancy::name(who.role)) +
                                                     " cannot use models; use a key of role member of an organization");
  }
  Organization* o = state_->find(who.organization.value);
  std::unique_lock<std::mutex> lock;
  if (o != nullptr) lock = std::unique_lock(o->mutex);
  if (o == nullptr || !o->configured) {
    return error(Errc::insufficient_permissions, "The organization " + who.organization.value + " is not configured at this plant");
  }
  const std::int64_t now_ms = state_->clock.steady_ms();
  // A key that was made since the last reload has no past to know.
  if (who.limits && !o->limits.knows_key(who.key.value)) o->limits.narrow_key(who.key.value, *who.limits);
  const tenancy::Limits::Path path = o->limits.path(short_project(who.project.value), who.key.value, model);
  const auto refusal = o->limits.enter(path, now_ms);
  const tenancy::Limits::State limits = o->limits.state(path, now_ms);
  lock.unlock();                                     // before the place exists: its end takes the mutex itself
  Entrance entrance;
  entrance.rates_ = rate_state(limits);
  if (rates != nullptr) *rates = entrance.rates_;
  if (refusal) return refused(*refusal);
  entrance.state_ = state_;
  entrance.slot_ = std::make_shared<Place>(state_, *o, path);
  return entrance;
}

Result<Hold> Admission::admit(const tenancy::Principal& who, Entrance& entrance, const Ask& ask, ledger::OnDurable hold_durable) {
  const auto place = std::static_pointer_cast<Place>(entrance.slot_);
  if (place == nullptr || place->organization.name != who.organization.value) {
    return error(Errc::internal, "a request was admitted that never entered");
  }
  if (auto accepting = state_->accepting(); !accepting) return accepting.error();
  auto inside = std::make_unique<Hold::Inside>(place, who, ask);
  auto record = inside->take(who, ask, entrance.rates_);
  if (!record) return record.error();
  if (auto queued = state_->ledger().append(std::move(*record), std::move(hold_durable)); !queued) {
    inside->undo();
    return queued.error();
  }
  if (!ask.tags.empty()) {
    if (auto noted = state_->ledger().annotate({ask.request, who.organization, ask.tags}); !noted) {
      log::warn("tags_not_kept", {{"request", ask.request.to_string()}, {"why", noted.error().message}});
    }
  }
  return Hold(std::move(inside));
}

Admission::Totals Admission::totals() const {
  Totals totals;
  state_->send_waiting();
  state_->each([&](const Organization& o) {
    std::lock_guard lock(o.mutex);
    totals.holds_open += o.holds_open;
    if (const auto sum = add(totals.hold_amount, o.budgets.held())) totals.hold_amount = *sum;
  });
  return totals;
}

Result<> Admission::refresh() { return state_->refresh(); }

void Admission::tick(std::int64_t hold_expiry_ns) { state_->tick(hold_expiry_ns); }

Result<> Admission::adjust_balance(std::string_view organization, Money delta, bool topup, const RequestId& operation,
                                   std::int64_t expires_unix_ns) {
  Organization* o = state_->find(organization);
  if (o == nullptr) return error(Errc::not_found, "there is no organization '" + std::string(organization) + "'");
  const std::int64_t now = state_->clock.unix_ns();
  std::vector<billing::Balance::Lapse> lapses;
  Result<> done;
  {
    std::lock_guard lock(o->mutex);
    billing::Balance& balance = o->budgets.balance();
    lapses = balance.expire(now);
    if (!add(balance.balance(), delta)) {
      done = error(Errc::invalid_request, "the balance would be larger than money can be counted", "amount");
    } else if (delta.nano < 0 && balance.limited() && delta.nano + balance.free().nano < 0) {
      done = error(Errc::invalid_request, "only " + to_string(balance.free(), o->currency) + " is neither spent nor set aside; no more can be taken", "amount");
    } else if (topup && delta.nano > 0) {
      balance.top_up({operation, delta, delta, expires_unix_ns, now});
    } else {
      balance.adjust(operation, delta);
    }
  }
  state_->book(*o, lapses);
  return done;
}

std::optional<Admission::Standing> Admission::standing(std::string_view organization) const {
  const Organization* o = state_->find(organization);
  if (o == nullptr) return std::nullopt;
  std::lock_guard lock(o->mutex);
  const billing::Balance& balance = std::as_const(o->budgets).balance();
  Standing standing{o->holds_open, o->limits.running(), o->budgets.held(), {}, balance.credit_line(), {}, o->budgets.states(state_->clock.unix_ns())};
  if (balance.limited()) {
    standing.balance = balance.balance();
    standing.free = balance.free();
  }
  return standing;
}

}  // namespace tokenworks::gateway
