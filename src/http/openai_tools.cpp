// The parts of a chat request that decide how an answer may be more than text: tools and which of them may be called, and
// what the template is told about reasoning.
#include <algorithm>

#include "json_out.hpp"
#include "openai_request.hpp"

namespace tokenworks::http {
namespace {

using Choice = gateway::ToolUse::Choice;

constexpr std::size_t kNameMax = 64;

bool good_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:/") == std::string_view::npos;
}

std::optional<std::size_t> find_tool(const gateway::ToolUse& use, std::string_view name) {
  const auto found = std::find_if(use.tools.begin(), use.tools.end(), [&](const gateway::Tool& t) { return t.name == name; });
  if (found == use.tools.end()) return std::nullopt;
  return static_cast<std::size_t>(found - use.tools.begin());
}

void read_tool(const JsonValue& value, const std::string& prefix, std::int64_t& room, std::optional<Error>& mistake, gateway::ToolUse& use) {
  if (!value.is_object()) {
    const std::string where = prefix.substr(0, prefix.size() - 1);
    mistake = error(Errc::invalid_request, "'" + where + "' must be an object", where);
    return;
  }
  Fields tool(value, prefix, mistake);
  const std::string type = tool.string("type").value_or("");
  if (type == "custom") return tool.fail("type", "may be function only: tools with free input are not supported", Errc::unsupported_parameter);
  if (type != "function") return tool.fail("type", "must be function");
  const JsonValue* function = tool.object("function");
  if (function == nullptr) return tool.fail("function", "is required");
  Fields inside(*function, prefix + "function.", mistake);
  gateway::Tool made;
  made.name = inside.string("name").value_or("");
  if (!good_name(made.name)) return inside.fail("name", "is required: 1 to 64 of a-z, A-Z, 0-9, _ - . : and /");
  if (find_tool(use, made.name)) return inside.fail("name", "is the name of an earlier tool");
  made.description = inside.string("description").value_or("");
  made.strict = inside.boolean("strict").value_or(false);
  if (const JsonValue* parameters = inside.object("parameters")) made.parameters = json_text(*parameters);
  room -= static_cast<std::int64_t>(made.parameters.text.size());
  if (room < 0) return inside.fail("parameters", "is too long: the schemas of all tools together exceed limits.schema_bytes");
  use.tools.push_back(std::move(made));
}

// {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required", "tools": [{"type", "function": {"name"}}]}}
void read_allowed(const JsonValue& choice, std::optional<Error>& mistake, gateway::ToolUse& use) {
  Fields outer(choice, "tool_choice.", mistake);
  const JsonValue* allowed = outer.object("allowed_tools");
  if (allowed == nullptr) return outer.fail("allowed_tools", "is required with type allowed_tools");
  Fields fields(*allowed, "tool_choice.allowed_tools.", mistake);
  const auto mode = fields.string("mode");
  if (!mode || (*mode != "auto" && *mode != "required")) return fields.fail("mode", "is required: auto or required");
  const JsonValue* tools = fields.array("tools");
  if (tools == nullptr || tools->items.empty()) return fields.fail("tools", "is required: an array that is not empty");
  std::vector<bool> kept(use.tools.size(), false);
  for (const JsonValue& item : tools->items) {
    const JsonValue* function = item.is_object() ? item.find("function") : nullptr;
    const JsonValue* name = function != nullptr && function->is_object() ? function->find("name") : nullptr;
    const auto index = name != nullptr && name->is_string() ? find_tool(use, name->text) : std::nullopt;
    if (!index) return fields.fail("tools", "must name functions that are among 'tools'");
    kept[*index] = true;
  }
  for (std::size_t i = use.tools.size(); i-- > 0;) use.tools[i].callable = kept[i];
  use.choice = *mode == "auto" ? Choice::automatic : Choice::required;
}

void read_choice(const JsonValue& choice, Fields& fields, std::optional<Error>& mistake, gateway::ToolUse& use) {
  if (choice.is_string() && choice.text == "none") {
    use.choice = Choice::none;
    return;
  }
  const std::string what = "must be none, auto, required or an object that names a function";
  if (!choice.is_object() && (!choice.is_string() || (choice.text != "auto" && choice.text != "required"))) return fields.fail("tool_choice", what);
  if (use.tools.empty()) return fields.fail("tool_choice", "is only allowed when 'tools' are given");
  if (choice.is_string()) {
    use.choice = choice.text == "auto" ? Choice::automatic : Choice::required;
    return;
  }
  Fields inside(choice, "tool_choice.", mistake);
  const std::string type = inside.string("type").value_or("");
  if (type == "allowed_tools") return read_allowed(choice, mistake, use);
  if (type != "function") return inside.fail("type", "must be function or allowed_tools");
  const JsonValue* function = inside.object("function");
  if (function == nullptr) return inside.fail("function", "is required");
  Fields named(*function, "tool_choice.function.", mistake);
  const auto name = named.string("name");
  if (!name) return named.fail("name", "is required");
  use.named = find_tool(use, *name);
  if (!use.named) return named.fail("name", "is not the name of one of the 'tools'");
  use.choice = Choice::required;
}

}  // namespace

