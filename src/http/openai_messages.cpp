#include <algorithm>

#include "json_out.hpp"
#include "openai_request.hpp"

namespace tokenworks::http {
namespace {

constexpr std::string_view kRoles[] = {"developer", "system", "user", "assistant", "tool"};

std::string at(const char* name, std::size_t index) { return std::string(name) + "[" + std::to_string(index) + "]"; }

// Text of a content that may be a string or an array of parts; parts are joined by a newline, as vLLM does for templates
// that expect a string.
std::string flatten(const JsonValue& content, const std::string& where, std::int64_t parts_max, std::optional<Error>& mistake) {
  if (content.is_string()) return content.text;
  const auto fail = [&](const std::string& param, const std::string& why) {
    if (!mistake) mistake = error(Errc::invalid_request, "'" + param + "' " + why, param);
  };
  if (!content.is_array()) {
    fail(where, "must be a string or an array of content parts");
    return {};
  }
  if (static_cast<std::int64_t>(content.items.size()) > parts_max) {
    fail(where, "takes at most " + std::to_string(parts_max) + " content parts");
    return {};
  }
  std::string text;
  for (std::size_t i = 0; i < content.items.size() && !mistake; ++i) {
    const std::string param = where + "[" + std::to_string(i) + "]";
    const JsonValue& part = content.items[i];
    const JsonValue* type = part.is_object() ? part.find("type") : nullptr;
    if (type == nullptr || !type->is_string()) {
      fail(param, "must be an object with a 'type'");
      break;
    }
    if (type->text != "text" && type->text != "refusal") {
      fail(param, type->text.starts_with("image") ? "is an image, and the model is not able to see images: send text parts only"
                                                  : "is of a type the model cannot read: send text parts only");
      break;
    }
    const JsonValue* piece = part.find(type->text);
    if (piece == nullptr || !piece->is_string()) {
      fail(param + "." + type->text, "must be a string");
      break;
    }
    if (i > 0) text += '\n';
    text += piece->text;
  }
  return text;
}

// [{"id","type":"function","function":{"name","arguments"}}]; arguments that are a JSON object are passed on as that
// object, which is what the models' own templates print.
std::string tool_calls(const JsonValue& calls, const std::string& where, std::optional<Error>& mistake) {
  std::string out = "[";
  for (std::size_t i = 0; i < calls.items.size() && !mistake; ++i) {
    const std::string prefix = where + "[" + std::to_string(i) + "].";
    Fields call(calls.items[i], prefix, mistake);
    const auto id = call.string("id");
    if (!id) call.fail("id", "is required");
    const auto type = call.string("type");
    if (type && *type != "function") call.fail("type", "must be function");
    const JsonValue* function = call.object("function");
    if (function == nullptr) {
      call.fail("function", "is required");
      break;
    }
    Fields inside(*function, prefix + "function.", mistake);
    const auto name = inside.string("name");
    if (!name || name->empty()) inside.fail("name", "is required");
    const auto arguments = inside.string("arguments");
    if (!arguments) inside.fail("arguments", "is required: a string");
    if (mistake) break;
    const auto parsed = parse_json(*arguments);
    if (i > 0) out += ',';
    JsonObject object(out);
    object.string("id", *id);
    object.string("type", "function");
    JsonObject made(object.key("function"));
    made.string("name", *name);
    if (parsed && parsed->is_object()) {
      append_json(made.key("arguments"), *parsed);
    } else {
      made.string("arguments", *arguments);
    }
    made.close();
    object.close();
  }
  return out + "]";
}

void read_message(const JsonValue& message, const std::string& where, const config::Plant::Limits& limits, std::optional<Error>& mistake,
                  std::string& out) {
  if (!message.is_object()) {
    mistake = error(Errc::invalid_request, "'" + where + "' must be an object", where);
    return;
  }
  Fields fields(message, where + ".", mistake);
  const auto role = fields.string("role");
  if (!role || std::find(std::begin(kRoles), std::end(kRoles), *role) == std::end(kRoles)) {
    return fields.fail("role", "must be one of developer, system, user, assistant, tool");
  }
  JsonObject object(out);
  // Templates know no developer; it is the newer name of the same role.
  object.string("role", *role == "developer" ? "system" : *role);
  const JsonValue* content = fields.any("content");
  const JsonValue* calls = *role == "assistant" ? fields.array("tool_calls") : nullptr;
  if (content != nullptr) {
    object.string("content", flatten(*content, where + ".content", limits.content_parts, mistake));
  } else if (*role == "assistant") {
    // Null beside tool_calls or a refusal, and where a client keeps an answer that was cut before its first word.
    const auto refusal = fields.string("refusal");
    const bool null = std::any_of(message.members.begin(), message.members.end(), [](const JsonMember& member) { return member.name == "content"; });
    if (calls == nullptr && !refusal && !null) fields.fail("content", "is required unless the message has tool_calls");
    object.string("content", refusal.value_or(""));
  } else {
    fields.fail("content", "is required");
  }
  if (const auto name = fields.string("name")) object.string("name", *name);
  if (calls != nullptr && static_cast<std::int64_t>(calls->items.size()) > limits.tools) {
    return fields.fail("tool_calls", "takes at most " + std::to_string(limits.tools) + " calls");
  }
  if (calls != nullptr && !calls->items.empty()) object.raw("tool_calls", tool_calls(*calls, where + ".tool_calls", mistake));
  if (*role == "tool") {
    const auto id = fields.string("tool_call_id");
    if (!id) return fields.fail("tool_call_id", "is required in a message of role tool");
    object.string("tool_call_id", *id);
  }
  if (const auto reasoning = *role == "assistant" ? fields.string("reasoning_content") : std::nullopt) {
    object.string("reasoning_content", *reasoning);
  }
  object.close();
}

}  // namespace

Result<JsonText> read_messages(const JsonValue& messages, const config::Plant::Limits& limits) {
  if (messages.items.empty()) return error(Errc::invalid_request, "'messages' must hold at least one message", "messages");
  if (static_cast<std::int64_t>(messages.items.size()) > limits.messages) {
    return error(Errc::invalid_request, "'messages' takes at most " + std::to_string(limits.messages) + " messages", "messages");
  }
  JsonText out{"["};
  std::optional<Error> mistake;
  for (std::size_t i = 0; i < messages.items.size(); ++i) {
    if (i > 0) out.text += ',';
    read_message(messages.items[i], at("messages", i), limits, mistake, out.text);
    if (mistake) return *mistake;
  }
  out.text += ']';
  return out;
}

void read_continuation(const JsonValue& body, std::optional<Error>& mistake, gateway::GenerateRequest::Chat& chat) {
  Fields fields(body, "", mistake);
  const auto opens = fields.boolean("add_generation_prompt");
  const bool continues = fields.boolean("continue_final_message").value_or(false);
  chat.opens_answer = opens.value_or(!continues);
  if (!continues || mistake) return;
  if (chat.opens_answer) {
    return fields.fail("continue_final_message", "cannot be combined with 'add_generation_prompt': one message is continued, or another opened");
  }
  const auto messages = parse_json(chat.messages.text);
  const JsonValue* last = messages && !messages->items.empty() ? &messages->items.back() : nullptr;
  const JsonValue* role = last == nullptr ? nullptr : last->find("role");
  const JsonValue* content = last == nullptr ? nullptr : last->find("content");
  const bool says = content != nullptr && content->is_string() && content->text.find_first_not_of(" \t\r\n") != std::string::npos;
  if (role == nullptr || role->text != "assistant" || !says || last->find("tool_calls") != nullptr) {
    return fields.fail("continue_final_message", "needs a last message of the assistant that has text and no calls");
  }
  chat.continues = content->text;
}

}  // namespace tokenworks::http
