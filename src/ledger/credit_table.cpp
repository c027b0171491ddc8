#include "ledger/credit_table.hpp"

#include <algorithm>

#include "ledger/entry_rows.hpp"
#include "ledger/postings.hpp"

namespace tokenworks::ledger {
namespace {

constexpr const char* kReplace =
    "INSERT OR REPLACE INTO credits(operation, series, booked_unix_ns, expires_unix_ns, amount, remaining)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

Result<> write_credit(Statement& replace, std::int64_t series, const Credit& c) {
  replace.bind(1, c.operation.bytes).bind(2, series).bind(3, c.booked_unix_ns).bind(4, c.expires_unix_ns);
  replace.bind(5, c.amount.nano).bind(6, c.remaining.nano);
  return replace.run();
}

RequestId operation_of(const EntryView& entry) {
  RequestId id;
  if (entry.request.size() == id.bytes.size()) std::copy(entry.request.begin(), entry.request.end(), id.bytes.begin());
  return id;
}

}  // namespace

Result<CreditStack> stored_credits(const Connection& store, std::int64_t series) {
  auto find = store.prepare(
      "SELECT operation, booked_unix_ns, expires_unix_ns, amount, remaining FROM credits"
      " WHERE series = ?1 AND remaining > 0");
  if (!find) return find.error();
  find->bind(1, series);
  std::vector<Credit> credits;
  Signed128 debt = 0;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) break;
    Credit& credit = credits.emplace_back();
    const auto id = find->blob(0);
    if (id.size() == credit.operation.bytes.size()) std::copy(id.begin(), id.end(), credit.operation.bytes.begin());
    credit.booked_unix_ns = find->integer(1);
    credit.expires_unix_ns = find->integer(2);
    credit.amount = {find->integer(3)};
    credit.remaining = {find->integer(4)};
    debt += credit.remaining.nano;
  }
  auto accounts =
      store.prepare("SELECT debits, credits FROM accounts WHERE series = ?1 AND kind IN ('available', 'held')");
  if (!accounts) return accounts.error();
  accounts->bind(1, series);
  for (;;) {
    const auto row = accounts->step();
    if (!row) return row.error();
    if (!*row) break;
    debt -= Totals{from_bytes(accounts->blob(0)), from_bytes(accounts->blob(1))}.net();
  }
  if (debt < 0 || debt > INT64_MAX) {
    return error(Errc::bad_file, "the credits of series " + std::to_string(series) + " do not fit its balance");
  }
  return CreditStack(std::move(credits), {static_cast<std::int64_t>(debt)});
}

Result<CreditTable::Slot*> CreditTable::at(std::int64_t series) {
  if (const auto known = slots_.find(series); known != slots_.end()) return &known->second;
  auto stack = stored_credits(store_, series);
  if (!stack) return stack.error();
  return &slots_.emplace(series, Slot{std::move(*stack), series}).first->second;
}

void CreditTable::follow(Slot& slot, const EntryView& entry) {
  follow_credits(slot.stack, entry, operation_of(entry), [&](const Credit& credit) {
    dirty_[part_of(slot.series)].insert_or_assign(credit.operation, std::pair(slot.series, credit));
  });
}

Result<std::size_t> CreditTable::flush(std::size_t part) {
  auto& dirty = dirty_[part];
  if (dirty.empty()) return std::size_t{0};
  if (!replace_) {
    auto made = store_.prepare(kReplace);
    if (!made) return made.error();
    replace_ = std::move(*made);
  }
  for (const auto& [operation, row] : dirty) {
    if (auto done = write_credit(replace_, row.first, row.second); !done) return done.error();
  }
  const std::size_t rows = dirty.size();
  dirty.clear();
  return rows;
}

void CreditTable::forget_clean() {
  if (slots_.size() > kKept) slots_.clear();
}

void TagTable::add(const EntryView& settle, std::int64_t series) {
  auto& cells = cells_[part_of(series)];             // cannot overflow: it is a few seconds of traffic at most
  for_each_tag(settle, series, [&](const TagKey& key, const TagCell& cell) { cells[key].add(cell); });
}

Result<std::size_t> TagTable::flush(std::size_t part) {
  auto& cells = cells_[part];
  if (cells.empty()) return std::size_t{0};
  if (!upsert_) {
    auto made = store_.prepare(
        "INSERT INTO tag_spend(bucket, series, tag, requests, tokens, cost) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        " ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, tokens = tokens + excluded.tokens,"
        " cost = cost + excluded.cost");
    if (!made) return made.error();
    upsert_ = std::move(*made);
  }
  for (const auto& [key, cell] : cells) {
    upsert_.bind(1, key.bucket).bind(2, key.series).bind(3, key.tag);
    upsert_.bind(4, cell.requests).bind(5, cell.tokens).bind(6, cell.cost);
    if (auto done = upsert_.run(); !done) return done.error();
  }
  const std::size_t rows = cells.size();
  cells.clear();
  return rows;
}

Result<> fill_credits(const Connection& store) {
  const auto rolled_through = store.value("SELECT rolled_through FROM state");
  if (!rolled_through) return rolled_through.error();
  Reach reach;
  for (std::size_t part = 0; part < kParts; ++part) reach.set(part, *rolled_through);
  std::vector<std::uint8_t> bytes;
  reach.write(bytes);
  auto set = store.prepare("UPDATE state SET rolled = ?1");
  if (!set) return set.error();
  set->bind(1, bytes);
  if (auto done = set->run(); !done) return done;
  const auto funded = store.value("SELECT count(*) FROM accounts WHERE kind IN ('funding', 'adjustment')");
  if (!funded) return funded.error();
  if (*funded == 0) return {};
  auto owners = store.prepare(
      "SELECT c.id, own.id FROM contexts c JOIN series s ON s.id = c.series JOIN series own ON own.tier = ''"
      " AND own.organization = s.organization AND own.currency = s.currency AND own.project = '' AND own.key_id = ''"
      " AND own.model = ''");
  if (!owners) return owners.error();
  std::unordered_map<std::int64_t, std::int64_t> owner_of;
  for (;;) {
    const auto row = owners->step();
    if (!row) return row.error();
    if (!*row) break;
    owner_of[owners->integer(0)] = owners->integer(1);
  }
  auto entries = store.prepare(
      "SELECT type, time, request, context, amount FROM entries WHERE type IN (3, 6, 7)"
      " AND id <= (SELECT rolled_through FROM state) ORDER BY id");
  if (!entries) return entries.error();
  std::unordered_map<std::int64_t, CreditStack> stacks;
  std::map<RequestId, std::pair<std::int64_t, Credit>> rows;
  for (;;) {
    const auto row = entries->step();
    if (!row) return row.error();
    if (!*row) break;
    EntryView view;
    view.type = static_cast<EntryType>(entries->integer(0));
    view.time = entries->integer(1);
    view.request = entries->blob(2);
    view.amount = entries->integer(4);
    const std::int64_t series = owner_of[entries->integer(3)];
    follow_credits(stacks[series], view, operation_of(view), [&](const Credit& credit) {
      rows.insert_or_assign(credit.operation, std::pair(series, credit));
    });
  }
  auto replace = store.prepare(kReplace);
  if (!replace) return replace.error();
  for (const auto& [operation, row] : rows) {
    if (auto done = write_credit(*replace, row.first, row.second); !done) return done;
  }
  return {};
}

}  // namespace tokenworks::ledger
