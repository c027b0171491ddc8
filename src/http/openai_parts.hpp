#pragma once
// Pieces that streamed and whole answers share: log probabilities in both of OpenAI's shapes, and the fixed start of an
// answer's object.
#include <cstdint>
#include <string>
#include <string_view>

#include "openai.hpp"

namespace tokenworks::http {

// One entry per token, comma-separated: {"token","logprob","bytes","top_logprobs":[...]}. The caller writes the brackets.
void append_chat_logprobs(std::string& out, const gateway::AnswerChunk& chunk);

// The four parallel arrays of the older endpoint, gathered over chunks. Offsets count characters from the start of the text.
class CompletionLogprobs {
 public:
  void add(const gateway::AnswerChunk& chunk);
  void write(std::string& out);                      // the object; the arrays are empty afterwards, the offset goes on

 private:
  std::string tokens_, logprobs_, tops_, offsets_;
  std::int64_t offset_ = 0;
};

// {"id":...,"object":...,"created":...,"model":...,"service_tier":...,"system_fingerprint":...  without closing brace.
void append_answer_start(std::string& out, OpenAiForm form, const char* object, const gateway::AnswerStart& start);
// The usage object without cost: what is known while an answer runs.
void append_counts(std::string& out, const Usage& usage);
// OpenAI's finish reason for ours.
std::string_view finish_reason(const gateway::AnswerChunk& chunk);

}  // namespace tokenworks::http
