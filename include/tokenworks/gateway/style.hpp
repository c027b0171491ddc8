#pragma once
// AnswerStyle: how a model writes what is more than text: calls of tools, reasoning, and how it is asked to fill in the
// middle. Read off its chat template and vocabulary once, when it is loaded.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/ids.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::gateway {

enum class CallForm : std::uint8_t {
  generic,    // the template knows no tools, or writes calls in a way we do not: our own system text, calls as hermes
  hermes,     // <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call> (Hermes, Qwen 2.5, Qwen 3)
  llama,      // {"name": ..., "parameters": {...}}, perhaps after <|python_tag|> (Llama 3.1 and later)
  mistral,    // [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...] (Mistral, tokenizer v3 to v7)
  parameters, // <tool_call>\n<function=name>\n<parameter=key>\nvalue\n</parameter>\n</function>\n</tool_call> (Qwen 3 Coder)
  mistral_args,   // [TOOL_CALLS]name[ARGS]{...}, again for each further call (Mistral, tokenizer v11 and later)
};
const char* name(CallForm form);

struct AnswerStyle {
  CallForm calls = CallForm::generic;
  std::string marker;                                // text or control token that begins calls
  std::optional<TokenId> marker_control;             // when the marker is a control token: it has no bytes
  std::string think_open, think_close;               // "" both: this model shows no reasoning
  std::optional<TokenId> think_close_token;          // the token that is exactly think_close
  std::vector<TokenId> shown_controls;               // control tokens of the above: parsers must see their spelling
  std::vector<std::string> frame_controls;           // spellings of control tokens within a call: the grammar writes them as such
  // Fill in the middle: [before_prefix] prefix [before_suffix] suffix [after], or suffix first.
  struct Middle {
    TokenId before_prefix, before_suffix;
    std::optional<TokenId> after;
    bool suffix_first = false;
  };
  std::optional<Middle> middle;
};

AnswerStyle answer_style(std::string_view chat_template, const tokenizer::Tokenizer& tokenizer);

}  // namespace tokenworks::gateway
