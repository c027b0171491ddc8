#include "openai_texts.hpp"

#include <bit>
#include <charconv>
#include <cstring>

#include "json_out.hpp"

namespace tokenworks::http {
namespace {

std::optional<std::vector<TokenId>> read_ids(const JsonValue& array) {
  std::vector<TokenId> ids;
  ids.reserve(array.items.size());
  for (const JsonValue& item : array.items) {
    const auto id = item.integer();
    if (!id || *id < 0 || *id > INT32_MAX) return std::nullopt;
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

constexpr const char* kNoId = "holds something that is not a token id (a whole number from 0)";

// A string, strings, token ids, or lists of token ids.
void read_input(Fields& fields, std::int64_t inputs_max, std::vector<gateway::EmbedRequest::Input>& inputs) {
  const JsonValue* input = fields.any("input");
  if (input == nullptr) return fields.fail("input", "is required: a string, token ids, or an array of either");
  if (input->is_string()) {
    if (input->text.empty()) return fields.fail("input", "must not be an empty string");
    inputs.emplace_back(input->text);
    return;
  }
  if (!input->is_array() || input->items.empty()) return fields.fail("input", "must be a string, token ids, or an array of either, and not empty");
  const JsonValue::Kind kind = input->items.front().kind;
  for (const JsonValue& item : input->items) {
    if (item.kind != kind) return fields.fail("input", "must not mix strings, token ids and lists of token ids");
  }
  if (kind == JsonValue::Kind::number) {
    auto ids = read_ids(*input);
    if (!ids) return fields.fail("input", kNoId);
    inputs.emplace_back(std::move(*ids));
    return;
  }
  if (static_cast<std::int64_t>(input->items.size()) > inputs_max) return fields.fail("input", "takes at most " + std::to_string(inputs_max) + " inputs");
  for (const JsonValue& item : input->items) {
    if (item.is_string()) {
      if (item.text.empty()) return fields.fail("input", "must not hold an empty string");
      inputs.emplace_back(item.text);
    } else if (item.is_array()) {
      auto ids = read_ids(item);
      if (!ids) return fields.fail("input", kNoId);
      if (ids->empty()) return fields.fail("input", "must not hold an empty list of token ids");
      inputs.emplace_back(std::move(*ids));
    } else {
      return fields.fail("input", std::string("must hold strings or token ids, not ") + kind_name(item.kind));
    }
  }
}

void append_float(std::string& out, float value) {
  char text[32];
  out.append(text, std::to_chars(text, text + sizeof text, value).ptr);
}

}  // namespace

Result<ParsedEmbedding> parse_embedding(std::string_view body, const config::Plant::Limits& limits) {
  ParsedEmbedding parsed;
  const auto value = read_body(body, parsed.request.model);
  if (!value) return value.error();
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  read_input(fields, limits.embedding_inputs, parsed.request.inputs);
  parsed.request.dimensions = fields.integer("dimensions", 1, INT32_MAX);
  if (const auto format = fields.string("encoding_format")) {
    if (*format != "float" && *format != "base64") fields.fail("encoding_format", "must be float or base64");
    parsed.base64 = *format == "base64";
  }
  read_tier(fields, parsed.request.tier);
  read_tags(fields, mistake, parsed.request.tags);
  if (mistake) return *mistake;
  return parsed;
}

std::string base64_of(const std::vector<float>& vector) {
  static_assert(std::endian::native == std::endian::little);
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto* bytes = reinterpret_cast<const unsigned char*>(vector.data());
  const std::size_t size = vector.size() * sizeof(float);
  std::string out;
  out.reserve((size + 2) / 3 * 4);
  for (std::size_t i = 0; i < size; i += 3) {
    const std::size_t left = std::min<std::size_t>(3, size - i);
    std::uint32_t group = static_cast<std::uint32_t>(bytes[i]) << 16;
    if (left > 1) group |= static_cast<std::uint32_t>(bytes[i + 1]) << 8;
    if (left > 2) group |= bytes[i + 2];
    for (std::size_t digit = 0; digit < 4; ++digit) out += digit <= left ? kDigits[group >> (18 - 6 * digit) & 63] : '=';
  }
  return out;
}

std::string embedding_json(const gateway::Embedded& embedded, bool base64) {
  std::string out;
  std::size_t room = 512;
  for (const auto& vector : embedded.vectors) room += vector.size() * (base64 ? 6 : 12) + 64;
  out.reserve(room);                                 // once: a string that is asked again and again for a little more doubles
  JsonObject object(out);
  object.string("object", "list");
  object.key("data") += '[';
  for (std::size_t i = 0; i < embedded.vectors.size(); ++i) {
    if (i > 0) out += ',';
    JsonObject item(out);
    item.string("object", "embedding");
    item.integer("index", static_cast<std::int64_t>(i));
    item.key("embedding");
    if (base64) {
      out += '"' + base64_of(embedded.vectors[i]) + '"';
    } else {
      char separator = '[';
      for (const float x : embedded.vectors[i]) {
        out += separator;
        append_float(out, x);
        separator = ',';
      }
      out += ']';
    }
    item.close();
  }
  out += ']';
  object.string("model", embedded.receipt.model);
  append_usage(object.key("usage"), embedded.receipt);
  object.close();
  return out;
}

Result<gateway::TokenizeRequest> parse_tokenize(std::string_view body, const config::Plant::Limits& limits) {
  gateway::TokenizeRequest request;
  const auto value = read_body(body, request.model);
  if (!value) return value.error();
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  const auto prompt = fields.string("prompt");
  const JsonValue* messages = fields.array("messages");
  if (mistake) return *mistake;
  if (prompt.has_value() == (messages != nullptr)) {
    fields.fail("prompt", prompt ? "cannot be combined with 'messages'" : "is required, or 'messages'");
  } else if (prompt) {
    request.prompt = *prompt;
  } else {
    auto flat = read_messages(*messages, limits);
    if (!flat) return flat.error();
    gateway::GenerateRequest::Chat chat;
    chat.messages = std::move(*flat);
    if (const JsonValue* tools = fields.array("tools"); tools != nullptr && !tools->items.empty()) chat.tools = json_text(*tools);
    if (const JsonValue* kwargs = fields.object("chat_template_kwargs")) chat.template_kwargs = json_text(*kwargs);
    read_continuation(*value, mistake, chat);
    request.prompt = std::move(chat);
  }
  request.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  request.token_strings = fields.boolean("return_token_strs").value_or(false);
  if (mistake) return *mistake;
  return request;
}

std::string tokenize_json(const gateway::Tokenized& tokens) {
  std::string out;
  JsonObject object(out);
  object.integer("count", static_cast<std::int64_t>(tokens.tokens.size()));
  object.integer("max_model_len", tokens.context_tokens);
  std::string& list = object.key("tokens") += '[';
  for (std::size_t i = 0; i < tokens.tokens.size(); ++i) {
    if (i > 0) list += ',';
    append_integer(list, tokens.tokens[i]);
  }
  list += ']';
  std::string& strings = object.key("token_strs");
  if (tokens.token_strings.size() == tokens.tokens.size() && !tokens.tokens.empty()) {
    char separator = '[';
    for (const std::string& text : tokens.token_strings) {
      strings += separator;
      append_string(strings, text);
      separator = ',';
    }
    strings += ']';
  } else {
    strings += "null";
  }
  object.close();
  return out;
}

Result<gateway::DetokenizeRequest> parse_detokenize(std::string_view body) {
  gateway::DetokenizeRequest request;
  const auto value = read_body(body, request.model);
  if (!value) return value.error();
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  const JsonValue* tokens = fields.array("tokens");
  if (!mistake && tokens == nullptr) fields.fail("tokens", "is required: an array of token ids");
  if (mistake) return *mistake;
  auto ids = read_ids(*tokens);
  if (!ids) fields.fail("tokens", kNoId);
  if (mistake) return *mistake;
  request.tokens = std::move(*ids);
  return request;
}

}  // namespace tokenworks::http
