#pragma once
// From a request's prompts to token ids: chat template, BOS, bounds. Pure; called on the IO thread for short prompts and on
// a worker for long ones.
#include <cstdint>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/gateway/plant.hpp"
#include "tokenworks/gateway/types.hpp"
#include "tool_prompt.hpp"

namespace tokenworks::gateway {

inline constexpr std::size_t kInlinePromptBytes = 16 << 10;   // longer texts are encoded on a worker

std::size_t prompt_bytes(const GenerateRequest& request);

// One list of ids per prompt, each shorter than the context. Errors name the parameter: invalid_request (template, ids,
// empty prompt), context_length_exceeded.
// `begin` learns how the answer to a chat begins.
Result<std::vector<std::vector<TokenId>>> encode_prompts(const GenerateRequest& request, const ServedModel& model,
                                                         std::int64_t unix_seconds, AnswerBegin& begin);

}  // namespace tokenworks::gateway
