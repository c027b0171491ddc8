#include "tool_grammar.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tokenworks::gateway {

using Json = nlohmann::ordered_json;

bool calls_are_constrained(const ToolUse& tools) {
  if (tools.choice == ToolUse::Choice::none) return false;
  return tools.forced() || std::any_of(tools.tools.begin(), tools.tools.end(), [](const Tool& t) { return t.strict || !t.callable; });
}

std::string calls_source(const ToolUse& tools, const AnswerStyle& style, Marker marker, const OutputFormat* instead) {
  Json source = Json::object();
  const bool tagged = style.calls == CallForm::generic || style.calls == CallForm::hermes;
  const bool free = marker == Marker::written && !tools.forced();
  // Between two tagged calls stand both tags: a vocabulary in which they are control tokens has no bytes for them.
  const bool several = tools.parallel && !tools.named && style.calls != CallForm::llama && !(tagged && style.marker_control);
  source["free"] = free;
  if (free) source["marker"] = style.calls == CallForm::llama ? "" : style.marker;
  if (instead != nullptr) {
    source["instead"] = instead->kind == OutputFormat::Kind::json_schema ? Json::parse(instead->schema.text, nullptr, false)
                                                                         : Json{{"type", "object"}};
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
    call["param"] = "tools[" + std::to_string(i) + "].function.parameters";
    calls.push_back(std::move(call));
  }
  source["calls"] = std::move(calls);
  return source.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tokenworks::gateway
