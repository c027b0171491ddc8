#include "tool_prompt.hpp"

#include <nlohmann/json.hpp>

namespace tokenworks::gateway {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json message_of(const std::string& role, const std::string& text) {
  Json message = Json::object();
  message["role"] = role;
  message["content"] = text;
  return message;
}

std::string instructions(const JsonText& shown, const ToolUse& tools) {
  std::string text = "You can call these functions:\n<tools>\n";
  const Json list = Json::parse(shown.text, nullptr, false);
  for (const Json& tool : list) {
    const auto function = tool.find("function");
    text += dump(function == tool.end() ? tool : *function) + "\n";
  }
  text += "</tools>\nTo call a function, write its name and its arguments as JSON between tags, and nothing after them:\n"
          "<tool_call>\n{\"name\": \"function name\", \"arguments\": {\"argument\": \"value\"}}\n</tool_call>\n";
  if (tools.named) return text + "Call the function " + tools.tools[*tools.named].name + " now.";
  if (tools.forced()) return text + "Call one of the functions now.";
  text += "The results come between <tool_response> and </tool_response>. Without a need for a function, answer in plain text.";
  return tools.parallel ? text : text + " Call at most one function at a time.";
}

// Content with the message's calls written behind it.
std::string with_calls(const Json& message) {
  std::string text;
  if (const auto content = message.find("content"); content != message.end() && content->is_string()) text = content->get<std::string>();
  for (const Json& call : message.at("tool_calls")) {
    const auto function = call.find("function");
    if (function == call.end()) continue;
    Json written = Json::object();
    written["name"] = function->value("name", "");
    written["arguments"] = function->contains("arguments") ? (*function)["arguments"] : Json::object();
    if (!text.empty()) text += '\n';
    text += "<tool_call>\n" + dump(written) + "\n</tool_call>";
  }
  return text;
}

}  // namespace

JsonText generic_messages(const JsonText& messages, const JsonText& shown, const ToolUse& tools, bool in_user) {
  // Nothing is shown, called or answered: the role and the key of calls are written with these letters.
  if (shown.empty() && messages.text.find("tool") == std::string::npos) return messages;
  const Json list = Json::parse(messages.text, nullptr, false);
  if (!list.is_array()) return messages;
  Json out = Json::array();
  bool results = false;                              // the last message of `out` holds results of calls
  for (const Json& message : list) {
    const std::string role = message.value("role", "");
    const bool calls = role == "assistant" && message.contains("tool_calls");
    if (role == "tool") {
      const std::string text = "<tool_response>\n" + message.value("content", "") + "\n</tool_response>";
      if (results) {
        out.back()["content"] = out.back()["content"].get<std::string>() + "\n" + text;
      } else {
        out.push_back(message_of("user", text));
      }
    } else {
      out.push_back(message);
      if (calls) {
        out.back()["content"] = with_calls(message);
        out.back().erase("tool_calls");
      }
    }
    results = role == "tool";
  }
  if (!shown.empty()) {
    const std::string text = instructions(shown, tools), role = in_user ? "user" : "system";
    const auto first = std::find_if(out.begin(), out.end(), [&](const Json& m) { return m.value("role", "") == role; });
    const bool leads = first != out.end() && (in_user || first == out.begin());
    if (leads) {
      const std::string own = first->value("content", "");
      (*first)["content"] = in_user ? text + "\n\n" + own : own + "\n\n" + text;
    } else {
      out.insert(out.begin(), message_of(role, text));
    }
  }
  return {dump(out)};
}

JsonText template_variables(const JsonText& client, bool no_thinking) {
  if (!no_thinking) return client;
  Json variables = client.empty() ? Json::object() : Json::parse(client.text, nullptr, false);
  if (!variables.is_object()) return client;
  if (!variables.contains("enable_thinking")) variables["enable_thinking"] = false;
  return {dump(variables)};
}

// Templates may trim a message, and those of reasoning models leave out what was thought before it.
bool cut_behind(std::vector<tokenizer::Tokenizer::Part>& parts, std::string_view message) {
  const auto trimmed = [](std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    return first == std::string_view::npos ? std::string_view() : text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
  };
  while (!parts.empty() && parts.back().trusted) parts.pop_back();
  if (parts.empty()) return false;
  const std::string_view shown = trimmed(parts.back().text), said = trimmed(message);
  return !shown.empty() && (shown.ends_with(said) || said.ends_with(shown));
}

AnswerBegin end_prompt(std::vector<tokenizer::Tokenizer::Part>& parts, const AnswerStyle& style, const GenerateRequest& request,
                       bool no_reasoning, bool constrained) {
  AnswerBegin begin;
  std::string tail;                                  // of what the template wrote
  for (auto part = parts.rbegin(); part != parts.rend() && part->trusted && tail.size() < 256; ++part) tail = part->text + tail;
  tail.erase(tail.find_last_not_of(" \t\r\n") + 1);
  begin.thinking = !style.think_open.empty() && tail.ends_with(style.think_open);
  const bool forced = request.tools.forced();
  std::string added;
  if (begin.thinking && (forced || no_reasoning || (constrained && !style.think_close_token))) {
    added = style.think_close + "\n\n";
    begin.thinking = false;
  }
  if (forced && style.calls != CallForm::llama) {
    const bool bare = style.calls == CallForm::mistral || style.calls == CallForm::mistral_args;
    added += bare ? style.marker : style.marker + "\n";
    begin.calling = true;
  }
  if (!added.empty()) parts.push_back({std::move(added), true});
  return begin;
}

}  // namespace tokenworks::gateway
