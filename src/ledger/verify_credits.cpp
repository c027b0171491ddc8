#include "ledger/verify_credits.hpp"

#include <algorithm>

namespace tokenworks::ledger {

void CreditCheck::follow(const EntryView& entry, const RequestId& request, std::int64_t series) {
  follow_credits(stacks_[series], entry, request, [&](const Credit& credit) {
    credits_.insert_or_assign(credit.operation, std::pair(series, credit));
  });
  if (entry.type != EntryType::settle) return;
  for_each_tag(entry, series, [this](const TagKey& key, const TagCell& cell) {
    overflow_ = !tags_[key].add(cell) || overflow_;
  });
}

Result<std::optional<std::string>> CreditCheck::compare(const Connection& store) const {
  auto different = compare_credits(store);
  if (!different || *different) return different;
  return compare_tags(store);
}

Result<std::optional<std::string>> CreditCheck::compare_credits(const Connection& store) const {
  auto find = store.prepare(
      "SELECT operation, series, booked_unix_ns, expires_unix_ns, amount, remaining FROM credits");
  if (!find) return find.error();
  std::size_t matched = 0;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) break;
    Credit stored;
    const auto id = find->blob(0);
    if (id.size() == stored.operation.bytes.size()) std::copy(id.begin(), id.end(), stored.operation.bytes.begin());
    stored.booked_unix_ns = find->integer(2);
    stored.expires_unix_ns = find->integer(3);
    stored.amount = {find->integer(4)};
    stored.remaining = {find->integer(5)};
    const auto known = credits_.find(stored.operation);
    if (known == credits_.end() || known->second != std::pair(find->integer(1), stored)) {
      return std::optional("credit " + stored.operation.to_string() + ": not what the entries leave of it");
    }
    ++matched;
  }
  if (matched != credits_.size()) return std::optional<std::string>("credits: rows are missing");
  return std::optional<std::string>();
}

Result<std::optional<std::string>> CreditCheck::compare_tags(const Connection& store) const {
  if (overflow_) return std::optional<std::string>("tag_spend: a sum overflows");
  auto find = store.prepare("SELECT bucket, series, tag, requests, tokens, cost FROM tag_spend");
  if (!find) return find.error();
  std::size_t matched = 0;
  for (;;) {
    const auto row = find->step();
    if (!row) return row.error();
    if (!*row) break;
    TagKey key{find->integer(0), find->integer(1), {}};
    const auto tag = find->blob(2);
    if (tag.size() == key.tag.size()) std::copy(tag.begin(), tag.end(), key.tag.begin());
    const auto known = tags_.find(key);
    if (known == tags_.end() || known->second != TagCell{find->integer(3), find->integer(4), find->integer(5)}) {
      return std::optional("tag_spend " + std::to_string(key.bucket) + "/" + std::to_string(key.series) + "/" +
                           hex(key.tag) + ": not the sum of its entries");
    }
    ++matched;
  }
  if (matched != tags_.size()) return std::optional<std::string>("tag_spend: rows are missing");
  return std::optional<std::string>();
}

}  // namespace tokenworks::ledger
