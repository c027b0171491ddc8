#include "openai_parts.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "json_out.hpp"

namespace tokenworks::http {
namespace {

std::string_view text_of(const std::vector<std::string>& texts, std::size_t i) {
  return i < texts.size() ? std::string_view(texts[i]) : std::string_view();
}

void append_token(std::string& out, std::string_view token, float logprob) {
  out += R"({"token":)";
  append_string(out, token);
  out += R"(,"logprob":)";
  append_logprob(out, logprob);
  out += R"(,"bytes":)";
  append_bytes(out, token);
}

std::int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u; });
}

// The first token of an echoed prompt has no probability: NaN there, null on the wire.
void append_logprob_or_null(std::string& out, float value) {
  if (std::isnan(value)) {
    out += "null";
  } else {
    append_logprob(out, value);
  }
}

}  // namespace

void append_chat_logprobs(std::string& out, const gateway::AnswerChunk& chunk) {
  for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
    const backend::Sampled& sampled = chunk.tokens[i];
    if (i > 0) out += ',';
    append_token(out, text_of(chunk.token_texts, i), sampled.logprob);
    out += R"(,"top_logprobs":[)";
    for (std::size_t t = 0; t < sampled.top.size(); ++t) {
      if (t > 0) out += ',';
      append_token(out, i < chunk.top_texts.size() ? text_of(chunk.top_texts[i], t) : "", sampled.top[t].logprob);
      out += '}';
    }
    out += "]}";
  }
}

void CompletionLogprobs::add(const gateway::AnswerChunk& chunk) {
  // An echoed prompt stands as the client wrote it. A token that is not in that text (the one that begins every sequence of
  // some models) has no width.
  std::string_view echoed = std::string_view(chunk.text).substr(0, chunk.echoed_bytes);
  const std::int64_t after_echo = offset_ + characters(echoed);
  for (std::size_t i = 0; i < chunk.tokens.size(); ++i) {
    if (i == chunk.echoed_tokens) offset_ = after_echo;
    const backend::Sampled& sampled = chunk.tokens[i];
    const std::string_view text = text_of(chunk.token_texts, i);
    if (!tokens_.empty()) tokens_ += ',', logprobs_ += ',', tops_ += ',', offsets_ += ',';
    append_string(tokens_, text);
    append_logprob_or_null(logprobs_, sampled.logprob);
    append_integer(offsets_, offset_);
    const bool in_echo = i < chunk.echoed_tokens;
    if (!in_echo || echoed.starts_with(text)) offset_ += characters(text);
    if (in_echo && echoed.starts_with(text)) echoed.remove_prefix(text.size());
    if (std::isnan(sampled.logprob)) {
      tops_ += "null";
      continue;
    }
    // A map by text: the likeliest of tokens that read the same stays; the chosen one is always there.
    JsonObject map(tops_);
    std::set<std::string_view> seen;
    for (std::size_t t = 0; t < sampled.top.size(); ++t) {
      const std::string_view other = i < chunk.top_texts.size() ? text_of(chunk.top_texts[i], t) : "";
      if (seen.insert(other).second) append_logprob(map.key(other), sampled.top[t].logprob);
    }
    if (seen.insert(text).second) append_logprob(map.key(text), sampled.logprob);
    map.close();
  }
  if (chunk.echoed_tokens > 0 && chunk.echoed_tokens == chunk.tokens.size()) offset_ = after_echo;
}

void CompletionLogprobs::write(std::string& out) {
  out += R"({"tokens":[)" + tokens_ + R"(],"token_logprobs":[)" + logprobs_ + R"(],"top_logprobs":[)" + tops_ +
         R"(],"text_offset":[)" + offsets_ + "]}";
  tokens_.clear(), logprobs_.clear(), tops_.clear(), offsets_.clear();
}

void append_answer_start(std::string& out, OpenAiForm form, const char* object, const gateway::AnswerStart& start) {
  out.reserve(out.size() + 384);
  out += R"({"id":)";
  append_string(out, answer_id(form, start.request));
  out += R"(,"object":)";
  append_string(out, object);
  out += R"(,"created":)";
  append_integer(out, start.created_unix_s);
  out += R"(,"model":)";
  append_string(out, start.model);
  out += R"(,"service_tier":)";
  append_string(out, service_tier_name(start.tier));
  out += R"(,"system_fingerprint":)";
  append_string(out, start.fingerprint);
}

std::string_view finish_reason(const gateway::AnswerChunk& chunk) {
  if (chunk.finish == "length" || chunk.stopped_by_budget) return "length";
  return chunk.finish == "tool_calls" ? "tool_calls" : "stop";
}

std::string answer_id(OpenAiForm form, const RequestId& id) {
  return (form == OpenAiForm::chat ? "chatcmpl-" : "cmpl-") + id.to_string().substr(4);
}

const char* service_tier_name(Tier tier) {
  switch (tier) {
    case Tier::priority: return "priority";
    case Tier::standard: return "default";
    case Tier::batch: return "flex";
  }
  return "default";
}

namespace {

// The members every usage object has.
void write_counts(JsonObject& object, const Usage& usage) {
  object.integer("prompt_tokens", usage.input);
  object.integer("completion_tokens", usage.output);
  object.integer("total_tokens", usage.input + usage.output);
  JsonObject prompt(object.key("prompt_tokens_details"));
  prompt.integer("cached_tokens", usage.cached_input);
  prompt.integer("audio_tokens", 0);
  prompt.close();
  JsonObject completion(object.key("completion_tokens_details"));
  completion.integer("reasoning_tokens", usage.reasoning);
  completion.integer("audio_tokens", 0);
  completion.integer("accepted_prediction_tokens", 0);
  completion.integer("rejected_prediction_tokens", 0);
  completion.close();
}

}  // namespace

void append_counts(std::string& out, const Usage& usage) {
  JsonObject object(out);
  write_counts(object, usage);
  object.close();
}

void append_usage(std::string& out, const gateway::Receipt& receipt) {
  JsonObject object(out);
  write_counts(object, receipt.usage);
  object.raw("cost", to_string(receipt.cost, receipt.currency));   // exact: a JSON number, at most nine decimals
  JsonObject details(object.key("cost_details"));
  if (!receipt.currency.empty()) details.string("currency", receipt.currency);
  for (const gateway::CostLine& line : receipt.lines) details.string(line.token_class, to_string(line.amount, receipt.currency));
  details.close();
  JsonObject plant(object.key("tokenworks"));
  plant.string("request_id", receipt.request.to_string());
  plant.raw("receipt", "null");
  if (receipt.usage_only) plant.string("replay", "usage_only");
  plant.close();
  object.close();
}

}  // namespace tokenworks::http
