#pragma once
// The JSON shapes of administration, one place for the admin API and for the CLI without a daemon (INTERFACE "Command
// line"): what a program scripts against is the same text either way. Money is decimal text, never a double.
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/gateway/administration.hpp"
#include "tokenworks/ledger/entry.hpp"
#include "tokenworks/ledger/rows.hpp"
#include "tokenworks/tenancy/directory.hpp"

namespace tokenworks::http {

// POST /admin/v1/keys: {"organization", "project", "role", "principal", "expires": "30d" | RFC 3339, "models": [...],
// "limits": {"requests_per_minute": 60, ...}}.
// Every field is optional; unknown fields are refused with their name.
Result<tenancy::KeyOrder> key_order_from_json(std::string_view body, std::int64_t now_unix_ns);
std::string to_json(const gateway::KeyIssued& issued);                       // {"key", "id", "organization", ...}
std::string to_json(const std::vector<ledger::KeyRow>& rows);                // {"data": [...]}: never a secret
std::string to_json(const std::string& currency, const std::vector<ledger::UsageRow>& rows);   // {"currency", "data": [...]}
std::string to_json(const ledger::VerifyReport& report);
std::string to_json(const std::vector<ledger::Entry>& entries);              // {"data": [...]}
std::string to_json(const std::vector<ledger::AuditEvent>& events);          // {"data": [...]}
std::string to_json(const std::vector<gateway::ModelState>& models);         // {"data": [...]}

// "30d", "12h", or an RFC 3339 instant, as a time; invalid_request otherwise.
Result<std::int64_t> expiry_from_text(std::string_view text, std::int64_t now_unix_ns);
std::string rfc3339(std::int64_t unix_ns);                                   // "2026-11-23T05:36:00.123Z"

}  // namespace tokenworks::http
