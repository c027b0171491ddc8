#include "ledger/rules.hpp"

#include <algorithm>

#include "ledger/dictionary.hpp"

namespace tokenworks::ledger {
namespace {

Error refuse(std::string why) { return error(Errc::internal, std::move(why)); }

bool is_class_name(std::string_view text) {
  if (text.empty() || text.size() > 32) return false;
  for (const char c : text) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')) return false;
  }
  return true;
}

}  // namespace

Result<> check_usage(const Usage& u) {
  for (const std::int64_t tokens : {u.input, u.cached_input, u.output, u.reasoning}) {
    if (tokens < 0 || tokens > kTokensMax)
      return refuse("a token count of " + std::to_string(tokens) + " is out of range");
  }
  if (u.cached_input > u.input) return refuse("more cached input than input tokens");
  if (u.reasoning > u.output) return refuse("more reasoning than output tokens");
  return {};
}

Result<> check_lines(const std::vector<std::pair<std::string, Money>>& lines, Money amount) {
  Money sum;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto& [token_class, line] = lines[i];
    if (!is_class_name(token_class)) return refuse("'" + token_class.substr(0, 40) + "' is no name for a token class");
    for (std::size_t k = 0; k < i; ++k) {
      if (lines[k].first == token_class) return refuse("two charge lines for the token class " + token_class);
    }
    if (line.nano < 0) return refuse("a negative charge line for the token class " + token_class);
    const auto more = add(sum, line);
    if (!more) return refuse("the charge lines overflow");
    sum = *more;
  }
  if (sum != amount)
    return refuse("the charge lines add up to " + to_string(sum) + ", the charge is " + to_string(amount));
  return {};
}

Result<> check_record(const Record& r) {
  const auto type = static_cast<int>(r.type);
  if (type < 1 || type > 7) return refuse("an unknown entry type " + std::to_string(type));
  if (r.unix_ns < 0) return refuse("a time before 1970");
  if (r.request == RequestId{}) return refuse("an entry without a request id");
  if (r.organization.value.empty()) return refuse("an entry without an organization");
  if (r.currency.empty()) return refuse("an entry without a currency");
  const bool signed_amount = r.type == EntryType::topup || r.type == EntryType::adjust;
  if (r.amount.nano < (signed_amount ? -kAccountMax : 0) || r.amount.nano > kAccountMax) {
    return refuse("an amount of " + to_string(r.amount, r.currency) + " is out of range for a " + name(r.type));
  }
  if (auto usage = check_usage(r.usage); !usage) return usage;
  if (!is_plain_text(r.finish_reason, 64))
    return refuse("a finish reason longer than 64 bytes or with control characters");
  for (const auto* text : {&r.token_commitment, &r.attestation_id, &r.receipt_id}) {
    if (*text && !is_plain_text(**text, 256))
      return refuse("a commitment, attestation or receipt id that is no plain text");
  }
  if (r.expires_unix_ns != 0) {
    if (r.type != EntryType::topup || r.amount.nano <= 0) return refuse("an expiry on what is no credit");
    if (r.expires_unix_ns <= r.unix_ns) return refuse("a credit that expires before it is booked");
  }
  if (r.tag_hashes.size() > kTagHashesMax) return refuse("more than 16 tags");
  if (!r.tag_hashes.empty()) {
    if (signed_amount) return refuse("tags on what is no request");
    auto sorted = r.tag_hashes;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return refuse("the same tag twice");
  }
  if (r.type == EntryType::settle) return check_lines(r.lines, r.amount);
  if (!r.lines.empty()) return refuse(std::string("charge lines on a ") + name(r.type));
  return {};
}

}  // namespace tokenworks::ledger
