// Streamed answers in OpenAI's order (notes/wire.md A3): role chunk, deltas, finish chunk, usage chunk if asked for, [DONE].
// What is the same in every chunk is built once; a token costs two appends and its escaping.
#include "errors.hpp"
#include "json_out.hpp"
#include "openai_parts.hpp"

namespace tokenworks::http {
namespace {

class OpenAiStream : public StreamEncoder {
 public:
  OpenAiStream(OpenAiForm form, bool include_usage, bool logprobs)
      : form_(form), logprobs_(logprobs), include_usage_(include_usage) {}

  const char* content_type() const override { return "text/event-stream; charset=utf-8"; }
  std::string ping() const override { return ": ping\n\n"; }

  void begin(const gateway::AnswerStart& start, std::string& out) override {
    prefix_ = "data: ";
    append_answer_start(prefix_, form_, form_ == OpenAiForm::chat ? "chat.completion.chunk" : "text_completion", start);
    usage_prefix_ = prefix_ + R"(,"choices":[],"usage":)";
    prefix_ += R"(,"choices":[{"index":)";
    suffix_ = include_usage_ ? ",\"usage\":null}\n\n" : "}\n\n";
    if (form_ == OpenAiForm::completion) {
      if (logprobs_) older_.resize(start.choices);
      return;
    }
    for (std::uint32_t choice = 0; choice < start.choices; ++choice) {
      out += prefix_;
      append_integer(out, choice);
      out += R"(,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}])";
      out += suffix_;
    }
  }

  void chunk(const gateway::AnswerChunk& chunk, std::string& out) override {
    if (!chunk.text.empty() || !chunk.tokens.empty()) {
      out += prefix_;
      append_integer(out, chunk.choice);
      out += form_ == OpenAiForm::chat ? R"(,"delta":{"content":)" : R"(,"text":)";
      append_string(out, chunk.text);
      out += form_ == OpenAiForm::chat ? R"(},"logprobs":)" : R"(,"logprobs":)";
      append_logprobs(out, chunk);
      out += R"(,"finish_reason":null}])";
      out += suffix_;
    }
    if (!chunk.finish.empty()) append_finish(out, chunk);
  }

  void end(const gateway::Receipt& receipt, std::string& out) override {
    if (include_usage_) {
      out += usage_prefix_;
      append_usage(out, receipt);
      out += "}\n\n";
    }
    out += "data: [DONE]\n\n";
  }

  // No [DONE] after it: the answer is not done.
  void fail(const Error& error, std::string& out) override {
    out += "data: ";
    out += error_json(error);
    out += "\n\n";
  }

 private:
  void append_logprobs(std::string& out, const gateway::AnswerChunk& chunk) {
    if (!logprobs_ || chunk.tokens.empty()) {
      out += "null";
    } else if (form_ == OpenAiForm::chat) {
      out += R"({"content":[)";
      append_chat_logprobs(out, chunk);
      out += R"(],"refusal":null})";
    } else if (chunk.choice < older_.size()) {
      older_[chunk.choice].add(chunk);
      older_[chunk.choice].write(out);
    } else {
      out += "null";
    }
  }

  void append_finish(std::string& out, const gateway::AnswerChunk& chunk) {
    out += prefix_;
    append_integer(out, chunk.choice);
    out += form_ == OpenAiForm::chat ? R"(,"delta":{},"logprobs":null,"finish_reason":)" : R"(,"text":"","logprobs":null,"finish_reason":)";
    append_string(out, finish_reason(chunk));
    out += "}]";
    if (chunk.stopped_by_budget) out += R"(,"tokenworks":{"stop":"budget"})";
    out += suffix_;
  }

  const OpenAiForm form_;
  const bool logprobs_, include_usage_;
  std::string prefix_, usage_prefix_, suffix_;
  std::vector<CompletionLogprobs> older_;
};

}  // namespace

std::unique_ptr<StreamEncoder> openai_stream(OpenAiForm form, bool include_usage, bool logprobs) {
  return std::make_unique<OpenAiStream>(form, include_usage, logprobs);
}

}  // namespace tokenworks::http
