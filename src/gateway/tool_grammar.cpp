#include "tool_grammar.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tokenworks::gateway {

using Json = nlohmann::ordered_json;

namespace {

bool is_text(const Json& schema) {
  if (!schema.is_object()) return false;
  const auto is = [](const std::string& key, std::initializer_list<std::string_view> list) { return std::find(list.begin(), list.end(), key) != list.end(); };
  bool listed = false, shaped = false, type = false;
  for (const auto& [key, value] : schema.items()) {
    if (key == "type") {
      if (value != "string") return false;
      type = true;
    } else if (key == "enum" || key == "const") {
      const Json values = key == "enum" ? value : Json::array({value});
      if (listed || !values.is_array() || values.empty() || !std::all_of(values.begin(), values.end(), [](const Json& v) { return v.is_string(); })) return false;
      listed = true;
    } else if (is(key, {"pattern", "format", "minLength", "maxLength"})) {
      shaped = true;
    } else if (!is(key, {"title", "description", "default", "examples", "$comment"})) {
      return false;
    }
  }
  return listed ? !shaped : type;
}

}  // namespace

std::set<std::string> text_parameters(const Tool& tool) {
  std::set<std::string> names;
  const Json schema = tool.parameters.empty() ? Json() : Json::parse(tool.parameters.text, nullptr, false);
  const auto properties = schema.is_object() ? schema.find("properties") : schema.end();
  if (!schema.is_object() || properties == schema.end() || !properties->is_object()) return names;
  for (const auto& [name, one] : properties->items()) {
    if (is_text(one)) names.insert(name);
  }
  return names;
}

bool calls_are_constrained(const ToolUse& tools) {
  if (tools.choice == ToolUse::Choice::none) return false;
  return tools.forced() || std::any_of(tools.tools.begin(), tools.tools.end(), [](const Tool& t) { return t.strict || !t.callable; });
}

std::string calls_source(const ToolUse& tools, const AnswerStyle& style, Marker marker, const OutputFormat* instead) {
  Json source = Json::object();
  const bool in_tags = style.calls == CallForm::parameters;
  const bool tagged = style.calls == CallForm::generic || style.calls == CallForm::hermes || in_tags;
  const bool free = marker == Marker::written && !tools.forced();
  // Between two tagged calls stand both tags: a vocabulary in which they are control tokens has no bytes for them.
  const bool several = tools.parallel && !tools.named && style.calls != CallForm::llama && !(tagged && style.marker_control);
  source["free"] = free;
  if (free) source["marker"] = style.calls == CallForm::llama ? "" : style.marker;
  if (instead != nullptr) {
    source["instead"] = instead->kind == OutputFormat::Kind::json_schema ? Json::parse(instead->schema.text, nullptr, false)
                                                                         : Json{{"type", "object"}};
    source["instead_param"] = instead->param.empty() ? "response_format" : instead->param;
  }
  source["several"] = several;
  if (tagged) {
    source["begin"] = marker == Marker::in_prompt ? "" : "\n";
    source["separator"] = "\n</tool_call>\n<tool_call>\n";
    source["end"] = style.marker_control ? "\n" : "\n</tool_call>";
  } else if (style.calls == CallForm::mistral) {
    source["begin"] = "[";
    source["separator"] = ", ";
    source["end"] = "]";
  } else if (style.calls == CallForm::mistral_args) {
    source["separator"] = style.marker;
  }
  if (!style.frame_controls.empty()) source["controls"] = style.frame_controls;
  Json calls = Json::array();
  for (std::size_t i = 0; i < tools.tools.size(); ++i) {
    const Tool& tool = tools.tools[i];
    if (!tool.callable || (tools.named && *tools.named != i)) continue;
    const bool held = tools.forced() || tool.strict;
    Json call = Json::object();
    const char* arguments = style.calls == CallForm::llama ? ", \"parameters\":" : ", \"arguments\":";
    const bool named = style.calls == CallForm::mistral_args;
    call["begin"] = named ? tool.name + "[ARGS]" : "{\"name\": " + Json(tool.name).dump() + arguments;
    if (!held) {
      call["parameters"] = Json{{"type", "object"}};
    } else if (!tool.parameters.empty()) {
      call["parameters"] = Json::parse(tool.parameters.text, nullptr, false);
    }
    call["end"] = named ? "" : "}";
    if (in_tags) {
      call["begin"] = "<function=" + tool.name + ">\n";
      call["end"] = "</function>";
      call["in_tags"] = true;
      call["open"] = !held;
      call["texts"] = text_parameters(tool);
    }
    call["param"] = "tools[" + std::to_string(i) + "].function.parameters";
    calls.push_back(std::move(call));
  }
  source["calls"] = std::move(calls);
  return source.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tokenworks::gateway
