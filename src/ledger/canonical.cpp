#include "ledger/canonical.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace tokenworks::ledger {
namespace {

void put_optional(std::string& out, const std::optional<std::string_view>& text) {
  out += text ? '\1' : '\0';
  if (text) put_text(out, *text);
}

}  // namespace

const char* name(EntryType type) {
  switch (type) {
    case EntryType::hold: return "hold";
    case EntryType::extend: return "extend";
    case EntryType::settle: return "settle";
    case EntryType::release: return "release";
    case EntryType::expire: return "expire";
    case EntryType::topup: return "topup";
    case EntryType::adjust: return "adjust";
  }
  return "unknown";
}

const char* tier_name(Tier tier) {
  switch (tier) {
    case Tier::priority: return "priority";
    case Tier::standard: return "standard";
    case Tier::batch: return "batch";
  }
  return "unknown";
}

std::optional<Tier> tier_of(std::string_view text) {
  for (const Tier tier : {Tier::priority, Tier::standard, Tier::batch}) {
    if (text == tier_name(tier)) return tier;
  }
  return std::nullopt;
}

void put_u32(std::string& out, std::uint32_t value) {
  const char bytes[4] = {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
                         static_cast<char>(value)};
  out.append(bytes, 4);
}

void put_i64(std::string& out, std::int64_t value) {
  const auto bits = static_cast<std::uint64_t>(value);
  put_u32(out, static_cast<std::uint32_t>(bits >> 32));
  put_u32(out, static_cast<std::uint32_t>(bits));
}

void put_text(std::string& out, std::string_view text) {
  put_u32(out, static_cast<std::uint32_t>(text.size()));
  out += text;
}

void append_context(std::string& out, const Record& r) {
  put_text(out, r.organization.value);
  put_text(out, r.project.value);
  put_text(out, r.key.value);
  put_text(out, r.actor);
  put_text(out, r.model.value);
  put_text(out, r.model_digest);
  put_text(out, r.tokenizer_digest);
  put_text(out, r.price_version);
  put_text(out, r.price_hash);
  put_text(out, tier_name(r.tier));
  put_text(out, r.currency);
  put_text(out, r.build_id);
  put_text(out, r.region);
  put_text(out, r.jurisdiction);
  put_text(out, r.data_class);
}

void append_entry(std::string& out, std::string_view writer_id, std::int64_t seq, const EntryView& e,
                  std::string_view context) {
  put_u32(out, static_cast<std::uint32_t>(e.schema_version));
  put_text(out, writer_id);
  put_i64(out, seq);
  out += static_cast<char>(e.type);
  put_i64(out, e.time);
  out.append(reinterpret_cast<const char*>(e.request.data()), e.request.size());
  out += context;
  put_i64(out, e.usage.input);
  put_i64(out, e.usage.cached_input);
  put_i64(out, e.usage.output);
  put_i64(out, e.usage.reasoning);
  put_i64(out, e.amount);
  put_i64(out, e.held);
  put_text(out, e.lines);
  put_text(out, e.finish_reason);
  put_u32(out, static_cast<std::uint32_t>(e.retry_count));
  put_optional(out, e.token_commitment);
  put_optional(out, e.attestation_id);
  put_optional(out, e.receipt_id);
  if (e.schema_version < 2) return;
  put_i64(out, e.expires);
  put_text(out, {reinterpret_cast<const char*>(e.tags.data()), e.tags.size()});
}

TagHash tag_hash(std::string_view server_secret, const OrganizationId& organization, std::string_view name,
                 std::string_view value) {
  std::string bytes;
  put_text(bytes, "tokenworks.ledger.tag.1");
  put_text(bytes, organization.value);
  put_text(bytes, name);
  put_text(bytes, value);
  const Digest digest = hmac_sha256(server_secret, bytes);
  TagHash hash;
  std::copy_n(digest.begin(), hash.size(), hash.begin());
  return hash;
}

std::string lines_text(const std::vector<std::pair<std::string, Money>>& lines) {
  std::string text;
  for (const auto& [token_class, amount] : lines) {
    if (!text.empty()) text += ',';
    text += token_class;
    text += ':';
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, amount.nano).ptr;
    text.append(digits, static_cast<std::size_t>(end - digits));
  }
  return text;
}

bool parse_lines(std::string_view text, std::vector<Line>& into) {
  into.clear();
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const auto colon = item.find(':');
    if (colon == std::string_view::npos || colon == 0) return false;
    Line line{item.substr(0, colon), 0};
    const auto read = std::from_chars(item.data() + colon + 1, item.data() + item.size(), line.nano);
    if (read.ec != std::errc() || read.ptr != item.data() + item.size() || line.nano < 0) return false;
    into.push_back(line);
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
    if (text.empty()) return false;
  }
  return true;
}

std::vector<std::pair<std::string, Money>> owned_lines(std::string_view text) {
  std::vector<Line> lines;
  std::vector<std::pair<std::string, Money>> owned;
  if (parse_lines(text, lines)) {
    for (const Line& line : lines) owned.emplace_back(std::string(line.token_class), Money{line.nano});
  }
  return owned;
}

Digest genesis(std::int64_t number, std::string_view writer_id, std::string_view previous_writer_id,
               std::int64_t previous_seq, const Digest& previous_head) {
  std::string bytes;
  put_text(bytes, "tokenworks.ledger.writer.1");
  put_i64(bytes, number);
  put_text(bytes, writer_id);
  put_text(bytes, previous_writer_id);
  put_i64(bytes, previous_seq);
  bytes.append(reinterpret_cast<const char*>(previous_head.data()), previous_head.size());
  return sha256(bytes);
}

ChainHasher::ChainHasher() : digest_(EVP_MD_fetch(nullptr, "SHA256", nullptr)), context_(EVP_MD_CTX_new()) {
  if (digest_ == nullptr || context_ == nullptr) std::abort();
}

ChainHasher::~ChainHasher() {
  EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_));
  EVP_MD_free(static_cast<EVP_MD*>(digest_));
}

Digest ChainHasher::operator()(const Digest& prev, std::string_view bytes) {
  auto* context = static_cast<EVP_MD_CTX*>(context_);
  Digest digest;
  if (EVP_DigestInit_ex(context, static_cast<EVP_MD*>(digest_), nullptr) != 1 ||
      EVP_DigestUpdate(context, prev.data(), prev.size()) != 1 ||
      EVP_DigestUpdate(context, bytes.data(), bytes.size()) != 1 ||
      EVP_DigestFinal_ex(context, digest.data(), nullptr) != 1) {
    std::abort();
  }
  return digest;
}

}  // namespace tokenworks::ledger
