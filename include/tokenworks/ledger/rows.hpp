#pragma once
// Plain rows the ledger stores beside its entries and returns from queries.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/money.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/base/usage.hpp"
#include "tokenworks/ledger/entry.hpp"

namespace tokenworks::ledger {

struct KeyRow {
  KeyId id;                                          // 8 characters, shown
  Digest secret_hash{};                              // SHA-256 of the whole key text
  OrganizationId organization;                       // empty for keys of the plant itself
  ProjectId project;
  std::string role = "member";
  std::string principal;                             // "user:", "service:" or "agent:NAME"
  std::vector<std::string> models;                   // empty: whatever the plan allows
  std::int64_t created_unix_ns = 0;
  std::int64_t expires_unix_ns = 0;                  // 0: never
  std::int64_t revoked_unix_ns = 0;                  // 0: not; works until then (rotation grace sets a future time)
  std::string rotated_from;                          // id of the key it replaces
  std::string limits = {};                           // the key's own limits as JSON; "": none. Opaque to the ledger
};

struct AuditEvent {
  std::int64_t unix_ns = 0;
  std::string actor;                                 // principal or "local" for the CLI's owner
  std::string action;                                // "key.create", "config.reload", ...
  std::string object;                                // an id, never a secret
  std::string before_hash, after_hash;               // hex SHA-256 of the object's state; "" when there was none
};

struct PriceBookRow {
  std::string version;
  std::string hash;                                  // hex SHA-256 of `text`
  std::string text;                                  // the canonical form of the book
  std::int64_t since_unix_ns = 0;
};

// The prices that were in force: what was applied at an instant replaces all that was to come after it.
struct PriceHistoryRow {
  std::int64_t applied_unix_ns = 0;                  // by a start or a reload; the rows of one have it in common
  std::int64_t from_unix_ns = INT64_MIN;             // the version's own beginning
  PriceBookRow book;
};

struct IdempotencyRow {
  OrganizationId organization;
  std::string key;                                   // <= 255 characters
  Digest body_hash{};
  RequestId request{};
  bool finished = false;
  std::int32_t status = 0;
  std::string body;                                  // <= 64 KiB; empty when only usage may be kept
  Usage usage;
  Money cost;
  std::int64_t created_unix_ns = 0;
};

// A small object set through the API (a budget, ...): opaque JSON under (kind, organization, id).
struct SettingRow {
  std::string kind;                                  // "budget"
  OrganizationId organization;                       // empty for the plant's own
  std::string id;
  std::string json;
};

struct UsageQuery {
  std::int64_t from_unix_ns = 0, to_unix_ns = INT64_MAX;
  std::string organization;                          // "": all
  std::int64_t bucket_seconds = 0;                   // 0: one bucket; else 60, 3600 or 86400, aligned to UTC
  bool by_project = true, by_model = true, by_tier = true, by_key = false;
};
struct UsageRow {
  std::int64_t bucket_unix_s = 0;
  std::string organization, project, model, tier, key;   // "" where not grouped by
  std::string currency;
  std::int64_t requests = 0;
  Usage usage;
  Money cost;
};

struct SpendRow {
  OrganizationId organization;
  ProjectId project;
  KeyId key;
  ModelId model;
  std::int64_t hour_unix_s = 0;
  Money amount;
  std::int64_t tokens = 0;
};
struct TagSpendRow {
  OrganizationId organization;
  TagHash tag{};
  std::int64_t bucket_unix_s = 0;                    // quarters of an hour: they fit every time zone's days
  Money amount;
  std::int64_t tokens = 0;                           // input + output
};
struct BalanceRow {
  OrganizationId organization;
  std::string currency;
  Money balance;
  bool prepaid = false;                              // true once a TOPUP exists
};

struct VerifyReport {
  bool ok = false;
  std::int64_t entries = 0, open_holds = 0;
  std::string debits, credits;                       // decimal text, equal when ok
  std::string head;                                  // hash over the chain heads, hex
  std::optional<std::string> first_bad;              // "writer/seq: why"
};

}  // namespace tokenworks::ledger
