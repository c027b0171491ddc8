#pragma once
// Headers: the header fields of one request, and the small grammars that live in them and in URLs. Names compare without
// case. Plain functions of text, any thread.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokenworks::http {

bool equal_no_case(std::string_view a, std::string_view b);
std::string_view trim(std::string_view text);        // spaces and tabs (RFC 9110 OWS)

class Headers {
 public:
  void add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }
  // The first field of that name; "" when there is none.
  std::string_view get(std::string_view name) const;
  std::size_t count(std::string_view name) const;
  // Whether one of the comma-separated elements of a list field equals `token`.
  bool has_token(std::string_view name, std::string_view token) const;
  const std::vector<std::pair<std::string, std::string>>& all() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

// "type/subtype" in lower case without parameters.
std::string media_type(std::string_view content_type);
// Whether a body of this content type may be read as JSON: application/json, application/*+json, or none stated.
bool is_json(std::string_view content_type);
// The credential of "Bearer <credential>"; "" when the field is absent or of another scheme.
std::string_view bearer(std::string_view authorization);

// %XX decoded; nullopt on a broken escape or a NUL. `plus_is_space` for query strings.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space);

// Query parameters in order, repeated ones kept.
class Query {
 public:
  static std::optional<Query> parse(std::string_view text);
  std::string get(std::string_view name) const;      // the first; ""
  bool has(std::string_view name) const;
  // All values of `name` and `name[]`, comma-separated ones split.
  std::vector<std::string> list(std::string_view name) const;

 private:
  std::vector<std::pair<std::string, std::string>> pairs_;
};

// "12ms", "1.5s", "6m0s", "2h3m0s": the form SDKs parse in x-ratelimit-reset-*.
std::string reset_duration(std::int64_t ms);
// A decimal number of seconds ("30", "2.5") as nanoseconds; nullopt unless it is in (0, 24 h].
std::optional<std::int64_t> parse_seconds(std::string_view text);
// A whole decimal number; nullopt on anything else.
std::optional<std::int64_t> parse_integer(std::string_view text);
// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 5.6.7).
std::string http_date(std::int64_t unix_s);

}  // namespace tokenworks::http
