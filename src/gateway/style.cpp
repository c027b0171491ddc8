#include "tokenworks/gateway/style.hpp"

#include <array>

namespace tokenworks::gateway {
namespace {

bool has(std::string_view text, std::string_view piece) { return text.find(piece) != std::string_view::npos; }

// The token whose text, written by a template, is exactly `spelling`.
std::optional<TokenId> token_of(const tokenizer::Tokenizer& tokenizer, std::string_view spelling) {
  if (const auto control = tokenizer.find_control(spelling)) return control;
  const auto ids = tokenizer.encode_trusted(spelling);
  if (ids.size() == 1 && tokenizer.token_bytes(ids[0]) == spelling) return ids[0];
  return std::nullopt;
}

CallForm call_form(std::string_view source) {
  if (!has(source, "tools")) return CallForm::generic;
  if (has(source, "[TOOL_CALLS]")) return has(source, "[ARGS]") ? CallForm::mistral_args : CallForm::mistral;
  if (has(source, "<tool_call>") && has(source, "<function=") && has(source, "<parameter=")) return CallForm::parameters;
  if (has(source, "<tool_call>") && has(source, "arguments") && !has(source, "<function=")) return CallForm::hermes;
  if (has(source, "<|start_header_id|>") && has(source, "\"parameters\": ")) return CallForm::llama;
  return CallForm::generic;
}

struct MiddleSpelling {
  std::string_view prefix, suffix, after;
  bool suffix_first;
};
// Qwen 2.5 Coder, StarCoder and CodeGemma (two spellings), DeepSeek Coder, Codestral; CodeLlama has no such tokens in its
// tokenizer.json that stand for themselves.
constexpr std::array<MiddleSpelling, 4> kMiddles{{
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", false},
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", false},
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", false},
    {"[PREFIX]", "[SUFFIX]", "", true},
}};

std::optional<AnswerStyle::Middle> middle_of(const tokenizer::Tokenizer& tokenizer) {
  for (const MiddleSpelling& m : kMiddles) {
    const auto prefix = token_of(tokenizer, m.prefix), suffix = token_of(tokenizer, m.suffix);
    const auto after = m.after.empty() ? std::nullopt : token_of(tokenizer, m.after);
    if (prefix && suffix && (after || m.after.empty())) return AnswerStyle::Middle{*prefix, *suffix, after, m.suffix_first};
  }
  return std::nullopt;
}

}  // namespace

const char* name(CallForm form) {
  switch (form) {
    case CallForm::generic: return "generic";
    case CallForm::hermes: return "hermes";
    case CallForm::llama: return "llama";
    case CallForm::mistral: return "mistral";
    case CallForm::parameters: return "parameters";
    case CallForm::mistral_args: return "mistral_args";
  }
  return "generic";
}

AnswerStyle answer_style(std::string_view chat_template, const tokenizer::Tokenizer& tokenizer) {
  AnswerStyle style;
  style.calls = call_form(chat_template);
  const auto show = [&](std::string_view spelling) {
    if (const auto id = tokenizer.find_control(spelling)) style.shown_controls.push_back(*id);
  };
  switch (style.calls) {
    case CallForm::generic:
    case CallForm::parameters:
    case CallForm::hermes: style.marker = "<tool_call>"; break;
    case CallForm::llama: style.marker = "<|python_tag|>"; break;
    case CallForm::mistral:
    case CallForm::mistral_args: style.marker = "[TOOL_CALLS]"; break;
  }
  style.marker_control = tokenizer.find_control(style.marker);
  show(style.marker);
  if (style.calls == CallForm::mistral_args) {
    for (const char* spelling : {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"}) {
      if (!tokenizer.find_control(spelling)) continue;
      show(spelling);
      style.frame_controls.push_back(spelling);
    }
  }
  if (style.marker == "<tool_call>") show("</tool_call>");
  for (const auto& [open, close] : {std::pair{"<think>", "</think>"}, std::pair{"[THINK]", "[/THINK]"}}) {
    if (!has(chat_template, close) && !has(chat_template, open)) continue;
    style.think_open = open;
    style.think_close = close;
    style.think_close_token = token_of(tokenizer, close);
    show(open);
    show(close);
    break;
  }
  style.middle = middle_of(tokenizer);
  return style;
}

}  // namespace tokenworks::gateway
