#include "tokenworks/tokenizer/chat_template.hpp"

#include "tokenizer/jinja_machine.hpp"
#include "tokenizer/jinja_parser.hpp"
#include "tokenizer/unicode.hpp"

namespace tokenworks::tokenizer {
namespace {

using jinja::Value;

Error bad_input(const char* what, const char* field) { return error(Errc::invalid_request, what, field); }

// As transformers does before rendering: a message's reasoning is there under the name templates read, whichever of the
// three usual names it came with.
Value with_reasoning(const Value& message) {
  const jinja::Dict* d = message.dict();
  if (d == nullptr) return message;
  const Value* reasoning = nullptr;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const Value* v = jinja::find(*d, std::string(name));
    if (reasoning == nullptr && v != nullptr && !v->is_none()) reasoning = v;
  }
  if (reasoning == nullptr) return message;
  const auto key = [](const char* name) { return Value(std::make_shared<const jinja::Text>(name, true)); };
  auto out = std::make_shared<jinja::Dict>();
  jinja::put(*out, key("thinking"), *reasoning);
  for (const auto& [name, value] : d->entries) jinja::put(*out, name, value);
  jinja::put(*out, key("reasoning_content"), *reasoning);
  return std::shared_ptr<const jinja::Dict>(std::move(out));
}

Result<Value> messages_of(const JsonText& json) {
  const auto parsed = jinja::from_json(json.text);
  const jinja::Sequence* list = parsed ? parsed->sequence() : nullptr;
  if (list == nullptr) return bad_input("messages is not a JSON array, or is nested too deep", "messages");
  std::vector<Value> out;
  for (const Value& message : list->items) {
    if (message.dict() == nullptr) return bad_input("messages holds something that is no object", "messages");
    out.push_back(with_reasoning(message));
  }
  return Value(
      std::shared_ptr<const jinja::Sequence>(jinja::make_sequence(jinja::Sequence::Kind::list, std::move(out))));
}

class Parsed final : public ChatTemplate {
 public:
  explicit Parsed(std::shared_ptr<const jinja::Program> program) : program_(std::move(program)) {}

  Result<std::vector<Tokenizer::Part>> render(const ChatInput& input) const override {
    jinja::Machine machine(*program_, input.unix_seconds);
    machine.define("documents", jinja::None{});
    for (const auto& [name, text] : input.special) {
      if (!valid_utf8(text)) return bad_input("a special token is not UTF-8", "messages");
      machine.define(name, std::make_shared<const jinja::Text>(text, true));
    }
    if (!input.extra.empty()) {
      const auto extra = jinja::from_json(input.extra.text);
      const jinja::Dict* d = extra ? extra->dict() : nullptr;
      if (d == nullptr) {
        return bad_input("chat_template_kwargs is not a JSON object, or is nested too deep", "chat_template_kwargs");
      }
      for (const auto& [name, value] : d->entries) machine.define(name.text()->bytes(), value);
    }
    Value tools = jinja::None{};                     // none of these three can be replaced by an extra
    if (!input.tools.empty()) {
      const auto parsed = jinja::from_json(input.tools.text);
      if (!parsed || (parsed->sequence() == nullptr && !parsed->is_none())) {
        return bad_input("tools is not a JSON array, or is nested too deep", "tools");
      }
      tools = *parsed;
    }
    auto messages = messages_of(input.messages);
    if (!messages) return messages.error();
    machine.define("messages", std::move(*messages));
    machine.define("tools", std::move(tools));
    machine.define("add_generation_prompt", input.add_generation_prompt);
    if (!machine.run()) return machine.failure();

    std::vector<Tokenizer::Part> parts;
    const jinja::Text& text = machine.output();
    std::size_t begin = 0;
    for (const jinja::Text::Run& run : text.runs()) {
      parts.push_back({text.bytes().substr(begin, run.end - begin), run.trusted});
      begin = run.end;
    }
    return parts;
  }

 private:
  std::shared_ptr<const jinja::Program> program_;
};

}  // namespace

Result<std::shared_ptr<const ChatTemplate>> ChatTemplate::parse(const std::string& source) {
  if (source.size() > jinja::Machine::kTextBytesMax) {
    return error(Errc::bad_file, "chat template: larger than a template can be");
  }
  auto program = jinja::parse(source);
  if (!program) return error(Errc::bad_file, "chat template, " + program.error().message);
  return std::shared_ptr<const ChatTemplate>(std::make_shared<Parsed>(std::move(*program)));
}

const std::string& default_chat_template() {
  static const std::string kChatMl =
      "{% for message in messages %}"
      "{{ '<|im_start|>' + message['role'] + '\\n' }}"
      "{% if message['content'] is string %}{{ message['content'] }}"
      "{% elif message['content'] %}"
      "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
      "{% endif %}"
      "{{ '<|im_end|>\\n' }}"
      "{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  return kChatMl;
}

}  // namespace tokenworks::tokenizer
