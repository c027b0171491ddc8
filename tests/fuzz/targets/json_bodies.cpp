// Bodies of the API: every codec that reads one. What is accepted is JSON again wherever it travels on as text.
#include <nlohmann/json.hpp>
#include <string>

#include "fuzz/targets.hpp"
#include "http/openai.hpp"
#include "http/openai_texts.hpp"

namespace tokenworks::fuzz {
namespace {

template <class Parsed>
void refusal_is_whole(const Result<Parsed>& result) {
  if (result) return;
  must(!result.error().message.empty(), "a refusal says nothing");
}

void is_json(const JsonText& text) {
  if (text.empty()) return;
  must(nlohmann::json::accept(text.text), "what travels on as JSON is none");
}

void check(const gateway::GenerateRequest& request, const config::Plant::Limits& limits) {
  must(request.choices >= 1 && static_cast<std::int64_t>(request.choices) <= limits.choices, "n past its limit");
  must(static_cast<std::int64_t>(request.tools.tools.size()) <= limits.tools, "tools past their limit");
  must(!request.tools.named || *request.tools.named < request.tools.tools.size(), "a named tool that is none");
  for (const gateway::Tool& tool : request.tools.tools) is_json(tool.parameters);
  is_json(request.format.schema);
  for (const auto& prompt : request.prompts) {
    if (const auto* chat = std::get_if<gateway::GenerateRequest::Chat>(&prompt)) {
      is_json(chat->messages);
      is_json(chat->tools);
      is_json(chat->template_kwargs);
    }
  }
}

}  // namespace

void json_bodies(std::string_view input) {
  const config::Plant::Limits limits;
  const auto chat = http::parse_chat(input, limits);
  const auto completion = http::parse_completion(input, limits);
  refusal_is_whole(chat);
  refusal_is_whole(completion);
  if (chat) check(chat->request, limits);
  if (completion) check(completion->request, limits);
  refusal_is_whole(http::parse_embedding(input, limits));
  refusal_is_whole(http::parse_tokenize(input, limits));
  refusal_is_whole(http::parse_detokenize(input));
}

}  // namespace tokenworks::fuzz
