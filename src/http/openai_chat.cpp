#include "openai_request.hpp"

namespace tokenworks::http {
namespace {

void read_max_tokens(Fields& fields, gateway::GenerateRequest& request) {
  const auto older = fields.integer("max_tokens", 1, INT64_MAX);
  const auto newer = fields.integer("max_completion_tokens", 1, INT64_MAX);
  if (newer || older) request.max_tokens = newer ? *newer : *older;
}

void read_logprobs(Fields& fields, const config::Plant::Limits& limits, gateway::GenerateRequest& request) {
  const bool wanted = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, limits.top_logprobs);
  if (top && *top > 0 && !wanted) return fields.fail("top_logprobs", "is only allowed when 'logprobs' is true");
  request.logprobs = wanted;
  if (wanted) request.sampling.top_logprobs = static_cast<std::int32_t>(top.value_or(0));
}

void read_modalities(Fields& fields) {
  const JsonValue* modalities = fields.array("modalities");
  if (modalities == nullptr) return;
  for (const JsonValue& item : modalities->items) {
    if (!item.is_string()) return fields.fail("modalities", "must be an array of strings");
    if (item.text != "text") return fields.fail("modalities", "may hold text only: the model writes text", Errc::unsupported_parameter);
  }
}

}  // namespace

Result<Parsed> parse_chat(std::string_view body, const config::Plant::Limits& limits) {
  Parsed parsed;
  const auto value = read_body(body, parsed);
  if (!value) return value.error();
  std::optional<Error> mistake;
  Fields fields(*value, "", mistake);
  const JsonValue* messages = fields.array("messages");
  if (!mistake && messages == nullptr) fields.fail("messages", "is required: an array of messages");
  if (mistake) return *mistake;
  gateway::GenerateRequest::Chat chat;
  auto flat = read_messages(*messages, limits);
  if (!flat) return flat.error();
  chat.messages = std::move(*flat);
  read_max_tokens(fields, parsed.request);
  read_logprobs(fields, limits, parsed.request);
  read_tools(*value, limits, mistake, parsed.request.tools, chat.tools);
  read_modalities(fields);
  read_template_variables(*value, mistake, chat);
  read_continuation(*value, mistake, chat);
  if (!mistake && chat.continues && parsed.request.tools.forced()) {
    fields.fail("continue_final_message", "cannot be combined with a forced call: the call would stand within the message");
  }
  refuse_unsupported(*value, {"audio", "web_search_options"}, mistake);
  read_common(*value, limits, mistake, parsed);
  if (mistake) return *mistake;
  parsed.request.prompts.emplace_back(std::move(chat));
  return parsed;
}

}  // namespace tokenworks::http
