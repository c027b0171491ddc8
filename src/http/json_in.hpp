#pragma once
// Reading a client's JSON. The text is parsed by nlohmann's strict parser (UTF-8 and numbers checked) into a small tree
// that keeps the order of members and the digits of numbers, since tools and schemas travel on as text and a template
// prints them. Bounds: depth, number of values; a repeated key is an error, because two readers would see two requests.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "tokenworks/base/json_text.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::http {

struct JsonMember;

struct JsonValue {
  enum class Kind : std::uint8_t { null, boolean, number, string, array, object } kind = Kind::null;
  bool truth = false;
  std::string text;                                  // string: its content; number: its digits as written
  std::vector<JsonValue> items;
  std::vector<JsonMember> members;

  bool is_null() const { return kind == Kind::null; }
  bool is_string() const { return kind == Kind::string; }
  bool is_array() const { return kind == Kind::array; }
  bool is_object() const { return kind == Kind::object; }
  // The member of that name; nullptr when absent or null.
  const JsonValue* find(std::string_view name) const;
  // A number without a fraction that fits (1, 1.0, 1e3); nullopt otherwise.
  std::optional<std::int64_t> integer() const;
  std::optional<double> real() const;                // any number
};
struct JsonMember {
  std::string name;
  JsonValue value;
};
const char* kind_name(JsonValue::Kind kind);         // "a string"

inline constexpr std::size_t kJsonDepthMax = 64, kJsonValuesMax = 400'000;

// invalid_request with the place (byte, line) of the mistake; the message quotes nothing of the text.
Result<JsonValue> parse_json(std::string_view text);
void append_json(std::string& out, const JsonValue& value);
inline JsonText json_text(const JsonValue& value) {
  JsonText out;
  append_json(out.text, value);
  return out;
}

// Reads the members of one object and remembers the first mistake; afterwards every getter gives its default. So a codec
// reads straight through and asks once. `where` prefixes param: "response_format." for nested objects.
class Fields {
 public:
  Fields(const JsonValue& object, std::string where, std::optional<Error>& mistake)
      : object_(object), where_(std::move(where)), mistake_(mistake) {}

  // nullptr when absent, null, or something went wrong before.
  const JsonValue* any(std::string_view name) const { return mistake_ ? nullptr : object_.find(name); }
  const JsonValue* array(std::string_view name) { return typed(name, JsonValue::Kind::array); }
  const JsonValue* object(std::string_view name) { return typed(name, JsonValue::Kind::object); }
  std::optional<std::string> string(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t least, std::int64_t most);
  // `above`: the lower end itself is not allowed.
  std::optional<double> real(std::string_view name, double least, double most, bool above = false);

  std::string param(std::string_view name) const { return where_ + std::string(name); }
  void fail(std::string_view name, const std::string& why, Errc code = Errc::invalid_request);

 private:
  const JsonValue* typed(std::string_view name, JsonValue::Kind kind);

  const JsonValue& object_;
  std::string where_;
  std::optional<Error>& mistake_;
};

}  // namespace tokenworks::http
