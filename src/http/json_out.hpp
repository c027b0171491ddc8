#pragma once
// Writing JSON straight into a string. The stream of an answer is built with these few functions (a token costs a fraction
// of a microsecond); numbers that are money are written digit by digit and never pass through a double.
#include <cstdint>
#include <string>
#include <string_view>

namespace tokenworks::http {

// `text` between quotes, escaped. Bytes that are not UTF-8 become U+FFFD, so that the result is always legal JSON.
void append_string(std::string& out, std::string_view text);
void append_integer(std::string& out, std::int64_t value);
// The shortest form that reads back as the same float; -9999.0 for -inf and NaN, as OpenAI writes what it cannot say.
void append_logprob(std::string& out, float value);
// [72,105]
void append_bytes(std::string& out, std::string_view text);

// Members of an object, with the commas in the right places: JsonObject o(out); o.string("id", id); o.close();
class JsonObject {
 public:
  explicit JsonObject(std::string& out) : out_(out) { out_ += '{'; }
  std::string& key(std::string_view name);           // writes `"name":`; the caller appends the value
  void string(std::string_view name, std::string_view value) { append_string(key(name), value); }
  void string_or_null(std::string_view name, std::string_view value);   // "" becomes null
  void integer(std::string_view name, std::int64_t value) { append_integer(key(name), value); }
  void raw(std::string_view name, std::string_view json) { key(name) += json; }
  void boolean(std::string_view name, bool value) { key(name) += value ? "true" : "false"; }
  void close() { out_ += '}'; }

 private:
  std::string& out_;
  bool first_ = true;
};

}  // namespace tokenworks::http
