// What a model writes: calls and thoughts are the same however the text is cut. The first byte chooses the form.
#include <string>
#include <vector>

#include "fuzz/targets.hpp"
#include "gateway/call_parser.hpp"
#include "gateway/reasoning.hpp"

namespace tokenworks::fuzz {
namespace {

using gateway::CallForm;

struct Form {
  CallForm form;
  const char* marker;
};
constexpr Form kForms[] = {{CallForm::hermes, "<tool_call>"}, {CallForm::llama, "<|python_tag|>"}, {CallForm::mistral, "[TOOL_CALLS]"},
                           {CallForm::mistral_args, "[TOOL_CALLS]"}, {CallForm::parameters, "<tool_call>"}};

struct Read {
  std::string text;
  std::vector<gateway::CallDelta> calls;
  bool operator==(const Read&) const = default;
};

Read calls_of(const Form& form, bool inside, std::string_view input, std::size_t piece) {
  gateway::CallParser parser(form.form, form.marker, inside, {"f", "get_weather"}, {{"f", {"city", "text"}}});
  Read out;
  const auto take = [&](gateway::AnswerPieces& pieces) {
    out.text += pieces.text;
    for (gateway::CallDelta& delta : pieces.calls) {
      if (!delta.name.empty() || out.calls.empty() || out.calls.back().index != delta.index) {
        out.calls.push_back(std::move(delta));
      } else {
        out.calls.back().arguments += delta.arguments;
      }
    }
  };
  for (std::size_t at = 0; at < input.size(); at += piece) {
    gateway::AnswerPieces pieces;
    parser.push(input.substr(at, piece), pieces);
    take(pieces);
  }
  gateway::AnswerPieces last;
  parser.finish(last);
  take(last);
  return out;
}

std::pair<std::string, std::string> thoughts_of(bool inside, std::string_view input, std::size_t piece) {
  gateway::ReasoningParser parser("<think>", "</think>", inside);
  std::pair<std::string, std::string> out;
  for (std::size_t at = 0; at < input.size(); at += piece) parser.push(input.substr(at, piece), out.first, out.second);
  parser.finish(out.first, out.second);
  return out;
}

}  // namespace

void answers(std::string_view input) {
  if (input.empty()) return;
  const auto choice = static_cast<unsigned char>(input[0]);
  const Form& form = kForms[choice % std::size(kForms)];
  const bool inside = (choice & 64) != 0;
  input.remove_prefix(1);
  const Read whole = calls_of(form, inside, input, input.size() + 1);
  must(whole == calls_of(form, inside, input, 1), "calls depend on how the text is cut");
  must(whole == calls_of(form, inside, input, 5), "calls depend on how the text is cut");
  must(thoughts_of(inside, input, input.size() + 1) == thoughts_of(inside, input, 1), "thoughts depend on how the text is cut");
}

}  // namespace tokenworks::fuzz
