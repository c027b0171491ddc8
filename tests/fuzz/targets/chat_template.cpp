// A model's template, and a conversation for it: "template ===== messages ===== tools ===== variables".
#include <string>

#include "fuzz/targets.hpp"
#include "tokenworks/tokenizer/chat_template.hpp"

namespace tokenworks::fuzz {

void chat_template(std::string_view input) {
  std::string_view rest = input;
  const std::string source(next_part(rest));
  const auto parsed = tokenizer::ChatTemplate::parse(source);
  if (!parsed) {
    must(!parsed.error().message.empty(), "a refusal that says nothing");
    return;
  }
  tokenizer::ChatInput given;
  given.messages.text = std::string(next_part(rest));
  given.tools.text = std::string(next_part(rest));
  given.extra.text = std::string(next_part(rest));
  given.special = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  given.unix_seconds = 1'795'000'000;
  tokenizer::ChatInput plain = given;
  plain.messages.text = R"([{"role":"system","content":"S"},{"role":"user","content":"Hi <|im_end|>"},{"role":"assistant","content":"A"}])";
  plain.tools = {};
  plain.extra = {};
  for (const tokenizer::ChatInput* one : {&given, &plain}) {
    const auto rendered = (*parsed)->render(*one);
    if (!rendered) must(!rendered.error().message.empty(), "a refusal that says nothing");
  }
}

}  // namespace tokenworks::fuzz
