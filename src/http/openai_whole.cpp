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
    if (logprobs_ && form_ == OpenAiForm::chat && !chunk.tokens.empty()) {
      if (!choice.logprobs.empty()) choice.logprobs += ',';
      append_chat_logprobs(choice.logprobs, chunk);
    }
    if (logprobs_ && form_ == OpenAiForm::completion) choice.older.add(chunk);
    if (!chunk.finish.empty()) choice.finish = finish_reason(chunk);
  }

  std::string end(const gateway::Receipt& receipt) override {
    std::string out = std::move(head_);
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
    std::string text, logprobs, finish = "stop";
    CompletionLogprobs older;
  };

  void append_choice(std::string& out, std::size_t i) {
    Choice& choice = choices_[i];
    JsonObject object(out);
    object.integer("index", static_cast<std::int64_t>(i));
    if (form_ == OpenAiForm::chat) {
      JsonObject message(object.key("message"));
      message.string("role", "assistant");
      message.string("content", choice.text);
      message.raw("refusal", "null");
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
