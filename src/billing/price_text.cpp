#include <map>

#include "price_rules.hpp"

namespace tokenworks::billing {
namespace {

// A JSON string literal (RFC 8259): quote, backslash and control characters escaped, everything else as it is.
std::string quoted(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      (out += '\\') += c;
    } else if (byte < 0x20) {
      ((out += "\\u00") += kDigits[byte >> 4]) += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out += '"';
}

std::string number(std::int64_t value) { return "\"" + std::to_string(value) + "\""; }

std::string list(const Rates& r) {
  return "{\"cache_write\":" + number(r.cache_write) + ",\"cached_input\":" + number(r.cached_input) +
         ",\"embedding\":" + number(r.embedding) + ",\"input\":" + number(r.input) + ",\"output\":" + number(r.output) +
         ",\"per_request\":" + number(r.per_request) + ",\"reasoning\":" + number(r.reasoning) + "}";
}

// "bands":[...],  with the first band as the prices without one.
std::string bands(const Bands& all) {
  std::string text = "\"bands\":[";
  for (std::size_t i = 1; i < all.size(); ++i) {
    text += std::string(i > 1 ? "," : "") + "{\"over\":" + number(all[i].over) + ",\"prices\":" + list(all[i].list) + "}";
  }
  return text + "]";
}

std::string time(const TimeRule& rule) {
  std::string days;
  for (int day = 0; day < 7; ++day) days += (rule.days >> day & 1) != 0 ? '1' : '0';
  return "{" + bands(rule.bands) + ",\"days\":\"" + days + "\",\"from\":" + number(rule.from_minute) +
         ",\"multiplier\":\"" + format_decimal(rule.micro, 6) + "\",\"prices\":" + list(rule.bands.front().list) +
         ",\"timezone\":" + quoted(rule.zone->name()) + ",\"to\":" + number(rule.to_minute) + "}";
}

std::string models(const std::map<std::string, ModelRules>& all) {
  std::string text = "{";
  for (const auto& [name, rules] : all) {
    text += (text.size() > 1 ? "," : "") + quoted(name) + ":{" + bands(rules.bands) + ",\"prices\":" + list(rules.bands.front().list) +
            ",\"times\":[";
    bool first = true;
    for (const TimeRule& rule : rules.times) {
      text += (first ? "" : ",") + time(rule);
      first = false;
    }
    text += "]}";
  }
  return text + "}";
}

std::string overrides(const std::map<std::string, std::map<std::string, ModelRules>>& all) {
  std::string text = "{";
  for (const auto& [name, priced] : all) text += (text.size() > 1 ? "," : "") + quoted(name) + ":" + models(priced);
  return text + "}";
}

}  // namespace

std::string canonical(const config::PriceVersion& v, const std::string& currency, const std::map<std::string, ModelRules>& priced,
                      const std::map<std::string, std::map<std::string, ModelRules>>& plans,
                      const std::map<std::string, std::map<std::string, ModelRules>>& organizations) {
  std::string text = "{\"currency\":" + quoted(currency) + ",\"format\":\"tokenworks price book 2\",\"from_unix_ns\":";
  text += v.from_unix_ns == INT64_MIN ? "\"\"" : number(v.from_unix_ns);
  text += ",\"models\":" + models(priced) + ",\"organizations\":" + overrides(organizations) + ",\"plans\":" + overrides(plans);
  text += ",\"tiers\":{\"batch\":\"" + format_decimal(v.tier_micro[2], 6) + "\",\"priority\":\"" + format_decimal(v.tier_micro[0], 6) +
          "\",\"standard\":\"" + format_decimal(v.tier_micro[1], 6) + "\"}";
  return text + ",\"unit\":\"pico per token; per_request: pico per request\",\"version\":" + quoted(v.version) + "}";
}

}  // namespace tokenworks::billing
