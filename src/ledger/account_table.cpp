#include "ledger/account_table.hpp"

#include <algorithm>

namespace tokenworks::ledger {

std::size_t AccountTable::kind(Account account, std::string_view token_class) {
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    if (kinds_[i].account == account && kinds_[i].token_class == token_class) return i;
  }
  kinds_.push_back({account, std::string(token_class), kind_of(account, token_class)});
  return kinds_.size() - 1;
}

Result<AccountTable::Node*> AccountTable::at(std::int64_t series, Account account, std::string_view token_class) {
  const Key key{series, kind(account, token_class)};
  if (const auto known = slots_.find(key); known != slots_.end()) return &*known;
  if (!find_) {
    auto made = store_.prepare("SELECT debits, credits FROM accounts WHERE series = ?1 AND kind = ?2");
    if (!made) return made.error();
    find_ = std::move(*made);
  }
  find_.bind(1, series).bind(2, kinds_[key.kind].text);
  const auto row = find_.step();
  if (!row) return row.error();
  Slot slot;
  if (*row) slot.totals = {from_bytes(find_.blob(0)), from_bytes(find_.blob(1))};
  find_.reset();
  return &*slots_.emplace(key, slot).first;
}

void AccountTable::add(Node& node, std::int64_t debit, std::int64_t credit) {
  node.second.totals.debits += static_cast<Unsigned128>(debit);
  node.second.totals.credits += static_cast<Unsigned128>(credit);
  if (!node.second.dirty) dirty_[part_of(node.first.series)].push_back(&node);
  node.second.dirty = true;
}

Result<std::size_t> AccountTable::flush(std::size_t part) {
  std::vector<Node*>& dirty = dirty_[part];
  if (dirty.empty()) return std::size_t{0};
  if (!replace_) {
    auto made =
        store_.prepare("INSERT OR REPLACE INTO accounts(series, kind, debits, credits) VALUES (?1, ?2, ?3, ?4)");
    if (!made) return made.error();
    replace_ = std::move(*made);
  }
  std::sort(dirty.begin(), dirty.end(), [this](const Node* a, const Node* b) {   // in the order of the tree
    return a->first.series != b->first.series ? a->first.series < b->first.series
                                              : kinds_[a->first.kind].text < kinds_[b->first.kind].text;
  });
  for (Node* node : dirty) {
    const auto debits = to_bytes(node->second.totals.debits), credits = to_bytes(node->second.totals.credits);
    replace_.bind(1, node->first.series).bind(2, kinds_[node->first.kind].text).bind(3, debits).bind(4, credits);
    if (auto done = replace_.run(); !done) return done.error();
    node->second.dirty = false;
  }
  const std::size_t rows = dirty.size();
  dirty.clear();
  return rows;
}

void AccountTable::forget_clean() {
  if (slots_.size() > kKept) slots_.clear();
}

void RollupTable::add(std::int64_t unix_ns, std::int64_t series, const Usage& usage, std::int64_t cost,
                      std::int64_t minute_from) {
  const Cell one{1, usage, cost};
  for (const std::int64_t level : kLevels) {
    const std::int64_t bucket = bucket_of(unix_ns, level);
    if (level == 60 && bucket < minute_from) continue;
    const auto [cell, fresh] = cells_[part_of(series)].try_emplace({level, bucket, series});
    cell->second.add(one);                           // cannot overflow: it is a few seconds of traffic at most
    count_ += fresh ? 1 : 0;
  }
}

Result<std::size_t> RollupTable::flush(std::size_t part, std::int64_t minute_from) {
  auto& cells = cells_[part];
  if (cells.empty()) return std::size_t{0};
  if (!upsert_) {
    auto made = store_.prepare(
        "INSERT INTO rollups(level, bucket, series, requests, input, cached_input, output, reasoning, cost)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        " ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,"
        " input = input + excluded.input, cached_input = cached_input + excluded.cached_input,"
        " output = output + excluded.output, reasoning = reasoning + excluded.reasoning, cost = cost + excluded.cost");
    if (!made) return made.error();
    upsert_ = std::move(*made);
  }
  std::vector<const std::pair<const CellKey, Cell>*> ordered;
  ordered.reserve(cells.size());
  for (const auto& cell : cells) ordered.push_back(&cell);
  std::sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  for (const auto* cell : ordered) {
    const auto& [key, c] = *cell;
    if (key.level == 60 && key.bucket < minute_from) continue;
    upsert_.bind(1, key.level).bind(2, key.bucket).bind(3, key.series).bind(4, c.requests);
    upsert_.bind(5, c.usage.input).bind(6, c.usage.cached_input).bind(7, c.usage.output).bind(8, c.usage.reasoning);
    upsert_.bind(9, c.cost);
    if (auto done = upsert_.run(); !done) return done.error();
  }
  count_ -= ordered.size();
  cells.clear();
  return ordered.size();
}

}  // namespace tokenworks::ledger
