// Queries over credits and spend by tag: what is stored, plus the entries behind it.
#include <algorithm>
#include <map>

#include "ledger/credit_table.hpp"
#include "ledger/reader.hpp"
#include "ledger/snapshot.hpp"

namespace tokenworks::ledger {
namespace {

// Calls visit(EntryRow) for the entries that not every part includes, in order.
template <class Visit>
Result<> tail(const Connection& store, Visit&& visit) {
  auto rows = store.prepare("SELECT " TOKENWORKS_ENTRY_COLUMNS
                            " FROM entries WHERE id > (SELECT rolled_through FROM state) ORDER BY id");
  if (!rows) return rows.error();
  for (;;) {
    const auto row = rows->step();
    if (!row) return row.error();
    if (!*row) return {};
    if (auto done = visit(entry_row(*rows)); !done) return done;
  }
}

template <std::size_t N>
void copy_bytes(std::span<const std::uint8_t> from, std::array<std::uint8_t, N>& into) {
  if (from.size() == N) std::copy(from.begin(), from.end(), into.begin());
}

Result<std::map<RequestId, Credit>> all_credits(const Connection& store, std::int64_t series) {
  auto find = store.prepare(
      "SELECT operation, booked_unix_ns, expires_unix_ns, amount, remaining FROM credits WHERE series = ?1");
  if (!find) return find.error();
  find->bind(1, series);
  std::map<RequestId, Credit> all;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) return all;
    Credit credit;
    copy_bytes(find->blob(0), credit.operation.bytes);
    credit.booked_unix_ns = find->integer(1);
    credit.expires_unix_ns = find->integer(2);
    credit.amount = {find->integer(3)};
    credit.remaining = {find->integer(4)};
    all.emplace(credit.operation, credit);
  }
}

}  // namespace

Result<std::int64_t> Reader::own_series(const std::string& organization, const std::string& currency) {
  std::int64_t& known = own_series_[{organization, currency}];
  if (known != 0) return known;
  auto find = store_.prepare("SELECT id FROM series WHERE organization = ?1 AND currency = ?2 AND tier = ''");
  if (!find) return find.error();
  find->bind(1, organization).bind(2, currency);
  const auto row = find->step();
  if (!row) return row.error();
  if (!*row) return error(Errc::bad_file, "the own series of organization " + organization + " is missing");
  return known = find->integer(0);
}

Result<std::vector<Credit>> Reader::credits(const OrganizationId& organization) {
  const Snapshot snapshot(store_);
  if (!snapshot.begun()) return snapshot.begun().error();
  const auto rolled_to = reach();
  if (!rolled_to) return rolled_to.error();
  auto own = store_.prepare("SELECT id, currency FROM series WHERE organization = ?1 AND tier = ''");
  if (!own) return own.error();
  own->bind(1, organization.value);
  std::vector<Credit> rows;
  for (;;) {
    const auto more = own->step();
    if (!more) return more.error();
    if (!*more) break;
    const std::string currency(own->text(1));
    auto stack = stored_credits(store_, own->integer(0));
    if (!stack) return stack.error();
    auto all = all_credits(store_, own->integer(0));
    if (!all) return all.error();
    const std::int64_t through = rolled_to->of(own->integer(0));
    const auto followed = tail(store_, [&](const EntryRow& row) -> Result<> {
      if (row.id <= through) return {};
      const auto context = entries_.context(row.context);
      if (!context) return context.error();
      const Record& who = (*context)->fields;
      if (who.organization != organization || who.currency != currency) return {};
      RequestId id;
      copy_bytes(row.view.request, id.bytes);
      follow_credits(*stack, row.view, id, [&](const Credit& c) { all->insert_or_assign(c.operation, c); });
      return {};
    });
    if (!followed) return followed.error();
    for (const auto& [operation, credit] : *all) rows.push_back(credit);
  }
  std::sort(rows.begin(), rows.end(), spent_before);
  return rows;
}

Result<std::vector<TagSpendRow>> Reader::spend_by_tag(std::int64_t from_unix_ns) {
  const Snapshot snapshot(store_);
  if (!snapshot.begun()) return snapshot.begun().error();
  const std::int64_t from =
      std::max<std::int64_t>(from_unix_ns, 0) / kSecondNs / kTagBucketSeconds * kTagBucketSeconds;
  const Error overflow = error(Errc::internal, "a sum of spend by tag does not fit 64 bits; ask for a shorter time");
  std::map<std::tuple<std::string, TagHash, std::int64_t>, TagCell> sums;
  const auto rolled_to = reach();
  if (!rolled_to) return rolled_to.error();
  auto stored = store_.prepare(
      "SELECT s.organization, t.tag, t.bucket, t.requests, t.tokens, t.cost FROM tag_spend t"
      " JOIN series s ON s.id = t.series WHERE t.bucket >= ?1");
  if (!stored) return stored.error();
  stored->bind(1, from);
  for (;;) {
    const auto row = stored->step();
    if (!row) return row.error();
    if (!*row) break;
    TagHash tag{};
    copy_bytes(stored->blob(1), tag);
    TagCell& sum = sums[{std::string(stored->text(0)), tag, stored->integer(2)}];
    if (!sum.add({stored->integer(3), stored->integer(4), stored->integer(5)})) return overflow;
  }
  const auto followed = tail(store_, [&](const EntryRow& row) -> Result<> {
    if (row.view.type != EntryType::settle || row.view.tags.empty()) return {};
    const auto context = entries_.context(row.context);
    if (!context) return context.error();
    const auto own = own_series((*context)->fields.organization.value, (*context)->fields.currency);
    if (!own) return own.error();
    if (row.id <= rolled_to->of(*own)) return {};
    bool fits = true;
    for_each_tag(row.view, *own, [&](const TagKey& key, const TagCell& cell) {
      if (key.bucket < from) return;
      fits = sums[{(*context)->fields.organization.value, key.tag, key.bucket}].add(cell) && fits;
    });
    if (!fits) return overflow;
    return {};
  });
  if (!followed) return followed.error();
  std::vector<TagSpendRow> rows;
  rows.reserve(sums.size());
  for (const auto& [key, cell] : sums) {
    const auto& [organization, tag, bucket] = key;
    rows.push_back({{organization}, tag, bucket, {cell.cost}, cell.tokens});
  }
  return rows;
}

}  // namespace tokenworks::ledger
