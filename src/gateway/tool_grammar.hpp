#pragma once
// The grammar of a request's calls, in the words of the model's family, as the source text of grammar::Kind::calls. Pure.
#include <set>
#include <string>

#include "tokenworks/gateway/style.hpp"
#include "tokenworks/gateway/tools.hpp"
#include "tokenworks/gateway/types.hpp"

namespace tokenworks::gateway {

// The parameters that a form with tags writes as they are: those whose schema says nothing but a string. All others are JSON.
std::set<std::string> text_parameters(const Tool& tool);

// Whether the calls of this request are held to a grammar: always when one is forced, otherwise when a tool
// is strict or not all of them are allowed.
bool calls_are_constrained(const ToolUse& tools);
enum class Marker : std::uint8_t {
  written,    // by the model, as text, after free text or instead of it
  in_prompt,  // the prompt ended with it: a forced call
  as_token,   // a control token, which a grammar over bytes does not see; the source begins behind it
};
// What the answer must look like. `instead`: with Marker::written the answer is a call or fits this, not free text.
std::string calls_source(const ToolUse& tools, const AnswerStyle& style, Marker marker, const OutputFormat* instead = nullptr);

}  // namespace tokenworks::gateway
