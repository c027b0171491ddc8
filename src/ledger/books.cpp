#include "ledger/books.hpp"

#include <algorithm>

#include "ledger/outbox.hpp"
#include "ledger/rules.hpp"

namespace tokenworks::ledger {
namespace {

constexpr std::int64_t kIdempotencyKeptNs = 25 * 3600 * kSecondNs;

Error refuse(const Record& r, const std::string& why) {
  return error(Errc::internal, std::string(name(r.type)) + " of " + r.request.to_string() + ": " + why);
}

std::optional<std::string_view> view_of(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  return std::string_view(*text);
}

}  // namespace

std::int64_t Books::held(const RequestId& request) const {
  const auto found = holds_.find(request);
  return found == holds_.end() ? -1 : found->second.held;
}

Result<> Books::begin() {
  entries_ = 0;
  changed_.clear();
  ended_.clear();
  if (!rollups_pending()) {                          // everything is stored: it can be read again
    accounts_.forget_clean();
    credits_.forget_clean();
  }
  return begin_.run();
}

Result<> Books::apply(const Record& r, Result<>& refusal) {
  refusal = check_record(r);
  if (!refusal || (options_.planted.forget_release && r.type == EntryType::release)) return {};
  context_bytes_.clear();
  append_context(context_bytes_, r);
  const auto known = dictionary_.of(r, context_bytes_, refusal);
  if (!known) return known.error();
  if (!refusal) return {};

  std::int64_t held = 0;
  if (r.type == EntryType::topup || r.type == EntryType::adjust) {
    bool booked = false;
    if (auto done = check_operation(r, *known, refusal, booked); !done) return done;
    if (!refusal || booked) return {};
  } else {
    refusal = check_hold(r, known->organization, held);
    if (!refusal) return {};
  }

  lines_ = lines_text(r.lines);
  EntryView view;
  view.type = r.type;
  view.time = r.unix_ns;
  view.request = r.request.bytes;
  view.usage = r.usage;
  view.amount = r.amount.nano;
  view.held = held;
  view.lines = lines_;
  view.finish_reason = r.finish_reason;
  view.retry_count = r.retry_count;
  view.token_commitment = view_of(r.token_commitment);
  view.attestation_id = view_of(r.attestation_id);
  view.receipt_id = view_of(r.receipt_id);
  view.expires = r.expires_unix_ns;
  tag_bytes_.clear();
  for (const TagHash& tag : r.tag_hashes) tag_bytes_.insert(tag_bytes_.end(), tag.begin(), tag.end());
  view.tags = tag_bytes_;
  line_views_.clear();
  for (const auto& [token_class, amount] : r.lines) line_views_.push_back({token_class, amount.nano});
  if (auto done = move_money(view, *known, refusal); !done || !refusal) return done;

  const std::int64_t seq = seq_ + 1, id = entry_id(writer_, seq);
  entry_bytes_.clear();
  append_entry(entry_bytes_, writer_id_, seq, view, context_bytes_);
  const Digest hash = hasher_(head_, entry_bytes_);
  if (auto done = insert(id, view, known->context, hash); !done) return done;
  if (auto done = write_events(store_, r.events); !done) return done;
  post(id, view, *known);
  book_hold(r, id, known->organization);
  seq_ = seq;
  last_id_ = id;
  head_ = hash;
  ++entries_;
  return {};
}

// `held`: what an ending entry gives up.
Result<> Books::check_hold(const Record& r, std::int64_t organization, std::int64_t& held) const {
  const auto found = holds_.find(r.request);
  if (r.type == EntryType::hold) {
    if (found != holds_.end()) return refuse(r, "the request has an open hold already");
    return {};
  }
  if (found == holds_.end()) return refuse(r, "the request has no open hold; it was never opened or has ended");
  const Hold& hold = found->second;
  if (hold.organization != organization) return refuse(r, "the hold belongs to another organization or currency");
  if (r.type == EntryType::extend) {
    std::int64_t sum = 0;
    if (__builtin_add_overflow(hold.held, r.amount.nano, &sum)) return refuse(r, "the hold overflows");
    return {};
  }
  held = hold.held;
  if (r.type == EntryType::settle && r.amount.nano > held) {
    return refuse(r, "the charge " + to_string(r.amount, r.currency) + " is above the hold " + to_string(Money{held}, r.currency));
  }
  if (r.type != EntryType::settle && r.amount.nano != held) {
    return refuse(r, "gives back " + to_string(r.amount, r.currency) + ", but " + to_string(Money{held}, r.currency) + " is held");
  }
  return {};
}

// A TOPUP or ADJUST is booked once per id: the same again is fine, another amount under the same id is not.
Result<> Books::check_operation(const Record& r, const Dictionary::Known& known, Result<>& refusal, bool& booked) {
  find_operation_.bind(1, r.request.bytes);
  for (;;) {
    const auto row = find_operation_.step();
    if (!row) return row.error();
    if (!*row) break;
    const auto type = static_cast<EntryType>(find_operation_.integer(0));
    booked =
        type == r.type && find_operation_.integer(1) == r.amount.nano && find_operation_.integer(2) == known.series &&
        find_operation_.integer(3) == r.expires_unix_ns;
    if (!booked) {
      refusal = error(Errc::idempotency_mismatch,
                      refuse(r, "the id was already used for another entry: a new operation needs a new id").message);
      break;
    }
  }
  find_operation_.reset();
  return {};
}

// Finds the accounts and credits an entry moves and refuses one that would leave its range; the moves are made after the insert.
Result<> Books::move_money(const EntryView& view, const Dictionary::Known& known, Result<>& refusal) {
  moves_.clear();
  credit_slot_ = nullptr;
  if (view.type == EntryType::settle || view.type == EntryType::topup || view.type == EntryType::adjust) {
    const auto slot = credits_.at(known.organization);
    if (!slot) return slot.error();
    credit_slot_ = *slot;
  }
  Result<> failed;
  for_each_posting(view.type, view.amount, view.held, line_views_,
                   [&](Account account, std::string_view token_class, std::int64_t debit, std::int64_t credit) {
                     if (!failed) return;
                     const std::int64_t series = account == Account::revenue ? known.series : known.organization;
                     const auto node = accounts_.at(series, account, token_class);
                     if (!node) {
                       failed = node.error();
                       return;
                     }
                     moves_.push_back({*node, debit, credit});
                     const Signed128 net = (*node)->second.totals.net() + credit - debit;
                     if (account != Account::revenue && (net > kAccountMax || net < -kAccountMax)) {
                       const bool order = view.type == EntryType::topup || view.type == EntryType::adjust;   // somebody's mistake, not ours
                       refusal = error(order ? Errc::invalid_request : Errc::internal,
                                       std::string(name(view.type)) + ": the organization's account '" + kind_of(account, token_class) +
                                           "' would leave the range of the books",
                                       order ? "amount" : "");
                     }
                   });
  return failed;
}

// A new entry is beyond every part's reach; one that is read again is posted only where it is not included yet.
void Books::post(std::int64_t id, const EntryView& view, const Dictionary::Known& known) {
  for (const Move& move : moves_) {
    const std::int64_t series = move.node->first.series;
    if (id <= reach_.of(series)) continue;
    accounts_.add(*move.node, move.debit, move.credit);
    dirty_[part_of(series)] = true;
  }
  if (id > reach_.of(known.organization)) {          // its part is dirty: every such entry moves its accounts
    if (credit_slot_ != nullptr) credits_.follow(*credit_slot_, view);
    if (view.type == EntryType::settle && !view.tags.empty()) {
      tags_.add(view, known.organization);
      dirty_[part_of(known.organization)] = true;
    }
  }
  if (view.type == EntryType::settle && id > reach_.of(known.series)) {
    rollups_.add(view.time, known.series, view.usage, view.amount, minute_from_);
    dirty_[part_of(known.series)] = true;
  }
}

Result<> Books::insert(std::int64_t id, const EntryView& e, std::int64_t context, const Digest& hash) {
  insert_.bind(1, id).bind(2, e.schema_version).bind(3, static_cast<std::int64_t>(e.type)).bind(4, e.time);
  insert_.bind(5, e.request).bind(6, context);
  insert_.bind(7, e.usage.input).bind(8, e.usage.cached_input).bind(9, e.usage.output).bind(10, e.usage.reasoning);
  insert_.bind(11, e.amount).bind(12, e.held).bind(13, e.lines).bind(14, e.finish_reason).bind(15, e.retry_count);
  const auto optional = [this](int at, const std::optional<std::string_view>& text) {
    text ? insert_.bind(at, *text) : insert_.bind_null(at);
  };
  optional(16, e.token_commitment);
  optional(17, e.attestation_id);
  optional(18, e.receipt_id);
  insert_.bind(19, hash).bind(20, e.expires).bind(21, e.tags);
  return insert_.run();
}

void Books::book_hold(const Record& r, std::int64_t id, std::int64_t organization) {
  switch (r.type) {
    case EntryType::hold:
      holds_[r.request] = {r.amount.nano, organization, id, false};
      changed_.push_back(r.request);
      return;
    case EntryType::extend: {
      Hold& hold = holds_[r.request];
      hold.held += r.amount.nano;
      changed_.push_back(r.request);
      return;
    }
    case EntryType::settle:
    case EntryType::release:
    case EntryType::expire: {
      const auto found = holds_.find(r.request);
      if (found->second.stored) ended_.push_back(r.request);
      holds_.erase(found);
      return;
    }
    case EntryType::topup:
    case EntryType::adjust: return;
  }
}

// A hold that begins and ends in one transaction never touches the table.
Result<> Books::write_holds() {
  for (const RequestId& request : ended_) {
    delete_hold_.bind(1, request.bytes);
    if (auto done = delete_hold_.run(); !done) return done;
  }
  for (const RequestId& request : changed_) {
    const auto found = holds_.find(request);
    if (found == holds_.end()) continue;
    insert_hold_.bind(1, request.bytes).bind(2, found->second.entry).bind(3, found->second.held);
    if (auto done = insert_hold_.run(); !done) return done;
    found->second.stored = true;
  }
  return {};
}

Result<> Books::write_journal(std::string_view bytes) {
  if (bytes.empty() || options_.planted.forget_progress) return delete_journal_.run();
  const std::span data(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  write_journal_.bind(1, writer_).bind(2, clock_.unix_ns()).bind(3, data);
  return write_journal_.run();
}

// Stops at the first failure: it may have rolled the transaction back, and a statement after it would commit alone.
Result<> Books::flush_part(std::size_t part, std::size_t& written) {
  const auto accounts = accounts_.flush(part);
  if (!accounts) return accounts.error();
  const auto rollups = rollups_.flush(part, minute_from_);
  if (!rollups) return rollups.error();
  const auto credits = credits_.flush(part);
  if (!credits) return credits.error();
  const auto tags = tags_.flush(part);
  if (!tags) return tags.error();
  written += *accounts + *rollups + *credits + *tags;
  return {};
}

// A part without anything to write includes every entry as it is.
Result<> Books::flush(const RollupPace& pace) {
  const std::int64_t now = clock_.steady_ns();
  const bool all = pace.rows == SIZE_MAX;
  std::size_t written = 0;
  for (std::size_t i = 0; i < kParts && (all || written < pace.rows); ++i) {
    const std::size_t part = next_part_++ % kParts;
    const bool due = all || now - written_ns_[part] >= pace.every_ns || last_id_ - reach_.part(part) >= pace.behind;
    if (!dirty_[part] || !due) continue;
    if (auto done = flush_part(part, written); !done) return done;
    dirty_[part] = false;
    written_ns_[part] = now;
  }
  for (std::size_t part = 0; part < kParts; ++part) {
    if (!dirty_[part]) reach_.set(part, last_id_);
  }
  return written > 0 ? prune() : Result<>();
}

Result<> Books::commit(const RollupPace& rollups) {
  if (auto done = write_holds(); !done) return done;
  const std::int64_t begun = clock_.steady_ns();
  if (auto done = flush(rollups); !done) return done;
  rollups_ns_ = clock_.steady_ns() - begun;
  reach_.write(reach_bytes_);
  save_state_.bind(1, commits_ + 1).bind(2, reach_.least()).bind(3, minute_from_).bind(4, writer_).bind(5, commits_);
  save_state_.bind(6, reach_bytes_);
  if (auto done = save_state_.run(); !done) return done;
  if (sqlite3_changes(store_.raw()) != 1) {
    return Books::not_ours(store_, writer_, options_.path).error();
  }
  if (auto done = commit_.run(); !done) return done;
  ++commits_;
  return {};
}

// Writers only count upwards. Anything else that is found (a read that failed half way) is the store's failure, from
// which a new connection recovers, and no reason to give the books up for good.
Result<> Books::not_ours(const Connection& store, std::int64_t writer, const std::string& path) {
  const auto current = store.value("SELECT writer FROM state");
  if (!current) return current.error();
  if (*current > writer) return error(Errc::ledger_unavailable, path + ": another writer took the books over");
  return error(Errc::io, path + ": the row of state does not say what was written to it");
}

// Removes minutes that are older than kMinuteDays, one at a time so that no commit becomes long, and idempotency rows
// whose day is over.
Result<> Books::prune() {
  const std::int64_t now = clock_.unix_ns(), keep_from = minutes_kept_from(now);
  if (minute_from_ < keep_from) {
    const auto oldest = store_.value("SELECT bucket FROM rollups WHERE level = 60 ORDER BY bucket LIMIT 1");
    if (!oldest) return oldest.error();
    const bool none = *oldest == 0 || *oldest >= keep_from;
    const std::int64_t until = none ? keep_from : std::min(keep_from, *oldest + 60);
    if (!none) {
      auto remove = store_.prepare("DELETE FROM rollups WHERE level = 60 AND bucket < ?1");
      if (!remove) return remove.error();
      remove->bind(1, until);
      if (auto done = remove->run(); !done) return done;
    }
    minute_from_ = until;
  }
  auto remove = store_.prepare(
      "DELETE FROM idempotency WHERE (organization, key) IN (SELECT organization, key FROM idempotency"
      " WHERE created_unix_ns < ?1 ORDER BY created_unix_ns LIMIT 100)");
  if (!remove) return remove.error();
  remove->bind(1, now - kIdempotencyKeptNs);
  return remove->run();
}

}  // namespace tokenworks::ledger
