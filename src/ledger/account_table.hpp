#pragma once
// The stored totals of every account and the stored rollup cells, from the writer's side: absolute account totals and
// cell increments in memory, written part by part. Thrown away after a failed commit. Ledger thread only.
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "ledger/parts.hpp"
#include "ledger/postings.hpp"
#include "ledger/rollup.hpp"
#include "ledger/sqlite.hpp"

namespace tokenworks::ledger {

class AccountTable {
 public:
  struct Key {
    std::int64_t series = 0;
    std::size_t kind = 0;                            // index into kinds_
    bool operator==(const Key&) const = default;
  };
  struct Slot {
    Totals totals;
    bool dirty = false;
  };
  using Node = std::pair<const Key, Slot>;

  explicit AccountTable(const Connection& store) : store_(store) {}
  // The account, read from the store the first time. The pointer lives until forget_clean().
  Result<Node*> at(std::int64_t series, Account account, std::string_view token_class);
  void add(Node& node, std::int64_t debit, std::int64_t credit);   // nano-units >= 0
  Result<std::size_t> flush(std::size_t part);       // inside a transaction; rows written
  void forget_clean();                               // bounds the memory; only when nothing waits for a flush

 private:
  struct KeyHash {
    std::size_t operator()(const Key& key) const noexcept {
      return static_cast<std::size_t>(static_cast<std::uint64_t>(key.series) * 0x9e3779b97f4a7c15u) ^ key.kind << 3;
    }
  };
  struct Kind {
    Account account;
    std::string token_class, text;
  };
  std::size_t kind(Account account, std::string_view token_class);

  static constexpr std::size_t kKept = 200'000;

  const Connection& store_;
  Statement find_, replace_;
  std::vector<Kind> kinds_;                          // a handful: one per token class ever seen
  std::unordered_map<Key, Slot, KeyHash> slots_;
  std::array<std::vector<Node*>, kParts> dirty_;
};

class RollupTable {
 public:
  explicit RollupTable(const Connection& store) : store_(store) {}
  // Adds a settled request to its minute (unless before `minute_from`), hour and day.
  void add(std::int64_t unix_ns, std::int64_t series, const Usage& usage, std::int64_t cost, std::int64_t minute_from);
  std::size_t cells() const { return count_; }
  // Inside a transaction; rows written. Minutes before `minute_from` are dropped.
  Result<std::size_t> flush(std::size_t part, std::int64_t minute_from);

 private:
  const Connection& store_;
  Statement upsert_;
  std::array<std::unordered_map<CellKey, Cell, CellKeyHash>, kParts> cells_;
  std::size_t count_ = 0;
};

}  // namespace tokenworks::ledger
