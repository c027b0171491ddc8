#include "admission_hold.hpp"

#include <algorithm>
#include <cassert>

#include "tokenworks/base/log.hpp"

namespace tokenworks::gateway {
namespace {

// Output tokens per choice that a balance too small for the whole request is held by at a time.
constexpr std::int64_t kMoneyChunk = 64;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;   // far above any context; keeps every product below 2^63

ledger::Progress priced(const RequestId& request, const billing::Rates& rates, const Usage& usage) {
  const auto charge = billing::rate(rates, usage);
  assert(charge);                                    // below the worst case, which could be counted
  ledger::Progress progress{request, usage, charge->total, {}};
  progress.lines.reserve(charge->lines.size());
  for (const billing::ChargeLine& line : charge->lines) progress.lines.emplace_back(line.token_class, line.amount);
  return progress;
}

Error no_money(billing::Budgets::Shortage&& shortage) {
  std::string& m = shortage.message;
  if (!m.empty()) m[0] = static_cast<char>(m[0] >= 'a' && m[0] <= 'z' ? m[0] - 'a' + 'A' : m[0]);
  return error(Errc::insufficient_quota, std::move(m));
}

}  // namespace

std::optional<ledger::Progress> ProgressOfHold::newest() {
  Usage usage;
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(fresh_, false)) return std::nullopt;
    usage = usage_;
  }
  return priced(request_, rates_, usage);
}

Hold::Inside::Inside(const std::shared_ptr<Place>& of, const tenancy::Principal& who, const Ask& ask)
    : state(of->state), organization(of->organization), path(of->path), tenant(who.tenant), prompt(ask.prompt_tokens),
      output(ask.output_tokens), choices(ask.choices), place(of) {
  record.request = ask.request;
  record.organization = who.organization;
  record.project = who.project;
  record.key = who.key;
  record.actor = who.principal;
  record.model = ask.model;
  record.model_digest = ask.model_digest;
  record.tokenizer_digest = ask.tokenizer_digest;
  record.build_id = state->labels.build_id;
  record.region = state->labels.region;
  record.jurisdiction = state->labels.jurisdiction;
  record.data_class = ask.data_class;
  record.retry_count = ask.retry_count;
  for (const auto& [name, value] : ask.tags) tags.push_back(name + "=" + value);
}

Hold::Inside::~Inside() {
  {
    std::lock_guard lock(organization.mutex);
    if (!open) return;
  }
  // The coroutine is gone: what it last counted is what was used; without any output nothing is owed.
  [[maybe_unused]] const auto ended = end(last.output > 0 ? last : Usage{}, "cancelled", {});
}

Result<ledger::Record> Hold::Inside::take(const tenancy::Principal& who, const Ask& ask, RateState& entrance_rates) {
  if (prompt < 0 || output < (ask.embedding ? 0 : 1) || choices < 1 || prompt > kMostTokens || output > kMostTokens || choices > 4096) {
    return error(Errc::invalid_request, "a request must ask for at least one output token, and for a number of tokens that can exist",
                 "max_tokens");
  }
  Organization& o = organization;
  std::unique_lock lock(o.mutex);
  if (!o.configured) {
    return error(Errc::insufficient_permissions, "The organization " + o.name + " is not configured at this plant");
  }
  record.tier = ask.tier.value_or(o.tier);
  if (record.tier < o.tier) {                        // the enum descends: priority is 0
    return error(Errc::invalid_request, "This service tier is above the plan's", "service_tier");
  }
  record.unix_ns = taken_ns = state->clock.unix_ns();
  const billing::PriceBook::Version& version = o.prices->in_force(taken_ns);
  const auto found = o.prices->find({ask.model.value, record.tier, o.plan, o.name, prompt, taken_ns});
  if (!found) {
    return error(Errc::model_not_found, "The model " + ask.model.value + " has no price in the price book " + version.version);
  }
  rates = found->of_kind(ask.embedding);
  record.price_version = version.version;
  record.price_hash = version.hash;
  record.currency = o.prices->currency();
  weight = o.weight;
  reserved_tokens_per_second = o.reserved_tokens_per_second;
  reserve = o.reserve_output_tokens;
  hash_tags(ask);
  purpose = o.budgets.claim(short_project(who.project.value), ask.model.value, who.key.value, tags);
  const auto lapses = o.budgets.balance().expire(state->clock.unix_ns());
  epoch = o.budgets.balance().epoch();
  const std::int64_t now_ms = state->clock.steady_ms();

  Result<> taken = take_windows(now_ms);
  if (taken) {
    taken = take_money(record.unix_ns);
    if (!taken) return_windows({});
  }
  const tenancy::Limits::State limits = o.limits.state(path, now_ms);
  if (taken) {
    enlist();
  } else {
    o.budgets.drop(purpose);
  }
  lock.unlock();
  state->book(o, lapses);
  rate_headers = entrance_rates = rate_state(limits);
  if (!taken) return taken.error();

  ledger::Record hold = record;
  hold.type = ledger::EntryType::hold;
  hold.amount = held;
  hold.usage = {.input = prompt, .output = paid_output * choices};
  return hold;
}

