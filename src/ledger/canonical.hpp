#pragma once
// The canonical byte form of an entry and the hash chain over it, exactly as docs/ledger_format.md states them. Writer,
// reader and verifier all come through here; the independent checker (tests/golden/verify_ledger.py) does not.
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/crypto.hpp"
#include "tokenworks/ledger/entry.hpp"

namespace tokenworks::ledger {

// One line of a charge: token class and nano-units.
struct Line {
  std::string_view token_class;
  std::int64_t nano = 0;
};

// What an entry says beside its context (who, which model, which prices). Views into a statement's row or a Record.
struct EntryView {
  std::int32_t schema_version = kSchemaVersion;
  EntryType type = EntryType::hold;
  std::int64_t time = 0;
  std::span<const std::uint8_t> request;             // 16 bytes
  Usage usage;
  std::int64_t amount = 0, held = 0;
  std::string_view lines;                            // "input:7400,output:1200"
  std::string_view finish_reason;
  std::int32_t retry_count = 0;
  std::optional<std::string_view> token_commitment, attestation_id, receipt_id;
  std::int64_t expires = 0;                          // from schema_version 2 on
  std::span<const std::uint8_t> tags;                // from schema_version 2 on: 16 bytes each
};

const char* tier_name(Tier tier);
std::optional<Tier> tier_of(std::string_view name);

// Appends the context part of `record`: organization ... data_class, each length-prefixed.
void append_context(std::string& out, const Record& record);
// Appends the whole canonical form; `context` is what append_context made.
void append_entry(std::string& out, std::string_view writer_id, std::int64_t seq, const EntryView& entry,
                  std::string_view context);

std::string lines_text(const std::vector<std::pair<std::string, Money>>& lines);
// False when `text` is not a comma-separated list of class:nano with whole, non-negative amounts.
bool parse_lines(std::string_view text, std::vector<Line>& into);
std::vector<std::pair<std::string, Money>> owned_lines(std::string_view text);

// What the first entry of a writer epoch follows: it commits to the whole past through the last head.
Digest genesis(std::int64_t number, std::string_view writer_id, std::string_view previous_writer_id,
               std::int64_t previous_seq, const Digest& previous_head);

// SHA-256(prev || bytes) with one OpenSSL context for millions of entries. One thread.
class ChainHasher {
 public:
  ChainHasher();
  ~ChainHasher();
  ChainHasher(const ChainHasher&) = delete;
  ChainHasher& operator=(const ChainHasher&) = delete;
  Digest operator()(const Digest& prev, std::string_view bytes);

 private:
  void* digest_;                                     // EVP_MD
  void* context_;                                    // EVP_MD_CTX
};

// Big-endian building blocks, shared with the progress journal.
void put_u32(std::string& out, std::uint32_t value);
void put_i64(std::string& out, std::int64_t value);
void put_text(std::string& out, std::string_view text);

}  // namespace tokenworks::ledger
