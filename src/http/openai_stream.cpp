// Streamed answers in OpenAI's order (notes/wire.md A3): role chunk, deltas, finish chunk, usage chunk if asked for, [DONE].
// What is the same in every chunk is built once; a token costs two appends and its escaping.
#include "errors.hpp"
#include "json_out.hpp"
#include "openai_parts.hpp"

namespace tokenworks::http {
namespace {

class OpenAiStream : public StreamEncoder {
 public:
  OpenAiStream(OpenAiForm form, const StreamOptions& options) : form_(form), options_(options) {}

  const char* content_type() const override { return "text/event-stream; charset=utf-8"; }
  std::string ping() const override { return ": ping\n\n"; }

  void begin(const gateway::AnswerStart& start, std::string& out) override {
    prefix_ = "data: ";
    append_answer_start(prefix_, form_, form_ == OpenAiForm::chat ? "chat.completion.chunk" : "text_completion", start);
    usage_prefix_ = prefix_ + R"(,"choices":[],"usage":)";
    prefix_ += R"(,"choices":[{"index":)";
    suffix_ = options_.include_usage ? ",\"usage\":null}\n\n" : "}\n\n";
    for (const std::uint8_t byte : start.request.bytes) padding_ = padding_ * 131 + byte;
    if (form_ == OpenAiForm::completion) {
      if (options_.logprobs) older_.resize(start.choices);
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
    const gateway::AnswerChunk* tokens = &chunk;     // they travel with the first event that is made
    if (form_ == OpenAiForm::completion) {
      if (!chunk.text.empty() || !chunk.tokens.empty()) {
        std::string& event = open(chunk, R"(,"text":)");
        append_string(event, chunk.text);
        close(chunk, tokens, out);
      }
    } else {
      append_deltas(chunk, tokens, out);
    }
    if (!chunk.finish.empty()) append_finish(out, chunk);
  }

  void end(const gateway::Receipt& receipt, std::string& out) override {
    if (options_.include_usage) {
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
  // What was thought, what is said, what is called: an event each, in this order.
  void append_deltas(const gateway::AnswerChunk& chunk, const gateway::AnswerChunk*& tokens, std::string& out) {
    if (!chunk.reasoning.empty()) {
      append_string(open(chunk, R"(,"delta":{"reasoning_content":)"), chunk.reasoning);
      event_ += '}';
      close(chunk, tokens, out);
    }
    const bool only_tokens = chunk.reasoning.empty() && chunk.calls.empty() && !chunk.tokens.empty();
    if (!chunk.text.empty() || only_tokens) {
      append_string(open(chunk, R"(,"delta":{"content":)"), chunk.text);
      event_ += '}';
      close(chunk, tokens, out);
    }
    for (const gateway::CallDelta& call : chunk.calls) {
      // The name comes alone: clients take a first delta for the beginning of a call and add what follows.
      if (!call.name.empty()) {
        JsonObject delta(open(chunk, R"(,"delta":{"tool_calls":[)"));
        append_call(delta, call);
        close(chunk, tokens, out);
      }
      if (call.arguments.empty()) continue;
      JsonObject delta(open(chunk, R"(,"delta":{"tool_calls":[)"));
      delta.integer("index", call.index);
      JsonObject function(delta.key("function"));
      function.string("arguments", call.arguments);
      function.close();
      delta.close();
      event_ += "]}";
      close(chunk, tokens, out);
    }
  }

  void append_call(JsonObject& delta, const gateway::CallDelta& call) {
    delta.integer("index", call.index);
    delta.string("id", call.id);
    delta.string("type", "function");
    JsonObject function(delta.key("function"));
    function.string("name", call.name);
    function.string("arguments", "");
    function.close();
    delta.close();
    event_ += "]}";
  }

  // An event is built apart, since its padding depends on its length.
  std::string& open(const gateway::AnswerChunk& chunk, std::string_view field) {
    event_.clear();
    event_ += prefix_;
    append_integer(event_, chunk.choice);
    return event_ += field;
  }

  void close(const gateway::AnswerChunk& chunk, const gateway::AnswerChunk*& tokens, std::string& out) {
    event_ += R"(,"logprobs":)";
    append_logprobs(event_, tokens);
    tokens = nullptr;
    event_ += R"(,"finish_reason":null}])";
    if (options_.obfuscation) append_padding(event_);
    append_suffix(event_, chunk);
    out += event_;
  }

  // The characters need not be secret: whoever sees them sees the text. Only the length counts.
  void append_padding(std::string& event) {
    constexpr std::size_t kUnit = 64;
    constexpr std::string_view kField = R"(,"obfuscation":"")", kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ab";
    event += kField.substr(0, kField.size() - 1);
    while ((event.size() + 1) % kUnit != 0) {
      padding_ = padding_ * 6364136223846793005u + 1442695040888963407u;
      event += kLetters[padding_ >> 58];
    }
    event += '"';
  }

  void append_suffix(std::string& event, const gateway::AnswerChunk& chunk) const {
    if (!options_.continuous_usage || !chunk.committed) {
      event += suffix_;
      return;
    }
    event += R"(,"usage":)";
    append_counts(event, *chunk.committed);
    event += "}\n\n";
  }

  void append_logprobs(std::string& out, const gateway::AnswerChunk* chunk) {
    if (!options_.logprobs || chunk == nullptr || chunk->tokens.empty()) {
      out += "null";
    } else if (form_ == OpenAiForm::chat) {
      out += R"({"content":[)";
      append_chat_logprobs(out, *chunk);
      out += R"(],"refusal":null})";
    } else if (chunk->choice < older_.size()) {
      older_[chunk->choice].add(*chunk);
      older_[chunk->choice].write(out);
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
    append_suffix(out, chunk);
  }

  const OpenAiForm form_;
  const StreamOptions options_;
  std::string prefix_, usage_prefix_, suffix_, event_;
  std::uint64_t padding_ = 0;
  std::vector<CompletionLogprobs> older_;
};

}  // namespace

std::unique_ptr<StreamEncoder> openai_stream(OpenAiForm form, const StreamOptions& options) {
  return std::make_unique<OpenAiStream>(form, options);
}

}  // namespace tokenworks::http
