// Answers that are sent whole, with every field OpenAI's document requires, nullable ones included.
#include "json_out.hpp"
#include "openai_parts.hpp"

namespace tokenworks::http {
namespace {

class OpenAiWhole final : public WholeEncoder {
 public:
  OpenAiWhole(OpenAiForm form, bool logprobs) : form_(form), logprobs_(logprobs) {}

  void begin(const gateway::AnswerStart& start) override {
    head_.clear();
    append_answer_start(head_, form_, form_ == OpenAiForm::chat ? "chat.completion" : "text_completion", start);
    choices_.resize(start.choices);
  }

  void chunk(gateway::AnswerChunk&& chunk) override {
    if (chunk.choice >= choices_.size()) return;
    Choice& choice = choices_[chunk.choice];
    choice.text += chunk.text;
    choice.reasoning += chunk.reasoning;
    for (gateway::CallDelta& call : chunk.calls) {
      if (call.index >= choice.calls.size()) choice.calls.resize(call.index + 1);
      gateway::CallDelta& whole = choice.calls[call.index];
      whole.id += call.id;
      whole.name += call.name;
      whole.arguments += call.arguments;
    }
    if (logprobs_ && form_ == OpenAiForm::chat && !chunk.tokens.empty()) {
      if (!choice.logprobs.empty()) choice.logprobs += ',';
      append_chat_logprobs(choice.logprobs, chunk);
    }
    if (logprobs_ && form_ == OpenAiForm::completion) choice.older.add(chunk);
    if (!chunk.finish.empty()) choice.finish = finish_reason(chunk);
  }

  std::string end(const gateway::Receipt& receipt) override {
    std::string out = std::move(head_);
    std::size_t size = out.size() + 1024;            // grown once, not in steps
    for (const Choice& choice : choices_) size += choice.text.size() + choice.reasoning.size() + choice.logprobs.size() + 160;
    out.reserve(size);
    out += R"(,"choices":[)";
    for (std::size_t i = 0; i < choices_.size(); ++i) {
      if (i > 0) out += ',';
      append_choice(out, i);
    }
    out += R"(],"usage":)";
    append_usage(out, receipt);
    return out += '}';
  }

 private:
  struct Choice {
    std::string text, reasoning, logprobs, finish = "stop";
    std::vector<gateway::CallDelta> calls;
    CompletionLogprobs older;
  };

  static void append_calls(std::string& out, const std::vector<gateway::CallDelta>& calls) {
    out += '[';
    for (std::size_t i = 0; i < calls.size(); ++i) {
      if (i > 0) out += ',';
      JsonObject call(out);
      call.string("id", calls[i].id);
      call.string("type", "function");
      JsonObject function(call.key("function"));
      function.string("name", calls[i].name);
      function.string("arguments", calls[i].arguments);
      function.close();
      call.close();
    }
    out += ']';
  }

  void append_choice(std::string& out, std::size_t i) {
    Choice& choice = choices_[i];
    JsonObject object(out);
    object.integer("index", static_cast<std::int64_t>(i));
    if (form_ == OpenAiForm::chat) {
      JsonObject message(object.key("message"));
      message.string("role", "assistant");
      if (choice.text.empty() && !choice.calls.empty()) {
        message.raw("content", "null");
      } else {
        message.string("content", choice.text);
      }
      message.raw("refusal", "null");
      if (!choice.reasoning.empty()) message.string("reasoning_content", choice.reasoning);
      if (!choice.calls.empty()) append_calls(message.key("tool_calls"), choice.calls);
      message.close();
    } else {
      object.string("text", choice.text);
    }
    if (!logprobs_) {
      object.raw("logprobs", "null");
    } else if (form_ == OpenAiForm::chat) {
      object.raw("logprobs", R"({"content":[)" + choice.logprobs + R"(],"refusal":null})");
    } else {
      choice.older.write(object.key("logprobs"));
    }
    object.string("finish_reason", choice.finish);
    object.close();
  }

  const OpenAiForm form_;
  const bool logprobs_;
  std::string head_;
  std::vector<Choice> choices_;
};

}  // namespace

std::unique_ptr<WholeEncoder> openai_whole(OpenAiForm form, bool logprobs) {
  return std::make_unique<OpenAiWhole>(form, logprobs);
}

}  // namespace tokenworks::http
