#pragma once
// Orders: credits and budgets as operators ask for them through the API and the command line, in one JSON shape for both
// and for the rows the ledger keeps. Every mistake names its field; nothing is rounded, guessed or half taken.
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/money.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"

namespace tokenworks::gateway {

// {"id": "invoice-7", "amount": "25.00", "expires": "30d" | RFC 3339}: a top-up, booked once per id.
struct CreditOrder {
  std::string id;                                    // the payer's: 1 to 128 characters
  Money amount;                                      // above zero; a correction may be below
  std::int64_t expires_unix_ns = 0;                  // 0: never
  std::int64_t lasts_ns = 0;                         // as a time span it was ordered for, from its booking on
  bool correction = false;                           // an ADJUST: no credit of its own
};
Result<CreditOrder> credit_from_json(std::string_view body, std::int64_t now_unix_ns, std::string_view currency = "USD");
// The id of the entry: the same for the same organization and id, whoever asks.
RequestId operation_id(std::string_view organization, std::string_view id);

// {"id", "amount", "per", "mode", "warn_at": [50, 80], "timezone", "project", "model", "key", "tag"}.
struct BudgetOrder {
  std::string id;                                    // letters, digits and - _ ., at most 64
  std::string project;                               // "": the organization's
  config::BudgetSpec spec;
};
Result<BudgetOrder> budget_from_json(std::string_view body, std::string_view currency = "USD");
std::string budget_json(const BudgetOrder& order, std::string_view currency = "USD");

const char* per_name(config::BudgetSpec::Per per);   // "month"

}  // namespace tokenworks::gateway
