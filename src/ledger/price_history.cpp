#include "ledger/price_history.hpp"

#include <algorithm>

#include "ledger/reader.hpp"

namespace tokenworks::ledger {
namespace {

// The (from, hash) that were applied last, in order.
Result<std::vector<std::pair<std::int64_t, std::string>>> applied_last(const Connection& store) {
  auto find = store.prepare(
      "SELECT from_unix_ns, hash FROM price_history WHERE applied_unix_ns = (SELECT max(applied_unix_ns) FROM price_history)"
      " ORDER BY id");
  if (!find) return find.error();
  std::vector<std::pair<std::int64_t, std::string>> last;
  for (;;) {
    const auto more = find->step();
    if (!more) return more.error();
    if (!*more) return last;
    last.emplace_back(find->integer(0), std::string(find->text(1)));
  }
}

}  // namespace

Result<bool> write_prices(const Connection& store, const std::vector<PriceHistoryRow>& rows) {
  const auto last = applied_last(store);
  if (!last) return last.error();
  const bool same = std::ranges::equal(*last, rows, [](const auto& known, const PriceHistoryRow& row) {
    return known.first == row.from_unix_ns && known.second == row.book.hash;
  });
  if (same) return false;
  const auto newest = store.value("SELECT coalesce(max(applied_unix_ns), -9223372036854775807) FROM price_history");
  if (!newest) return newest.error();
  auto keep = store.prepare("INSERT OR IGNORE INTO price_books(hash, version, text, since_unix_ns) VALUES (?1, ?2, ?3, ?4)");
  if (!keep) return keep.error();
  auto insert = store.prepare("INSERT INTO price_history(applied_unix_ns, from_unix_ns, hash) VALUES (?1, ?2, ?3)");
  if (!insert) return insert.error();
  for (const PriceHistoryRow& row : rows) {
    keep->bind(1, row.book.hash).bind(2, row.book.version).bind(3, row.book.text).bind(4, row.book.since_unix_ns);
    if (auto done = keep->run(); !done) return done.error();
    const std::int64_t applied = std::max(row.applied_unix_ns, *newest + 1);   // a clock set back reorders nothing
    insert->bind(1, applied).bind(2, row.from_unix_ns).bind(3, row.book.hash);
    if (auto done = insert->run(); !done) return done.error();
  }
  return true;
}

Result<std::vector<PriceHistoryRow>> Reader::price_history() {
  auto find = store_.prepare(
      "SELECT h.applied_unix_ns, h.from_unix_ns, b.version, b.hash, b.text, b.since_unix_ns FROM price_history h"
      " JOIN price_books b ON b.hash = h.hash ORDER BY h.id");
  if (!find) return find.error();
  std::vector<PriceHistoryRow> rows;
  for (;;) {
    const auto more = find->step();
    if (!more) return more.error();
    if (!*more) return rows;
    PriceHistoryRow& row = rows.emplace_back();
    row.applied_unix_ns = find->integer(0);
    row.from_unix_ns = find->integer(1);
    row.book.version = find->text(2);
    row.book.hash = find->text(3);
    row.book.text = find->text(4);
    row.book.since_unix_ns = find->integer(5);
  }
}

}  // namespace tokenworks::ledger
