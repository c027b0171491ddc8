#pragma once
// Administration: what operators do to a running plant, whoever carries it: the admin listener (with a key and a role) or
// the control socket (the owner of the data directory, as "local"). Every mutation writes an audit row in its transaction.
// Calls block on the ledger: call from a worker, not from an IO thread.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/base/clock.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/base/snapshot.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/admission.hpp"
#include "tokenworks/ledger/entry.hpp"
#include "tokenworks/ledger/rows.hpp"
#include "tokenworks/tenancy/directory.hpp"

namespace tokenworks::gateway {

struct KeyIssued {
  std::string text;                                  // shown once
  ledger::KeyRow row;
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
  // Prices, tenants, keys and certificates as one snapshot or not at all; the error lists every mistake.
  virtual Result<> reload(const std::string& actor) = 0;
  virtual Result<std::vector<ledger::AuditEvent>> audit_events(std::int64_t limit) = 0;
  virtual Result<std::vector<ledger::UsageRow>> usage(const ledger::UsageQuery& query) = 0;
  virtual Result<ledger::VerifyReport> verify() = 0;
  virtual Result<> backup(const std::string& path, const std::string& actor) = 0;
  virtual Result<std::vector<ledger::Entry>> entries_of(const RequestId& request) = 0;
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
};
// Puts every version of the book into the ledger, where it stays for ever; what is there already is left alone.
Result<> keep_prices(ledger::Ledger& ledger, const billing::PriceBook& book, std::int64_t unix_ns, const ledger::AuditEvent& event);
std::unique_ptr<Administration> make_administration(AdministrationParts parts);

}  // namespace tokenworks::gateway