void Hold::Inside::undo() {
  std::lock_guard lock(organization.mutex);
  organization.budgets.reduce(purpose, held, taken_ns, epoch);
  return_windows({});
  delist();
}

void Hold::Inside::enlist() {
  ++organization.holds_open;
  open = true;
  heard_ns = state->clock.steady_ns();
  after = organization.first_open;
  if (after != nullptr) after->before = this;
  organization.first_open = this;
}

void Hold::Inside::delist() {
  --organization.holds_open;
  open = false;
  (before != nullptr ? before->after : organization.first_open) = after;
  if (after != nullptr) after->before = before;
  organization.budgets.drop(purpose);
}

// Spend is kept by tag in the books; those that a budget counts come first, since an entry carries only so many.
void Hold::Inside::hash_tags(const Ask& ask) {
  record.tag_hashes.clear();
  for (const bool counted : {true, false}) {
    for (const auto& [name, value] : ask.tags) {
      if (organization.budgets.names_tag(name + "=" + value) != counted) continue;
      const auto hash = ledger::tag_hash(state->labels.tag_secret, record.organization, name, value);
      if (record.tag_hashes.size() < ledger::kTagHashesMax) record.tag_hashes.push_back(hash);
    }
  }
}

Result<> Hold::Inside::take_windows(std::int64_t now_ms) {
  tenancy::Limits& limits = organization.limits;
  // A limit smaller than prompt and chunk still serves: with as small a chunk as fits it at all.
  const std::int64_t most = limits.most_output(path, prompt) / choices;
  window_output = std::min({output, reserve, std::max<std::int64_t>(most, 1)});
  tenancy::Limits::TokensTaken taken;
  if (auto refusal = limits.take_tokens(path, {prompt, window_output * choices}, now_ms, taken)) return refused(*refusal);
  windows.push_back(taken);
  return {};
}

Result<> Hold::Inside::take_money(std::int64_t unix_ns) {
  billing::Budgets& budgets = organization.budgets;
  const auto full = billing::worst_case(rates, prompt, output * choices);
  if (!full) return full.error();
  held = *full;
  paid_output = output;
  auto shortage = budgets.hold(purpose, held, unix_ns);
  if (!shortage) return {};
  // Too little for all of it. If nothing else is set aside there, what is left is spent chunk by chunk.
  if (!shortage->alone) return no_money(std::move(*shortage));
  const std::int64_t chunk = std::min(output, kMoneyChunk) * choices;
  paid_output = billing::affordable_output(rates, prompt, chunk, shortage->available) / choices;
  if (paid_output < 1) return no_money(std::move(*shortage));
  held = *billing::worst_case(rates, prompt, paid_output * choices);
  if (auto still = budgets.hold(purpose, held, unix_ns)) return no_money(std::move(*still));
  return {};
}

