#include "openai_request.hpp"

namespace tokenworks::http {
namespace {

constexpr std::size_t kToolsMax = 128;               // OpenAI's bound

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

// Tools are given to the template, which shows them to the model. Forcing a call needs grammar masks: refused, not ignored.
void read_tools(Fields& fields, std::optional<Error>& mistake, gateway::GenerateRequest::Chat& chat) {
  const JsonValue* tools = fields.array("tools");
  if (tools != nullptr) {
    if (tools->items.size() > kToolsMax) return fields.fail("tools", "takes at most " + std::to_string(kToolsMax) + " tools");
    for (std::size_t i = 0; i < tools->items.size(); ++i) {
      const std::string prefix = "tools[" + std::to_string(i) + "].";
      Fields tool(tools->items[i], prefix, mistake);
      if (tool.string("type").value_or("") != "function") return tool.fail("type", "must be function");
      const JsonValue* function = tool.object("function");
      if (function == nullptr) return tool.fail("function", "is required");
      Fields inside(*function, prefix + "function.", mistake);
      const auto name = inside.string("name");
      if (!name || name->empty() || name->size() > 64) return inside.fail("name", "is required: 1 to 64 bytes");
      inside.string("description");
      inside.object("parameters");
    }
  }
  fields.boolean("parallel_tool_calls");
  bool shown = tools != nullptr && !tools->items.empty();
  if (const JsonValue* choice = fields.any("tool_choice")) {
    if (choice->is_object() || (choice->is_string() && choice->text == "required")) {
      return fields.fail("tool_choice", "may be auto or none: forced tool calls are not supported by this server yet", Errc::unsupported_parameter);
    }
    if (!choice->is_string() || (choice->text != "auto" && choice->text != "none")) {
      return fields.fail("tool_choice", "must be none, auto, required or an object that names a function");
    }
    if (choice->text == "auto" && tools == nullptr) return fields.fail("tool_choice", "is only allowed when 'tools' are given");
    shown = shown && choice->text == "auto";
  }
  if (shown) chat.tools = json_text(*tools);
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
  read_tools(fields, mistake, chat);
  read_modalities(fields);
  if (const JsonValue* kwargs = fields.object("chat_template_kwargs")) chat.template_kwargs = json_text(*kwargs);
  refuse_unsupported(*value, {"functions", "function_call", "audio", "web_search_options"}, mistake);
  read_common(*value, limits, mistake, parsed);
  if (mistake) return *mistake;
  parsed.request.prompts.emplace_back(std::move(chat));
  return parsed;
}

}  // namespace tokenworks::http
