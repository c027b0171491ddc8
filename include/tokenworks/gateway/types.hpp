#pragma once
// What a codec makes of a client's JSON: plain C++ types, in the words of the plant. A codec has checked types and ranges;
// everything that needs a tenant, a model or a tokenizer is checked by the gateway.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenworks/backend/sampling.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/json_text.hpp"
#include "tokenworks/base/money.hpp"
#include "tokenworks/base/ticket.hpp"
#include "tokenworks/base/usage.hpp"
#include "tokenworks/gateway/tools.hpp"

namespace tokenworks::gateway {

// How the answer must look: compiled by src/grammar to token masks.
struct OutputFormat {
  enum class Kind : std::uint8_t { text, json_object, json_schema, regex, choice, grammar } kind = Kind::text;
  JsonText schema;                                   // json_schema; choice: an array of strings
  std::string pattern;                               // regex, grammar
  std::string param;                                 // where the schema or pattern stood in the request, for messages
};

struct GenerateRequest {
  std::string model;                                 // as the client wrote it: id or alias
  // Exactly one is used. Chat: messages (+ tools) go through the model's template. Text and ids: /v1/completions.
  struct Chat {
    JsonText messages, tools, template_kwargs;       // tools: as the template shows them; empty when none may be called
    bool no_reasoning = false;                       // reasoning_effort none
    bool opens_answer = true;                        // add_generation_prompt: the template opens a message of the assistant
    std::optional<std::string> continues;            // the last message is the assistant's, these words, and the answer goes on with it
  };
  using Prompt = std::variant<Chat, std::string, std::vector<TokenId>>;
  std::vector<Prompt> prompts;                       // one, or several for /v1/completions with a list
  std::optional<std::int64_t> max_tokens;            // per choice; absent: what is left of the context (completions: 16); 0: the prompt alone
  std::uint32_t choices = 1;
  std::uint32_t best_of = 0;                         // completions: of so many, `choices` are given; not above it: all are
  std::uint32_t made() const { return best_of > choices ? best_of : choices; }   // per prompt
  backend::SamplingParams sampling;
  std::optional<std::uint64_t> seed;                 // absent: derived from the request id
  std::vector<backend::TokenBias> bias;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  bool ignore_eos = false;
  bool logprobs = false;
  bool echo = false;                                 // completions: the prompt precedes the answer
  std::optional<std::string> suffix;                 // completions: what follows the answer (fill in the middle)
  OutputFormat format;
  ToolUse tools;
  bool continuous_usage = false;                     // chunks say what was counted and committed so far
  std::optional<Tier> tier;                          // absent: the plan's
  std::string data_class;                            // "": the model's first
  std::map<std::string, std::string> tags;           // user, safety_identifier, metadata: the erasable side table
  std::int64_t timeout_ns = 0;                       // x-request-timeout; 0: none
  std::int32_t retry_count = 0;                      // x-stainless-retry-count
};

struct CostLine {
  std::string token_class;                           // "input", "cached_input", "output"
  std::int64_t tokens = 0;
  Money amount;
};

// One step of an answer. `text` is complete UTF-8. A choice ends with `finish` set, once.
struct AnswerChunk {
  std::uint32_t choice = 0;                          // prompt index * n + choice
  std::string text;
  std::vector<backend::Sampled> tokens;              // with logprobs, when they were asked for: the tokens of `text`
  std::vector<std::string> token_texts;              // parallel to tokens: the raw bytes of each (may be half a character)
  std::vector<std::vector<std::string>> top_texts;   // parallel to tokens[i].top
  std::string reasoning;                             // what the model thought before it answers; not in `text`
  std::vector<CallDelta> calls;
  std::string finish;                                // "", "stop", "length", "tool_calls", "cancelled", "error"
  bool stopped_by_budget = false;
  // An echoed prompt with log probabilities: so many of `tokens` and bytes of `text` are its, the first token's is NaN.
  std::size_t echoed_tokens = 0, echoed_bytes = 0;
  std::optional<Usage> committed;                    // continuous_usage: of the whole request, as the ledger has it
};

// What an answer cost, known after the ledger committed it.
struct Receipt {
  RequestId request;
  std::string model;                                 // the id, also when an alias was asked for
  Usage usage;
  Money cost;
  std::string currency;
  std::vector<CostLine> lines;
  Tier tier = Tier::standard;
  bool usage_only = false;                           // the replay of an answer whose content was not kept
};

// A limit that applies to a request, as of now: the tightest of its kind. interval_s 0: places for requests at once.
struct RatePolicy {
  std::string_view counted;                          // "requests", "tokens", "input tokens", ..., "concurrent requests"
  std::int64_t interval_s = 0, limit = 0, remaining = 0, reset_ms = 0;
};
// All of them, for the RateLimit headers, and the tightest windows of requests and of tokens for the x-ratelimit-* headers;
// limit -1: none.
struct RateState {
  std::int64_t limit_requests = -1, remaining_requests = 0, reset_requests_ms = 0;
  std::int64_t limit_tokens = -1, remaining_tokens = 0, reset_tokens_ms = 0;
  std::vector<RatePolicy> policies;
};

}  // namespace tokenworks::gateway
