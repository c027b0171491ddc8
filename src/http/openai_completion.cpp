#include "openai_request.hpp"

namespace tokenworks::http {
namespace {

constexpr std::size_t kSequencesMax = 128;           // prompts * n of one request
constexpr std::int64_t kDefaultTokens = 16;          // OpenAI's default of this endpoint
constexpr std::int64_t kLogprobsMax = 5, kBestOfMax = 20;

bool all(const JsonValue& array, JsonValue::Kind kind) {
  for (const JsonValue& item : array.items) {
    if (item.kind != kind) return false;
  }
  return true;
}

std::vector<TokenId> read_ids(const JsonValue& array, Fields& fields) {
  std::vector<TokenId> ids;
  ids.reserve(array.items.size());
  for (const JsonValue& item : array.items) {
    const auto id = item.integer();
    if (!id || *id < 0 || *id > INT32_MAX) {
      fields.fail("prompt", "holds something that is not a token id (a whole number from 0)");
      return {};
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  if (ids.empty()) fields.fail("prompt", "must not hold an empty list of token ids");
  return ids;
}

// A string, an array of strings, an array of token ids, or an array of such arrays.
void read_prompt(Fields& fields, std::vector<gateway::GenerateRequest::Prompt>& prompts) {
  const JsonValue* prompt = fields.any("prompt");
  if (prompt == nullptr) return fields.fail("prompt", "is required");
  if (prompt->is_string()) {
    prompts.emplace_back(prompt->text);
    return;
  }
  if (!prompt->is_array() || prompt->items.empty()) {
    return fields.fail("prompt", "must be a string, token ids, or an array of either, and not empty");
  }
  if (all(*prompt, JsonValue::Kind::number)) {
    prompts.emplace_back(read_ids(*prompt, fields));
    return;
  }
  if (prompt->items.size() > kSequencesMax) return fields.fail("prompt", "takes at most " + std::to_string(kSequencesMax) + " prompts");
  const bool strings = all(*prompt, JsonValue::Kind::string);
  if (!strings && !all(*prompt, JsonValue::Kind::array)) return fields.fail("prompt", "must not mix strings and token ids");
  for (const JsonValue& item : prompt->items) {
    if (strings) {
      prompts.emplace_back(item.text);
    } else {
      prompts.emplace_back(read_ids(item, fields));
    }
  }
}

}  // namespace

Result<Parsed> parse_completion(std::string_view body, const config::Plant::Limits& limits) {
  Parsed parsed;
  const auto value = read_body(body, parsed);
  if (!value) return value.error();
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  gateway::GenerateRequest& request = parsed.request;
  read_prompt(fields, request.prompts);
  request.max_tokens = fields.integer("max_tokens", 0, INT64_MAX).value_or(kDefaultTokens);
  request.echo = fields.boolean("echo").value_or(false);
  if (const auto top = fields.integer("logprobs", 0, std::min(kLogprobsMax, limits.top_logprobs))) {
    request.logprobs = true;
    request.sampling.top_logprobs = static_cast<std::int32_t>(*top);
  }
  request.suffix = fields.string("suffix");
  if (request.suffix && request.suffix->empty()) request.suffix.reset();
  if (request.suffix && request.echo) fields.fail("suffix", "cannot be combined with 'echo'");
  read_common(*value, limits, mistake, parsed);
  if (const auto best_of = fields.integer("best_of", 0, std::min(kBestOfMax, limits.choices)); best_of && *best_of > 0) {
    request.best_of = static_cast<std::uint32_t>(*best_of);
    if (request.best_of < request.choices) fields.fail("best_of", "must not be less than 'n': 'n' of so many answers are given");
    if (request.best_of > request.choices && parsed.stream) fields.fail("best_of", "above 'n' cannot be streamed: which answers are the best is known at their end");
  }
  if (request.prompts.size() * request.made() > kSequencesMax) {
    fields.fail(request.best_of > request.choices ? "best_of" : "n", "times the number of prompts must not exceed " + std::to_string(kSequencesMax));
  }
  if (mistake) return *mistake;
  return parsed;
}

}  // namespace tokenworks::http
