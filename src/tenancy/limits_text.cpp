// Limits as text: the JSON of key rows and of the API. A fixed vocabulary of whole numbers, so the reader is this file.
#include <charconv>

#include "tokenworks/tenancy/limits.hpp"

namespace tokenworks::tenancy {
namespace {

void skip_space(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t' || text.front() == '\n' || text.front() == '\r')) text.remove_prefix(1);
}
bool eat(std::string_view& text, char c) {
  skip_space(text);
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::string limits_json(const LimitSpec& spec) {
  std::string out;
  for (const config::LimitName& limit : config::kLimitNames) {
    if (spec.*limit.field == config::kUnlimited) continue;
    out += (out.empty() ? "{\"" : ",\"") + std::string(limit.name) + "\":" + std::to_string(spec.*limit.field);
  }
  return out.empty() ? out : out + "}";
}

Result<> set_limit(LimitSpec& spec, std::string_view limit, std::string_view digits) {
  for (const config::LimitName& known : config::kLimitNames) {
    if (known.name != limit) continue;
    std::int64_t value = -1;
    const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || failed != std::errc{} || end != digits.data() + digits.size() || value < 0 || value > config::kLimitMax) {
      return error(Errc::invalid_request, "'" + std::string(limit) + "' is '" + std::string(digits.substr(0, 40)) + "'; a whole number from 0 to " +
                                              std::to_string(config::kLimitMax) + " is needed", std::string(limit));
    }
    spec.*known.field = value;
    return {};
  }
  return error(Errc::invalid_request, "there is no limit '" + std::string(limit.substr(0, 60)) + "'; known are those of a plan, such as requests_per_minute",
               std::string(limit.substr(0, 60)));
}

Result<LimitSpec> parse_limits(std::string_view json) {
  LimitSpec spec;
  if (json.empty()) return spec;
  const auto broken = [] { return error(Errc::invalid_request, "'limits' must be an object of whole numbers", "limits"); };
  if (!eat(json, '{')) return broken();
  if (eat(json, '}')) return spec;
  do {
    if (!eat(json, '"')) return broken();
    const std::size_t quote = json.find('"');
    if (quote == std::string_view::npos) return broken();
    const std::string_view limit = json.substr(0, quote);
    json.remove_prefix(quote + 1);
    if (!eat(json, ':')) return broken();
    skip_space(json);
    const std::size_t end = json.find_first_of(",} \t\r\n");
    if (end == std::string_view::npos) return broken();
    if (auto set = set_limit(spec, limit, json.substr(0, end)); !set) return set.error();
    json.remove_prefix(end);
  } while (eat(json, ','));
  if (!eat(json, '}')) return broken();
  skip_space(json);
  if (!json.empty()) return broken();
  return spec;
}

}  // namespace tokenworks::tenancy
