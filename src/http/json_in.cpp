#include "json_in.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "json_out.hpp"

namespace tokenworks::http {
namespace {

using Json = nlohmann::json;

// Builds the tree from the parser's events; every handler returns false to stop.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::string_view source) : source_(source) {}

  JsonValue root;
  std::string mistake;

  bool null() override { return put({}); }
  bool boolean(bool truth) override { return put({.kind = JsonValue::Kind::boolean, .truth = truth}); }
  bool number_integer(std::int64_t number) override { return put_number(std::to_string(number)); }
  bool number_unsigned(std::uint64_t number) override { return put_number(std::to_string(number)); }
  bool number_float(double, const std::string& digits) override { return put_number(digits); }
  bool string(std::string& text) override { return put({.kind = JsonValue::Kind::string, .text = std::move(text)}); }
  bool binary(Json::binary_t&) override { return stop("is not JSON"); }
  bool start_object(std::size_t) override { return open(JsonValue::Kind::object); }
  bool start_array(std::size_t) override { return open(JsonValue::Kind::array); }
  bool key(std::string& name) override {
    open_.back()->members.emplace_back(std::move(name), JsonValue{});
    return true;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool end_object() override {
    const auto& members = open_.back()->members;
    open_.pop_back();
    std::unordered_set<std::string_view> names;
    for (const auto& [name, value] : members) {
      if (!names.insert(name).second) return stop("repeats a key of an object (" + std::string(name.substr(0, 64)) + ")");
    }
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception&) override {
    const std::string_view before = source_.substr(0, std::min(byte, source_.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    return stop("is not valid JSON at byte " + std::to_string(byte) + " (line " + std::to_string(line) + ")");
  }

 private:
  bool stop(std::string why) {
    if (mistake.empty()) mistake = std::move(why);
    return false;
  }
  bool put_number(std::string digits) { return put({.kind = JsonValue::Kind::number, .text = std::move(digits)}); }
  bool put(JsonValue value) { return place(std::move(value)) != nullptr; }

  JsonValue* place(JsonValue&& value) {
    if (++values_ > kJsonValuesMax) {
      stop("holds more than " + std::to_string(kJsonValuesMax) + " JSON values");
      return nullptr;
    }
    if (open_.empty()) return &(root = std::move(value));
    JsonValue& parent = *open_.back();
    if (parent.is_array()) return &parent.items.emplace_back(std::move(value));
    return &(parent.members.back().value = std::move(value));
  }
  // Pointers to open containers stay valid: only the innermost one grows.
  bool open(JsonValue::Kind kind) {
    if (open_.size() >= kJsonDepthMax) return stop("is nested deeper than " + std::to_string(kJsonDepthMax) + " levels");
    JsonValue* made = place({.kind = kind});
    if (made == nullptr) return false;
    open_.push_back(made);
    return true;
  }

  std::string_view source_;
  std::vector<JsonValue*> open_;
  std::size_t values_ = 0;
};

std::string shown(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

}  // namespace

const JsonValue* JsonValue::find(std::string_view name) const {
  for (const auto& [key, value] : members) {
    if (key == name) return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

std::optional<std::int64_t> JsonValue::integer() const {
  if (kind != Kind::number) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size()) return value;
  const auto number = real();                        // 1.0 and 1e3 are whole numbers to JavaScript
  if (!number || *number != std::floor(*number) || std::fabs(*number) > 9007199254740992.0) return std::nullopt;
  return static_cast<std::int64_t>(*number);
}

std::optional<double> JsonValue::real() const {
  if (kind != Kind::number) return std::nullopt;
  double value = 0;
  const auto error = std::from_chars(text.data(), text.data() + text.size(), value).ec;
  if (error != std::errc{} || !std::isfinite(value)) return std::nullopt;
  return value;
}

const char* kind_name(JsonValue::Kind kind) {
  static constexpr const char* kNames[] = {"null", "a boolean", "a number", "a string", "an array", "an object"};
  return kNames[static_cast<int>(kind)];
}

Result<JsonValue> parse_json(std::string_view text) {
  Builder builder(text);
  bool ok = false;
  try {
    ok = Json::sax_parse(text.begin(), text.end(), &builder);
  } catch (const Json::exception&) {                 // a number out of range is thrown on some paths
    builder.mistake = "holds a number that is out of range";
  }
  if (ok && builder.mistake.empty()) return std::move(builder.root);
  return error(Errc::invalid_request, "the request body " + (builder.mistake.empty() ? "is not valid JSON" : builder.mistake));
}

void append_json(std::string& out, const JsonValue& value) {
  switch (value.kind) {
    case JsonValue::Kind::null: out += "null"; return;
    case JsonValue::Kind::boolean: out += value.truth ? "true" : "false"; return;
    case JsonValue::Kind::number: out += value.text; return;
    case JsonValue::Kind::string: append_string(out, value.text); return;
    case JsonValue::Kind::array: {
      out += '[';
      for (std::size_t i = 0; i < value.items.size(); ++i) {
        if (i > 0) out += ',';
        append_json(out, value.items[i]);
      }
      out += ']';
      return;
    }
    case JsonValue::Kind::object: {
      JsonObject object(out);
      for (const auto& [name, member] : value.members) append_json(object.key(name), member);
      object.close();
      return;
    }
  }
}

void Fields::fail(std::string_view name, const std::string& why, Errc code) {
  if (!mistake_) mistake_ = error(code, "'" + param(name) + "' " + why, param(name));
}

const JsonValue* Fields::typed(std::string_view name, JsonValue::Kind kind) {
  const JsonValue* value = any(name);
  if (value == nullptr || value->kind == kind) return value;
  fail(name, std::string("must be ") + kind_name(kind) + ", not " + kind_name(value->kind));
  return nullptr;
}

std::optional<std::string> Fields::string(std::string_view name) {
  const JsonValue* value = typed(name, JsonValue::Kind::string);
  if (value == nullptr) return std::nullopt;
  return value->text;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const JsonValue* value = typed(name, JsonValue::Kind::boolean);
  if (value == nullptr) return std::nullopt;
  return value->truth;
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t least, std::int64_t most) {
  const JsonValue* value = typed(name, JsonValue::Kind::number);
  if (value == nullptr) return std::nullopt;
  const auto number = value->integer();
  if (!number) {
    fail(name, "must be a whole number");
  } else if (*number < least || *number > most) {
    fail(name, most == INT64_MAX ? "must be at least " + std::to_string(least)
                                 : "must be between " + std::to_string(least) + " and " + std::to_string(most));
  } else {
    return number;
  }
  return std::nullopt;
}

std::optional<double> Fields::real(std::string_view name, double least, double most, bool above) {
  const JsonValue* value = typed(name, JsonValue::Kind::number);
  if (value == nullptr) return std::nullopt;
  const auto number = value->real();
  if (!number || *number < least || *number > most || (above && *number == least)) {
    fail(name, std::string("must be ") + (above ? "above " + shown(least) + " and at most " : "between " + shown(least) + " and ") + shown(most));
    return std::nullopt;
  }
  return number;
}

}  // namespace tokenworks::http
