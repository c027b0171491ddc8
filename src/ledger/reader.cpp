#include "ledger/reader.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "ledger/postings.hpp"
#include "ledger/schema.hpp"
#include "ledger/segments.hpp"
#include "ledger/snapshot.hpp"

namespace tokenworks::ledger {
namespace {

Error overflow() { return error(Errc::internal, "a sum over the ledger does not fit 64 bits; ask for a shorter time"); }

}  // namespace

Result<std::unique_ptr<Reader>> Reader::open(const std::string& path, const std::string& vfs) {
  auto store = Connection::open(path, vfs, Access::read_only);
  if (!store) return store.error();
  if (auto done = check_version(*store); !done) return error(done.error().code, path + ": " + done.error().message);
  if (auto done = store->run("PRAGMA cache_size = -16384"); !done) return done.error();
  return std::unique_ptr<Reader>(new Reader(std::move(*store)));
}

Result<const Reader::Series*> Reader::series(std::int64_t id) {
  if (const auto known = series_.find(id); known != series_.end()) return known->second.get();
  if (!find_series_) {
    auto made = store_.prepare("SELECT organization, project, key_id, model, tier, currency FROM series WHERE id = ?1");
    if (!made) return made.error();
    find_series_ = std::move(*made);
  }
  find_series_.bind(1, id);
  const auto row = find_series_.step();
  if (!row) return row.error();
  if (!*row) return error(Errc::bad_file, "series " + std::to_string(id) + " of a rollup is missing");
  const auto text = [this](int column) { return std::string(find_series_.text(column)); };
  auto made = std::make_unique<Series>(Series{text(0), text(1), text(2), text(3), text(4), text(5)});
  find_series_.reset();
  return series_.emplace(id, std::move(made)).first->second.get();
}

Result<Reach> Reader::reach() {
  auto find = store_.prepare("SELECT rolled FROM state");
  if (!find) return find.error();
  const auto row = find->step();
  if (!row) return row.error();
  Reach reach;
  if (!*row || !reach.read(find->blob(0))) return error(Errc::bad_file, "state.rolled of the ledger is missing");
  return reach;
}

// Rows of (time, context, input, cached_input, output, reasoning, amount, id).
template <class Emit>
Result<> Reader::settled_entries(Statement& rows, const Reach& reach, bool included, std::int64_t from_ns,
                                 std::int64_t to_ns, std::int64_t bucket_seconds, Emit&& emit) {
  for (;;) {
    const auto row = rows.step();
    if (!row) return row.error();
    if (!*row) return {};
    const std::int64_t time = rows.integer(0);
    if (time < from_ns || time >= to_ns) continue;
    const auto context = entries_.context(rows.integer(1));
    if (!context) return context.error();
    if ((rows.integer(7) <= reach.of((*context)->series)) != included) continue;
    const Cell cell{1, {rows.integer(2), rows.integer(3), rows.integer(4), rows.integer(5)}, rows.integer(6)};
    const std::int64_t bucket = bucket_seconds == 0 ? 0 : bucket_of(time, bucket_seconds);
    if (auto done = emit(bucket, (*context)->series, cell); !done) return done;
  }
}

template <class Emit>
Result<> Reader::settled(std::int64_t from_ns, std::int64_t to_ns, std::int64_t bucket_seconds, Emit&& emit) {
  const auto rolled_to = reach();
  if (!rolled_to) return rolled_to.error();
  const auto minute_from = store_.value("SELECT minute_from FROM state");
  if (!minute_from) return minute_from.error();

  auto rolled = store_.prepare(
      "SELECT bucket, series, requests, input, cached_input, output, reasoning, cost FROM rollups"
      " WHERE level = ?1 AND bucket >= ?2 AND bucket < ?3");
  if (!rolled) return rolled.error();
  auto entries = store_.prepare(
      "SELECT time, context, input, cached_input, output, reasoning, amount, id FROM entries"
      " WHERE type = 3 AND time >= ?1 AND time < ?2");
  if (!entries) return entries.error();
  for (const Segment& segment : segments(from_ns, to_ns, bucket_seconds, *minute_from)) {
    if (segment.level == 0) {
      entries->bind(1, segment.from).bind(2, segment.to);
      if (auto done = settled_entries(*entries, *rolled_to, true, from_ns, to_ns, bucket_seconds, emit); !done)
        return done;
      entries->reset();
      continue;
    }
    rolled->bind(1, segment.level).bind(2, segment.from).bind(3, segment.to);
    for (;;) {
      const auto row = rolled->step();
      if (!row) return row.error();
      if (!*row) break;
      const std::int64_t bucket = bucket_seconds == 0 ? 0 : rolled->integer(0) / bucket_seconds * bucket_seconds;
      const Cell cell{rolled->integer(2),
                      {rolled->integer(3), rolled->integer(4), rolled->integer(5), rolled->integer(6)},
                      rolled->integer(7)};
      if (auto done = emit(bucket, rolled->integer(1), cell); !done) return done;
    }
    rolled->reset();
  }
  auto tail = store_.prepare(
      "SELECT time, context, input, cached_input, output, reasoning, amount, id FROM entries NOT INDEXED"
      " WHERE id > ?1 AND type = 3 ORDER BY id");
  if (!tail) return tail.error();
  tail->bind(1, rolled_to->least());
  return settled_entries(*tail, *rolled_to, false, from_ns, to_ns, bucket_seconds, emit);
}

Result<std::vector<UsageRow>> Reader::usage(const UsageQuery& query) {
  if (query.bucket_seconds < 0 || query.bucket_seconds % 60 != 0) {
    return error(Errc::invalid_request,
                 "usage buckets are whole minutes, not " + std::to_string(query.bucket_seconds) + " s");
  }
  const Snapshot snapshot(store_);
  if (!snapshot.begun()) return snapshot.begun().error();
  using Group = std::tuple<std::string, std::string, std::string, std::string, std::string, std::string>;
  std::map<Group, std::size_t> groups;
  std::vector<const Group*> names;
  std::unordered_map<std::int64_t, std::int64_t> group_of_series;   // -1: filtered out
  std::unordered_map<CellKey, Cell, CellKeyHash> sums;
  std::int64_t last_series = 0, last_group = -1;
  auto add = [&](std::int64_t bucket, std::int64_t id, const Cell& cell) -> Result<> {
    if (id != last_series) {
      auto known = group_of_series.find(id);
      if (known == group_of_series.end()) {
        const auto found = series(id);
        if (!found) return found.error();
        const Series& s = **found;
        std::int64_t group = -1;
        if (query.organization.empty() || query.organization == s.organization) {
          const auto [at, fresh] = groups.try_emplace(
              Group{s.organization, query.by_project ? s.project : "", query.by_model ? s.model : "",
                    query.by_tier ? s.tier : "", query.by_key ? s.key : "", s.currency},
              names.size());
          if (fresh) names.push_back(&at->first);
          group = static_cast<std::int64_t>(at->second);
        }
        known = group_of_series.emplace(id, group).first;
      }
      last_series = id;
      last_group = known->second;
    }
    if (last_group < 0) return {};
    if (!sums[CellKey{0, bucket, last_group}].add(cell)) return overflow();
    return {};
  };
  if (auto done = settled(query.from_unix_ns, query.to_unix_ns, query.bucket_seconds, add); !done) return done.error();

  std::vector<UsageRow> rows;
  rows.reserve(sums.size());
  for (const auto& [key, cell] : sums) {
    const auto& [organization, project, model, tier, key_id, currency] = *names[static_cast<std::size_t>(key.series)];
    rows.push_back(
        {key.bucket, organization, project, model, tier, key_id, currency, cell.requests, cell.usage, {cell.cost}});
  }
  std::sort(rows.begin(), rows.end(), [](const UsageRow& a, const UsageRow& b) {
    return std::tie(a.bucket_unix_s, a.organization, a.project, a.model, a.tier, a.key, a.currency) <
           std::tie(b.bucket_unix_s, b.organization, b.project, b.model, b.tier, b.key, b.currency);
  });
  return rows;
}

Result<std::vector<SpendRow>> Reader::spend_since(std::int64_t from_unix_ns) {
  const Snapshot snapshot(store_);
  if (!snapshot.begun()) return snapshot.begun().error();
  std::map<std::pair<std::int64_t, std::int64_t>, Cell> sums;   // hour, series
  auto add = [&](std::int64_t bucket, std::int64_t id, const Cell& cell) -> Result<> {
    if (!sums[{bucket, id}].add(cell)) return overflow();
    return {};
  };
  if (auto done = settled(from_unix_ns, INT64_MAX, 3600, add); !done) return done.error();
  using Group = std::tuple<std::int64_t, std::string, std::string, std::string, std::string>;   // tiers fold together
  std::map<Group, Cell> grouped;
  for (const auto& [key, cell] : sums) {
    const auto found = series(key.second);
    if (!found) return found.error();
    const Series& s = **found;
    if (!grouped[{key.first, s.organization, s.project, s.key, s.model}].add(cell)) return overflow();
  }
  std::vector<SpendRow> rows;
  rows.reserve(grouped.size());
  for (const auto& [group, cell] : grouped) {
    const auto& [hour, organization, project, key, model] = group;
    std::int64_t tokens = 0;
    if (__builtin_add_overflow(cell.usage.input, cell.usage.output, &tokens)) return overflow();
    rows.push_back({{organization}, {project}, {key}, {model}, hour, {cell.cost}, tokens});
  }
  return rows;
}

Result<std::vector<BalanceRow>> Reader::balances() {
  const Snapshot snapshot(store_);
  if (!snapshot.begun()) return snapshot.begun().error();
  struct Sum {
    Signed128 balance = 0;
    bool prepaid = false;
    std::int64_t through = 0;                        // the last entry its accounts include
  };
  const auto rolled_to = reach();
  if (!rolled_to) return rolled_to.error();
  std::map<std::pair<std::string, std::string>, Sum> sums;
  auto stored = store_.prepare(
      "SELECT s.organization, s.currency, a.kind, a.debits, a.credits, a.series FROM accounts a JOIN series s ON s.id = a.series"
      " WHERE a.kind IN ('available', 'held', 'funding')");
  if (!stored) return stored.error();
  for (;;) {
    const auto row = stored->step();
    if (!row) return row.error();
    if (!*row) break;
    Sum& sum = sums[{std::string(stored->text(0)), std::string(stored->text(1))}];
    sum.through = rolled_to->of(stored->integer(5));
    const Totals totals{from_bytes(stored->blob(3)), from_bytes(stored->blob(4))};
    if (stored->text(2) == "funding") {
      sum.prepaid = true;
    } else {
      sum.balance += totals.net();
    }
  }
  auto tail = store_.prepare(
      "SELECT type, context, amount, id FROM entries WHERE id > ?1 ORDER BY id");
  if (!tail) return tail.error();
  tail->bind(1, rolled_to->least());
  for (;;) {
    const auto row = tail->step();
    if (!row) return row.error();
    if (!*row) break;
    const auto context = entries_.context(tail->integer(1));
    if (!context) return context.error();
    Sum& sum = sums[{(*context)->fields.organization.value, (*context)->fields.currency}];
    if (tail->integer(3) <= sum.through) continue;
    const auto type = static_cast<EntryType>(tail->integer(0));
    if (type == EntryType::settle) sum.balance -= tail->integer(2);
    if (type == EntryType::topup || type == EntryType::adjust) sum.balance += tail->integer(2);
    if (type == EntryType::topup) sum.prepaid = true;
  }
  std::vector<BalanceRow> rows;
  for (const auto& [key, sum] : sums) {
    if (sum.balance > INT64_MAX || sum.balance < INT64_MIN) return overflow();
    rows.push_back({{key.first}, key.second, {static_cast<std::int64_t>(sum.balance)}, sum.prepaid});
  }
  return rows;
}

Result<std::vector<Entry>> Reader::entries_of(const RequestId& request) {
  const Snapshot snapshot(store_);
  if (!snapshot.begun()) return snapshot.begun().error();
  auto find = store_.prepare("SELECT " TOKENWORKS_ENTRY_COLUMNS " FROM entries WHERE request = ?1 ORDER BY id");
  if (!find) return find.error();
  find->bind(1, request.bytes);
  std::vector<Entry> all;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) return all;
    auto entry = entries_.entry(entry_row(*find));
    if (!entry) return entry.error();
    all.push_back(std::move(*entry));
  }
}

}  // namespace tokenworks::ledger
