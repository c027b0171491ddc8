#pragma once
// What chat and completion requests have in common: sampling, stops, limits, formats, tags.
#include "openai.hpp"

namespace tokenworks::http {

// Reads every shared field of `body` into `parsed`; the first mistake stands in `mistake`.
void read_common(const JsonValue& body, const config::Plant::Limits& limits, std::optional<Error>& mistake, Parsed& parsed);
// Refuses fields that ask for something this server cannot do, instead of ignoring them silently. `prefix` of their names.
void refuse_unsupported(const JsonValue& body, std::initializer_list<std::string_view> names, std::optional<Error>& mistake,
                        const std::string& prefix = {});
// service_tier; user, safety_identifier and metadata.
void read_tier(Fields& fields, std::optional<Tier>& tier);
void read_tags(Fields& fields, std::optional<Error>& mistake, std::map<std::string, std::string>& tags);
// The body as an object, with `model` read.
Result<JsonValue> read_body(std::string_view body, std::string& named);
Result<JsonValue> read_body(std::string_view body, Parsed& parsed);

// Chat only: tools, tool_choice and parallel_tool_calls; `shown` is what the template gets of them.
void read_tools(const JsonValue& body, const config::Plant::Limits& limits, std::optional<Error>& mistake, gateway::ToolUse& use,
                JsonText& shown);
// Chat only: chat_template_kwargs and reasoning_effort, which is given on to the template with them.
void read_template_variables(const JsonValue& body, std::optional<Error>& mistake, gateway::GenerateRequest::Chat& chat);
// Chat only: add_generation_prompt and continue_final_message, vLLM's names for how the prompt ends. `chat` has its messages.
void read_continuation(const JsonValue& body, std::optional<Error>& mistake, gateway::GenerateRequest::Chat& chat);
// Chat only: checks the messages and gives them on with content flattened to strings and developer written as system.
Result<JsonText> read_messages(const JsonValue& messages, const config::Plant::Limits& limits);

}  // namespace tokenworks::http
