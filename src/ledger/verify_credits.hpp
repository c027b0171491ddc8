#pragma once
// The part of verification that recomputes credits and spend by tag from the entries up to the rollups.
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "ledger/credit_table.hpp"

namespace tokenworks::ledger {

class CreditCheck {
 public:
  // `series`: the organization's own.
  void follow(const EntryView& entry, const RequestId& request, std::int64_t series);
  // What differs from the store, nullopt when nothing does.
  Result<std::optional<std::string>> compare(const Connection& store) const;

 private:
  Result<std::optional<std::string>> compare_credits(const Connection& store) const;
  Result<std::optional<std::string>> compare_tags(const Connection& store) const;

  std::unordered_map<std::int64_t, CreditStack> stacks_;
  std::map<RequestId, std::pair<std::int64_t, Credit>> credits_;
  std::map<TagKey, TagCell> tags_;
  bool overflow_ = false;
};

}  // namespace tokenworks::ledger
