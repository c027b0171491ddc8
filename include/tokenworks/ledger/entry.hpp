#pragma once
// Entry: one durable, chained record of the books, with the final schema (DESIGN "Ledger and money"). It carries ids,
// numbers and salted hashes only; names, tags and user strings sit in an erasable side table keyed by the request.
// docs/ledger_format.md states the byte form and the chain rule; an independent checker is written from that page alone.
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/money.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/base/usage.hpp"
#include "tokenworks/ledger/outbox.hpp"

namespace tokenworks::ledger {

enum class EntryType : std::uint8_t { hold = 1, extend, settle, release, expire, topup, adjust };
const char* name(EntryType type);                    // "hold"

inline constexpr std::int32_t kSchemaVersion = 2;    // of the byte form of new entries; older ones stay as they are

// A tag ("team", "search"; "user", "u-17") without its text: HMAC-SHA256 under the server's secret, 16 bytes. The same tag
// of two organizations gives two hashes. Spend by tag is kept under it, so it outlives the erasure of names.
using TagHash = std::array<std::uint8_t, 16>;
TagHash tag_hash(std::string_view server_secret, const OrganizationId& organization, std::string_view name,
                 std::string_view value);
inline constexpr std::size_t kTagHashesMax = 16;     // per entry

// What an append gives; the ledger adds schema_version, writer_id, seq, prev_hash and hash. Amount: HOLD, EXTEND: what is
// set aside (added); SETTLE: the charge, <= the sum of its holds; RELEASE, EXPIRE: what is given back, exactly all that is
// held; TOPUP, ADJUST: signed change of the balance. Every request's holds end exactly once, by SETTLE, RELEASE or EXPIRE;
// a TOPUP or ADJUST is booked once per `request`: the same one again is acknowledged and changes nothing.
struct Record {
  EntryType type = EntryType::hold;
  std::int64_t unix_ns = 0;
  RequestId request{};                               // for TOPUP and ADJUST the id of the operation
  OrganizationId organization;
  ProjectId project;
  KeyId key;
  std::string actor;                                 // principal: "service:default", "user:anna"; who did it for TOPUP/ADJUST
  ModelId model;
  std::string model_digest, tokenizer_digest;        // hex
  std::string price_version;                         // the PriceBook version frozen at admission
  std::string price_hash;                            // hex
  Tier tier = Tier::standard;
  Usage usage;                                       // SETTLE: what was used; HOLD: prompt and output held
  Money amount;
  std::string currency;                              // "USD"
  // SETTLE: the charge by token class ("input", "cached_input", "output"); the lines add up to amount exactly.
  std::vector<std::pair<std::string, Money>> lines;
  std::string finish_reason;                         // "stop", "length", "cancelled", "crash", ...
  std::string build_id, region, jurisdiction, data_class;
  std::optional<std::string> token_commitment, attestation_id, receipt_id;   // nullable until a later issue
  std::int32_t retry_count = 0;                      // x-stainless-retry-count
  std::int64_t expires_unix_ns = 0;                  // TOPUP above zero: when what is left of it is lost; 0: never
  std::vector<TagHash> tag_hashes;                   // of the request, no tag twice, at most kTagHashesMax; SETTLE counts
  std::vector<OutboxEvent> events;                   // what it causes: in the same transaction, no part of the chain
};

struct Entry : Record {
  std::int32_t schema_version = kSchemaVersion;
  std::string writer_id;                             // one chain per writer epoch (a process that had the books open)
  std::int64_t seq = 0;                              // from 1 within a chain
  Money held;                                        // SETTLE, RELEASE, EXPIRE: all that its HOLD and EXTENDs set aside; else 0
  Digest prev_hash{}, hash{};
};

// The erasable side of a request.
struct Annotation {
  RequestId request{};
  OrganizationId organization;
  std::map<std::string, std::string> tags;           // user, metadata
};

// Running state of a request for PROGRESS: what it would be settled with after a crash.
struct Progress {
  RequestId request{};
  Usage usage;
  Money charge;                                      // rated by the owner of the prices; the ledger cannot price
  std::vector<std::pair<std::string, Money>> lines;
};

}  // namespace tokenworks::ledger
