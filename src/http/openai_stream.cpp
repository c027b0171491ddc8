// Streamed answers in OpenAI's order (notes/wire.md A3): role chunk, deltas, finish chunk, usage chunk if asked for, [DONE].
// What is the same in every chunk is built once; a token costs two appends and its escaping. Nothing is kept between events:
// a stream's memory has left the caches when its next token comes.
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
        append_string(open(chunk, R"(,"text":)", out), chunk.text);
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
      append_string(open(chunk, R"(,"delta":{"reasoning_content":)", out), chunk.reasoning);
      out += '}';
      close(chunk, tokens, out);
    }
    const bool only_tokens = chunk.reasoning.empty() && chunk.calls.empty() && !chunk.tokens.empty();
    if (!chunk.text.empty() || only_tokens) {
      append_string(open(chunk, R"(,"delta":{"content":)", out), chunk.text);
      out += '}';
      close(chunk, tokens, out);
    }
    for (const gateway::CallDelta& call : chunk.calls) {
      // The name comes alone: clients take a first delta for the beginning of a call and add what follows.
      if (!call.name.empty()) {
        append_call(open(chunk, R"(,"delta":{"tool_calls":[)", out), call);
        close(chunk, tokens, out);
      }
      if (call.arguments.empty()) continue;
      JsonObject delta(open(chunk, R"(,"delta":{"tool_calls":[)", out));
      delta.integer("index", call.index);
      JsonObject function(delta.key("function"));
      function.string("arguments", call.arguments);
      function.close();
      delta.close();
      out += "]}";
      close(chunk, tokens, out);
    }
  }

  static void append_call(std::string& out, const gateway::CallDelta& call) {
    JsonObject delta(out);
    delta.integer("index", call.index);
    delta.string("id", call.id);
    delta.string("type", "function");
    JsonObject function(delta.key("function"));
    function.string("name", call.name);
    function.string("arguments", "");
    function.close();
    delta.close();
    out += "]}";
  }

  // Where an event begins is remembered: its padding depends on its length.
  std::string& open(const gateway::AnswerChunk& chunk, std::string_view field, std::string& out) {
    begins_at_ = out.size();
    out += prefix_;
    append_integer(out, chunk.choice);
    return out += field;
  }

  void close(const gateway::AnswerChunk& chunk, const gateway::AnswerChunk*& tokens, std::string& out) {
    out += R"(,"logprobs":)";
    append_logprobs(out, tokens);
    tokens = nullptr;
    out += R"(,"finish_reason":null}])";
    if (options_.obfuscation) append_padding(out);
    append_suffix(out, chunk);
  }

  // The characters need not be secret: whoever sees them sees the text. Only the length counts.
  void append_padding(std::string& out) {
    constexpr std::size_t kUnit = 64;
    constexpr std::string_view kField = R"(,"obfuscation":"")", kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ab";
    out += kField.substr(0, kField.size() - 1);
    while ((out.size() - begins_at_ + 1) % kUnit != 0) {
      padding_ = padding_ * 6364136223846793005u + 1442695040888963407u;
      out += kLetters[padding_ >> 58];
    }
    out += '"';
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
  std::string prefix_, usage_prefix_, suffix_;
  std::size_t begins_at_ = 0;                        // the event that is being written, in what it is written to
  std::uint64_t padding_ = 0;
  std::vector<CompletionLogprobs> older_;
};

}  // namespace

std::unique_ptr<StreamEncoder> openai_stream(OpenAiForm form, const StreamOptions& options) {
  return std::make_unique<OpenAiStream>(form, options);
}

}  // namespace tokenworks::http
