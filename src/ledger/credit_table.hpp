#pragma once
// The stored credits and the stored spend per tag, from the writer's side. As accounts and rollups they follow from the
// entries alone and are written part by part. Thrown away after a failed commit. Ledger
// thread only.
#include <map>
#include <tuple>
#include <unordered_map>

#include "ledger/canonical.hpp"
#include "ledger/parts.hpp"
#include "ledger/sqlite.hpp"
#include "tokenworks/ledger/credits.hpp"

namespace tokenworks::ledger {

inline constexpr std::int64_t kTagBucketSeconds = 900;   // quarters of an hour fit the days of every time zone

// What an entry does to its organization's credits; nothing when it only sets aside or gives back.
template <class Changed>
void follow_credits(CreditStack& stack, const EntryView& entry, const RequestId& operation, Changed&& changed) {
  switch (entry.type) {
    case EntryType::settle: return stack.draw({entry.amount}, changed);
    case EntryType::topup:
    case EntryType::adjust:
      if (entry.amount <= 0) return stack.draw({-entry.amount}, changed);
      return stack.add({operation, {entry.amount}, {}, entry.expires, entry.time}, changed);
    default: return;
  }
}

// The credits of an organization's own series as the store has them; its debt follows from its accounts.
Result<CreditStack> stored_credits(const Connection& store, std::int64_t series);

class CreditTable {
 public:
  struct Slot {
    CreditStack stack;
    std::int64_t series = 0;
  };

  explicit CreditTable(const Connection& store) : store_(store) {}
  // The organization's credits, read from the store the first time. The pointer lives until forget_clean().
  Result<Slot*> at(std::int64_t series);
  void follow(Slot& slot, const EntryView& entry);
  Result<std::size_t> flush(std::size_t part);       // inside a transaction; rows written
  void forget_clean();                               // bounds the memory; only when nothing waits for a flush

 private:
  static constexpr std::size_t kKept = 100'000;

  const Connection& store_;
  Statement replace_;
  std::unordered_map<std::int64_t, Slot> slots_;
  // By operation: series and newest state.
  std::array<std::map<RequestId, std::pair<std::int64_t, Credit>>, kParts> dirty_;
};

struct TagKey {
  std::int64_t bucket = 0, series = 0;               // Unix seconds of its beginning; the organization's own series
  TagHash tag{};
  auto operator<=>(const TagKey&) const = default;
};
struct TagCell {
  std::int64_t requests = 0, tokens = 0, cost = 0;
  bool operator==(const TagCell&) const = default;
  // False when a sum would overflow; the cell is then unusable.
  bool add(const TagCell& other) {
    return !__builtin_add_overflow(requests, other.requests, &requests) &&
           !__builtin_add_overflow(tokens, other.tokens, &tokens) && !__builtin_add_overflow(cost, other.cost, &cost);
  }
};
// Calls add(key, cell) for every tag of a SETTLE.
template <class Add>
void for_each_tag(const EntryView& settle, std::int64_t series, Add&& add) {
  TagKey key{settle.time / 1'000'000'000 / kTagBucketSeconds * kTagBucketSeconds, series, {}};
  const TagCell cell{1, settle.usage.input + settle.usage.output, settle.amount};
  for (std::size_t at = 0; at + key.tag.size() <= settle.tags.size(); at += key.tag.size()) {
    std::copy_n(settle.tags.begin() + static_cast<std::ptrdiff_t>(at), key.tag.size(), key.tag.begin());
    add(key, cell);
  }
}

class TagTable {
 public:
  explicit TagTable(const Connection& store) : store_(store) {}
  void add(const EntryView& settle, std::int64_t series);
  Result<std::size_t> flush(std::size_t part);       // inside a transaction; rows written

 private:
  const Connection& store_;
  Statement upsert_;
  std::array<std::map<TagKey, TagCell>, kParts> cells_;
};

// Migration: folds all entries up to state.rolled_through into the empty `credits`, and sets the reach of every part.
Result<> fill_credits(const Connection& store);

}  // namespace tokenworks::ledger
