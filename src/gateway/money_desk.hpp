#pragma once
// MoneyDesk: what administration does with credits and budgets. Mutations are the caller's one at a time; every one is in
// the ledger, with its audit row, before admission knows it. Calls block on the ledger.
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tokenworks/gateway/administration.hpp"

namespace tokenworks::gateway {

class MoneyDesk {
 public:
  MoneyDesk(const Clock& clock, ledger::Ledger& ledger, Admission& admission) : clock_(clock), ledger_(ledger), admission_(admission) {}

  // `tenants` as in force.
  Result<CreditBooked> add_credit(const config::Tenants& tenants, const std::string& organization, const CreditOrder& order, const std::string& actor);
  Result<CreditsView> credits(const config::Tenants& tenants, const std::string& organization);
  Result<CreditsView> expire(const config::Tenants& tenants, const std::string& organization, const std::string& actor);

  Result<std::vector<BudgetView>> budgets(const config::Tenants& tenants, const std::string& organization);
  Result<BudgetView> set_budget(const config::Tenants& tenants, const std::vector<std::string>& model_ids, const std::string& organization,
                                const BudgetOrder& order, const std::string& actor);
  Result<> remove_budget(const config::Tenants& tenants, const std::string& organization, const std::string& id, const std::string& actor);

 private:
  Result<std::vector<ledger::SettingRow>> settings(const char* kind, const std::string& organization);
  void keep_name(const ledger::Record& record, const std::string& id, const std::string& actor);
  void settle_doubt(const RequestId& operation);
  void look_at_doubts(const std::string& organization);
  Result<std::optional<ledger::Entry>> booked_before(const ledger::Record& record, const CreditOrder& order);
  Result<> check_scope(const config::OrganizationSpec& organization, const std::vector<std::string>& model_ids, const BudgetOrder& order);

  const Clock& clock_;
  ledger::Ledger& ledger_;
  Admission& admission_;
  // Credits the ledger did not commit in time and may still commit. Nothing is ever free that may be gone: what they take
  // stays taken, what they bring is added when their entry is seen.
  std::map<RequestId, ledger::Record> doubts_;
};

}  // namespace tokenworks::gateway
