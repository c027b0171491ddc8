#pragma once
// Administration: what operators do to a running plant, whoever carries it: the admin listener (with a key and a role) or
// the control socket (the owner of the data directory, as "local"). Every mutation writes an audit row in its transaction.
// Calls block on the ledger: call from a worker, not from an IO thread.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/snapshot.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/admission.hpp"
#include "tokenworks/gateway/model_desk.hpp"
#include "tokenworks/gateway/orders.hpp"
#include "tokenworks/ledger/entry.hpp"
#include "tokenworks/ledger/rows.hpp"
#include "tokenworks/tenancy/directory.hpp"

namespace tokenworks::gateway {

struct KeyIssued {
  std::string text;                                  // shown once
  ledger::KeyRow row;
};

struct CreditBooked {
  RequestId operation;                               // of the entry
  std::string currency;
  CreditOrder order;
  bool created = false;                              // false: it was booked before
  Money balance;
};
struct CreditsView {
  std::string organization, currency;
  std::optional<Money> balance, credit_line, free;   // free: what a new request may take
  Money held;
  struct Credit : ledger::Credit {
    std::string id;                                  // the payer's, when it is known
    bool expired = false;
  };
  std::vector<Credit> credits;                       // in the order in which they are spent
};
struct BudgetView {
  std::string id;
  bool declared = false;                             // in the configuration: only there it can be changed
  std::string currency;
  billing::BudgetState state;
};

struct Reloaded {
  std::vector<std::string> restart_needed;           // keys of tokenworks.yaml that differ from what the daemon runs with
};

class Administration {
 public:
  virtual ~Administration() = default;
  // The key works before the call returns.
  virtual Result<KeyIssued> create_key(const tenancy::KeyOrder& order, const std::string& actor) = 0;
  virtual Result<std::vector<ledger::KeyRow>> list_keys(const std::string& organization) = 0;   // "": all
  // A new key with the same rights; the old one works for `grace_ns` more.
  virtual Result<KeyIssued> rotate_key(const std::string& id, std::int64_t grace_ns, const std::string& actor) = 0;
  virtual Result<> revoke_key(const std::string& id, const std::string& actor) = 0;
  // A few times a second: brings into force what the ledger committed too late for its caller (Ledger::late_changes).
  virtual void catch_up() {}
  // Prices, tenants, keys, certificates and models as one snapshot or not at all; the error lists every mistake. Either way
  // an audit row is left. Models are loaded meanwhile; server_is_overloaded: another change of models is going on.
  virtual Result<Reloaded> reload(const std::string& actor) = 0;
  virtual Result<std::vector<ledger::AuditEvent>> audit_events(std::int64_t limit) = 0;
  virtual Result<std::vector<ledger::UsageRow>> usage(const ledger::UsageQuery& query) = 0;
  virtual Result<ledger::VerifyReport> verify() = 0;
  virtual Result<> backup(const std::string& path, const std::string& actor) = 0;
  // Removes what clients of the organization sent as tags and user strings; entries and sums stay. not_found: it is neither
  // configured nor known to the books.
  virtual Result<> erase_annotations(const std::string& organization, const std::string& actor) = 0;
  virtual Result<std::vector<ledger::Entry>> entries_of(const RequestId& request) = 0;

  virtual std::string currency() const { return "USD"; }   // of every amount
  // Credits and budgets of an organization. A credit is booked once per id: the same order again changes nothing and says so;
  // another one under the id is idempotency_mismatch. A correction must not take what is not there.
  virtual Result<CreditBooked> add_credit(const std::string&, const CreditOrder&, const std::string& /*actor*/) { return no_money(); }
  virtual Result<CreditsView> credits(const std::string& /*organization*/) { return no_money(); }
  virtual Result<CreditsView> expire_credits(const std::string&, const std::string& /*actor*/) { return no_money(); }
  virtual Result<std::vector<BudgetView>> budgets(const std::string& /*organization*/) { return no_money(); }
  // In force when it returns, also after a restart. declared_in_config: the id is one of the configuration's.
  virtual Result<BudgetView> set_budget(const std::string&, const BudgetOrder&, const std::string& /*actor*/) { return no_money(); }
  virtual Result<> remove_budget(const std::string&, const std::string& /*id*/, const std::string& /*actor*/) { return no_money(); }

  // Models: those there are, and a change of them, in force when it returns (model_desk.hpp). Beside a change another one is
  // server_is_overloaded: weights may load for minutes.
  virtual std::vector<ModelState> models() { return {}; }
  virtual Result<std::vector<ModelState>> change_models(const ModelOrder&, const std::string& /*actor*/) {
    return error(Errc::internal, "this administration serves no models");
  }

 private:
  static Error no_money() { return error(Errc::internal, "this administration keeps no money"); }
};

// What the real one is made of; everything outlives it.
struct AdministrationParts {
  const Clock& clock;
  ledger::Ledger& ledger;
  Admission& admission;
  Snapshot<tenancy::Directory>& directory;
  const config::Config& config;                      // as started
  std::map<std::string, std::uint32_t>& tenant_numbers;
  std::function<Result<>(const config::Config&)> before_apply;   // certificates: an error stops the reload
  std::function<void(const config::Config&)> applied;            // metrics, log
  std::function<void(bool ok)> reloaded;                         // every reload's end
  ModelDesk* models = nullptr;                       // null: without a daemon there are none to change
};
// Whether the book may follow what the ledger keeps. bad_config with file:line for a change of the past: other prices in a
// version that has been in force, or a new version that begins before now.
Result<> prices_allowed(ledger::Ledger& ledger, const billing::PriceBook& book, std::int64_t unix_ns);
// Puts an allowed book into the ledger, where its versions stay for ever: the last step before it is in force.
Result<> keep_prices(ledger::Ledger& ledger, const billing::PriceBook& book, std::int64_t unix_ns, const ledger::AuditEvent& event);
std::unique_ptr<Administration> make_administration(AdministrationParts parts);

}  // namespace tokenworks::gateway
