#pragma once
// Small helpers to read the parts of tokenizer.json: each takes the path of the value for the message when it is not
// what it must be. Only the plan_json*.cpp files include this. Start-up only.
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "tokenizer/plan.hpp"
#include "tokenworks/base/result.hpp"

namespace tokenworks::tokenizer {

using Json = nlohmann::json;

inline Error bad_part(const std::string& where, const std::string& what) {
  return error(Errc::bad_file, "tokenizer.json: " + where + " " + what);
}

inline const Json* member(const Json& object, const char* key) {  // null when absent or JSON null
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

inline Result<std::string> text_at(const Json& object, const char* key, const std::string& where) {
  const Json* value = member(object, key);
  if (value == nullptr || !value->is_string()) return bad_part(where + "." + key, "must be a string");
  return value->get<std::string>();
}

inline Result<bool> flag_at(const Json& object, const char* key, bool otherwise, const std::string& where) {
  const Json* value = member(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return bad_part(where + "." + key, "must be true or false");
  return value->get<bool>();
}

inline Result<std::int64_t> number_at(const Json& object, const char* key, const std::string& where) {
  const Json* value = member(object, key);
  if (value == nullptr || !value->is_number_integer()) return bad_part(where + "." + key, "must be a whole number");
  return value->get<std::int64_t>();
}

// {"String": "x"} or {"Regex": "x"}.
Result<Regex> pattern_at(const Json& object, const char* key, const std::string& where);

Result<> read_normalizer(const Json& part, const std::string& where, Normalizer& to);
// Sets `byte_level` when the last step maps bytes to the byte-level alphabet.
Result<> read_pre_tokenizer(const Json& part, const std::string& where, PreTokenizer& to, bool& byte_level);
// Fills text, is_byte and the joining rules from the spellings of all tokens; `control` is the caller's.
Result<> read_decoder(const Json* part, const std::vector<std::string>& spellings, DecoderSpec& to);

}  // namespace tokenworks::tokenizer
