#pragma once
// What tools and reasoning change in a prompt: templates that know no tools are told about them in a system text of ours,
// and what stands behind the rendered prompt decides how the answer begins. Pure.
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/json_text.hpp"
#include "tokenworks/gateway/style.hpp"
#include "tokenworks/gateway/tools.hpp"
#include "tokenworks/gateway/types.hpp"
#include "tokenworks/tokenizer/tokenizer.hpp"

namespace tokenworks::gateway {

// How the answer begins, as seen by those who read it.
struct AnswerBegin {
  bool thinking = false;                             // the prompt ended with the tag that opens reasoning
  bool calling = false;                              // ... with the marker of a call
};

// Messages for a template that knows no tools: calls and their results become text, and, unless `shown` is empty, a text
// of ours states the tools and how to call them: as a system message, or `in_user`, for templates without one, at the
// beginning of the first user message.
JsonText generic_messages(const JsonText& messages, const JsonText& shown, const ToolUse& tools, bool in_user);
// The variables of the template: a forced call and reasoning_effort none switch thinking off where the client said nothing.
JsonText template_variables(const JsonText& client, bool no_thinking);
// Takes away what the template wrote behind the last message, whose text is `message`. False: that is not where the text of
// the prompt ends, because the template does not show it, or says something of the caller's behind it.
bool cut_behind(std::vector<tokenizer::Tokenizer::Part>& parts, std::string_view message);
// Looks at the end of the rendered prompt and adds what the answer must begin with. `constrained`: a grammar holds it.
AnswerBegin end_prompt(std::vector<tokenizer::Tokenizer::Part>& parts, const AnswerStyle& style, const GenerateRequest& request,
                       bool no_reasoning, bool constrained);

}  // namespace tokenworks::gateway