Result<std::int64_t> Hold::Inside::extend() {
  if (granted() >= output) return granted();
  const Money before = held;
  const std::int64_t paid_before = paid_output;
  std::int64_t unix_ns = 0;
  Result<> taken;
  tenancy::Limits::State limits;
  std::vector<billing::Balance::Lapse> lapses;
  {
    std::lock_guard lock(organization.mutex);
    if (!open) return error(Errc::internal, "a hold was extended after its end");
    heard_ns = state->clock.steady_ns();
    const std::int64_t now_ms = state->clock.steady_ms();
    unix_ns = std::max(state->clock.unix_ns(), taken_ns);
    lapses = organization.budgets.balance().expire(state->clock.unix_ns());
    if (paid_output <= window_output && paid_output < output) taken = extend_money(unix_ns);
    if (taken && window_output < output && window_output < paid_output) taken = extend_windows(now_ms);
    limits = organization.limits.state(path, now_ms);
  }
  rate_headers = rate_state(limits);
  state->book(organization, lapses);
  if (held > before) {
    ledger::Record more = record;
    more.type = ledger::EntryType::extend;
    more.unix_ns = unix_ns;
    more.amount = Money{held.nano - before.nano};
    more.usage = {.output = (paid_output - paid_before) * choices};
    if (auto queued = state->ledger().append(std::move(more), {}); !queued) {
      std::lock_guard lock(organization.mutex);
      if (open) organization.budgets.reduce(purpose, Money{held.nano - before.nano}, taken_ns, epoch);
      held = before;
      paid_output = paid_before;
      return queued.error();
    }
  }
  if (!taken) return taken.error();
  return granted();
}

Result<> Hold::Inside::extend_money(std::int64_t unix_ns) {
  billing::Budgets& budgets = organization.budgets;
  std::int64_t wanted = std::min(output, paid_output + kMoneyChunk);
  auto whole = billing::worst_case(rates, prompt, wanted * choices);
  if (!whole) return whole.error();
  if (auto shortage = budgets.hold(purpose, Money{whole->nano - held.nano}, unix_ns, taken_ns, epoch)) {
    const auto available = add(held, shortage->available);
    wanted = available ? billing::affordable_output(rates, prompt, wanted * choices, *available) / choices : 0;
    if (wanted <= paid_output) return no_money(std::move(*shortage));
    whole = billing::worst_case(rates, prompt, wanted * choices);
    if (auto still = budgets.hold(purpose, Money{whole->nano - held.nano}, unix_ns, taken_ns, epoch)) return no_money(std::move(*still));
  }
  held = *whole;
  paid_output = wanted;
  return {};
}

Result<> Hold::Inside::extend_windows(std::int64_t now_ms) {
  tenancy::Limits& limits = organization.limits;
  const std::int64_t room = limits.free_output(path, now_ms) / choices;
  // As much of a chunk as there is room for; without any room the answer names when there will be some.
  const std::int64_t step = std::clamp<std::int64_t>(room, 1, std::min(reserve, output - window_output));
  tenancy::Limits::TokensTaken taken;
  if (auto refusal = limits.take_tokens(path, {0, step * choices}, now_ms, taken)) return refused(*refusal);
  windows.push_back(taken);
  window_output += step;
  return {};
}

// The newest chunk goes back first: what was used stays where it was taken first.
void Hold::Inside::return_windows(const Usage& used) {
  tenancy::Limits::Tokens unused{-used.input, -used.output};
  for (const auto& taken : windows) {
    unused.input += taken.input;
    unused.output += taken.output;
  }
  for (auto taken = windows.rbegin(); taken != windows.rend(); ++taken) {
    const tenancy::Limits::Tokens part{std::clamp<std::int64_t>(unused.input, 0, taken->input), std::clamp<std::int64_t>(unused.output, 0, taken->output)};
    organization.limits.give_back(path, *taken, part);
    unused.input -= part.input;
    unused.output -= part.output;
  }
  windows.clear();
}

Usage Hold::Inside::within(const Usage& usage) const {
  Usage u;
  u.input = std::clamp<std::int64_t>(usage.input, 0, prompt);
  u.cached_input = std::clamp<std::int64_t>(usage.cached_input, 0, u.input);
  u.output = std::clamp<std::int64_t>(usage.output, 0, granted() * choices);
  u.reasoning = std::clamp<std::int64_t>(usage.reasoning, 0, u.output);
  if (u != usage) {
    log::error("usage_beyond_hold", {{"request", record.request.to_string()}, {"input", usage.input}, {"output", usage.output},
                                     {"granted_input", prompt}, {"granted_output", granted() * choices}});
  }
  return u;
}