void read_tools(const JsonValue& body, const config::Plant::Limits& limits, std::optional<Error>& mistake, gateway::ToolUse& use,
                JsonText& shown) {
  Fields fields(body, "", mistake);
  for (const char* name : {"functions", "function_call"}) {
    const JsonValue* older = fields.any(name);
    if (older == nullptr || (older->is_array() && older->items.empty()) || (older->is_string() && older->text == "none")) continue;
    return fields.fail(name, "is the older form of tools and not supported: send 'tools' and 'tool_choice'", Errc::unsupported_parameter);
  }
  const JsonValue* tools = fields.array("tools");
  if (tools != nullptr && static_cast<std::int64_t>(tools->items.size()) > limits.tools) {
    return fields.fail("tools", "takes at most " + std::to_string(limits.tools) + " tools");
  }
  std::int64_t room = limits.schema_bytes;
  for (std::size_t i = 0; tools != nullptr && i < tools->items.size() && !mistake; ++i) {
    read_tool(tools->items[i], "tools[" + std::to_string(i) + "].", room, mistake, use);
  }
  use.parallel = fields.boolean("parallel_tool_calls").value_or(true);
  use.choice = use.tools.empty() ? Choice::none : Choice::automatic;
  const JsonValue* choice = fields.any("tool_choice");
  // With an empty list of tools `auto` asks for nothing; several clients send both.
  const bool moot = tools != nullptr && tools->items.empty() && choice != nullptr && choice->is_string() && choice->text == "auto";
  if (choice != nullptr && !moot) read_choice(*choice, fields, mistake, use);
  if (!mistake && use.choice != Choice::none) shown = json_text(*tools);
}

void read_template_variables(const JsonValue& body, std::optional<Error>& mistake, gateway::GenerateRequest::Chat& chat) {
  Fields fields(body, "", mistake);
  const JsonValue* given = fields.object("chat_template_kwargs");
  const auto effort = fields.string("reasoning_effort");
  if (effort) {
    constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    if (std::find(std::begin(kEfforts), std::end(kEfforts), *effort) == std::end(kEfforts)) {
      return fields.fail("reasoning_effort", "must be none, minimal, low, medium, high, xhigh or max");
    }
    chat.no_reasoning = *effort == "none";
  }
  if (mistake || (given == nullptr && !effort)) return;
  JsonValue variables;
  variables.kind = JsonValue::Kind::object;
  if (given != nullptr) variables = *given;
  if (effort && variables.find("reasoning_effort") == nullptr) {
    JsonValue value;
    value.kind = JsonValue::Kind::string;
    value.text = *effort;
    variables.members.emplace_back("reasoning_effort", std::move(value));
  }
  chat.template_kwargs = json_text(variables);
}

}  // namespace tokenworks::http
