#pragma once
// OpenAI's codec: bodies of /v1/chat/completions and /v1/completions become GenerateRequests, answers become OpenAI's
// JSON. Shapes from openai-openapi (2026-08-21) and, where that is silent, notes of the ecosystem's clients. Unknown
// fields are ignored, illegal ones get a 400 that names the parameter. Pure functions, any thread.
#include <memory>
#include <string>
#include <string_view>

#include "answer.hpp"
#include "json_in.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/types.hpp"

namespace tokenworks::http {

struct StreamOptions {
  bool include_usage = false, logprobs = false;
  bool continuous_usage = false;                     // chunks carry the usage that is committed by then (vLLM)
  bool obfuscation = false;                          // deltas are padded, so that their sizes say less about the text
};

struct Parsed {
  gateway::GenerateRequest request;
  bool stream = false;
  StreamOptions options;
};

Result<Parsed> parse_chat(std::string_view body, const config::Plant::Limits& limits);
Result<Parsed> parse_completion(std::string_view body, const config::Plant::Limits& limits);

enum class OpenAiForm : std::uint8_t { chat, completion };
std::unique_ptr<StreamEncoder> openai_stream(OpenAiForm form, const StreamOptions& options);
std::unique_ptr<WholeEncoder> openai_whole(OpenAiForm form, bool logprobs);

// "chatcmpl-" or "cmpl-" and the request id's hex digits.
std::string answer_id(OpenAiForm form, const RequestId& id);
// OpenAI's word for the tier an answer was served in.
const char* service_tier_name(Tier tier);
// The usage object with cost, cost_details and tokenworks (INTERFACE "HTTP").
void append_usage(std::string& out, const gateway::Receipt& receipt);

}  // namespace tokenworks::http