// Whether the ledger asks by itself. A token then costs a store here and, once per cadence, a wake there.
bool Hold::Inside::follow(const Usage& usage) {
  if (feed) {
    feed->set(usage);
    follower->stir();
  } else if (!telling) {
    feed = std::make_shared<ProgressOfHold>(record.request, rates);
    feed->set(usage);
    follower = dynamic_cast<ledger::ProgressFollower*>(&state->ledger());
    telling = follower == nullptr || !follower->follow(feed);
    if (telling) feed.reset();
  }
  return !telling;
}

bool Hold::Inside::progress(const Usage& reported, ledger::OnDurable durable) {
  const Usage usage = within(reported);
  {
    std::lock_guard lock(organization.mutex);
    if (!open) return false;
    last = usage;
    heard_ns = state->clock.steady_ns();
  }
  if (!durable && follow(usage)) return true;
  state->ledger().progress(priced(record.request, rates, usage), std::move(durable));
  return true;
}

Result<billing::Charge> Hold::Inside::end(const Usage& usage, const std::string& finish_reason, ledger::OnDurable durable) {
  Ended ended;
  tenancy::Limits::State limits;
  {
    std::lock_guard lock(organization.mutex);
    if (!open) return error(Errc::internal, "a hold was ended twice");
    ended = finish(within(usage), finish_reason, ledger::EntryType::release);
    limits = organization.limits.state(path, state->clock.steady_ms());
  }
  rate_headers = rate_state(limits);
  ended.record.events = state->tell(ended.events, ended.record.unix_ns);
  state->send(std::move(ended.record), std::move(durable));
  state->book(organization, ended.lapses);
  return std::move(ended.charge);
}

Hold::Inside::Ended Hold::Inside::vanish() {
  if (const auto entered = place.lock()) entered->leave();
  return finish(last.output > 0 ? last : Usage{}, "expired", ledger::EntryType::expire);
}

Hold::Inside::Ended Hold::Inside::finish(const Usage& usage, const std::string& finish_reason, ledger::EntryType without_usage) {
  auto charge = billing::rate(rates, usage);
  assert(charge && charge->total <= held);
  Ended ended;
  // The entry's time is the one its charge is budgeted under, so that the books and the budgets agree on periods; it is
  // not before the hold's, whatever became of the clock.
  record.unix_ns = std::max(state->clock.unix_ns(), taken_ns);
  ended.events = organization.budgets.settle(purpose, held, charge->total, record.unix_ns, taken_ns, epoch);
  ended.lapses = organization.budgets.balance().expire(record.unix_ns);
  return_windows(usage);
  delist();
  record.finish_reason = finish_reason;
  ended.record = record;                             // `currency()` and `tier()` are asked after the end: it keeps them
  if (usage == Usage{}) {
    ended.record.type = without_usage;
    ended.record.amount = held;
    ended.record.tag_hashes.clear();
  } else {
    ended.record.type = ledger::EntryType::settle;
    ended.record.amount = charge->total;
    ended.record.usage = usage;
    for (const billing::ChargeLine& line : charge->lines) ended.record.lines.emplace_back(line.token_class, line.amount);
  }
  ended.charge = std::move(*charge);
  return ended;
}

Hold::Hold(std::unique_ptr<Inside> inside) : inside_(std::move(inside)) {}
Hold::Hold(Hold&&) noexcept = default;
Hold& Hold::operator=(Hold&&) noexcept = default;
Hold::~Hold() = default;

Ticket Hold::take_ticket() {
  assert(inside_->open && inside_->tickets < inside_->choices);
  ++inside_->tickets;
  return Admission::ticket(inside_->record.request, inside_->tenant, inside_->weight, inside_->record.tier, inside_->granted(),
                           inside_->reserved_tokens_per_second);
}
Tier Hold::tier() const { return inside_->record.tier; }
std::int64_t Hold::granted_output() const { return inside_->granted(); }
bool Hold::chunked() const { return inside_->granted() < inside_->output; }
Result<std::int64_t> Hold::extend() { return inside_->extend(); }
bool Hold::progress(const Usage& usage, ledger::OnDurable durable) { return inside_->progress(usage, std::move(durable)); }
Result<billing::Charge> Hold::settle(const Usage& usage, const std::string& finish_reason, ledger::OnDurable durable) {
  return inside_->end(usage, finish_reason, std::move(durable));
}
const std::string& Hold::currency() const { return inside_->record.currency; }
const RateState& Hold::rates() const { return inside_->rate_headers; }

}  // namespace tokenworks::gateway
