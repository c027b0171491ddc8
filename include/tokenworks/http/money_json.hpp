#pragma once
// The JSON shapes of credits and budgets, one place for the API and for the CLI without a daemon. Money is decimal text.
// The orders themselves are read by tokenworks/gateway/orders.hpp.
#include <string>
#include <vector>

#include "tokenworks/gateway/administration.hpp"

namespace tokenworks::http {

std::string to_json(const gateway::CreditBooked& booked);                    // {"id", "operation", "amount", "created", "balance", ...}
std::string to_json(const gateway::CreditsView& view);                       // {"organization", "balance", ..., "data": [...]}
std::string to_json(const gateway::BudgetView& budget);
std::string to_json(const std::vector<gateway::BudgetView>& budgets);        // {"data": [...]}

}  // namespace tokenworks::http
