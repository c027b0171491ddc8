// What is read off a chat template and a vocabulary, and what it changes in a prompt.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "gateway/tool_grammar.hpp"
#include "gateway/tool_prompt.hpp"
#include "unit/gateway/answers_fixture.hpp"

namespace tokenworks::gateway {
namespace {

using Json = nlohmann::ordered_json;
using tokenizer::Tokenizer;

std::string template_text(const std::string& name) {
  std::ifstream file(std::string(TOKENWORKS_TEMPLATES) + "/" + name + ".jinja");
  EXPECT_TRUE(file.good()) << name;
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(AnswerStyle, KnowsTheFamilyByItsTemplate) {
  const test::ByteTokenizer tokenizer({"[TOOL_CALLS]", "<|python_tag|>"}, {"</think>"});
  const std::vector<std::pair<std::string, CallForm>> families = {
      {"hermes", CallForm::hermes}, {"qwen25", CallForm::hermes}, {"qwen3", CallForm::hermes}, {"llama31", CallForm::llama},
      {"mistral", CallForm::mistral}, {"chatml", CallForm::generic}, {"deepseek", CallForm::generic}, {"gemma", CallForm::generic},
      {"phi4", CallForm::generic}, {"gptoss", CallForm::generic}, {"llama2", CallForm::generic}};
  for (const auto& [family, form] : families) {
    const AnswerStyle style = answer_style(template_text(family), tokenizer);
    EXPECT_EQ(style.calls, form) << family;
    EXPECT_EQ(style.marker_control.has_value(), form == CallForm::mistral || form == CallForm::llama) << family;
    const bool thinks = family == "qwen3" || family == "deepseek";
    EXPECT_EQ(style.think_open, thinks ? "<think>" : "") << family;
    EXPECT_EQ(style.think_close_token, thinks ? tokenizer.encode_trusted("</think>").at(0) : style.think_close_token) << family;
    EXPECT_FALSE(style.middle) << family;
  }
}

TEST(AnswerStyle, KnowsMistralsNewerFormAndItsControlTokens) {
  const std::string source = "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{{ '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}";
  const AnswerStyle controls = answer_style(source, test::ByteTokenizer({"[TOOL_CALLS]", "[ARGS]"}));
  EXPECT_EQ(controls.calls, CallForm::mistral_args);
  EXPECT_TRUE(controls.marker_control);
  EXPECT_EQ(controls.frame_controls, (std::vector<std::string>{"[TOOL_CALLS]", "[ARGS]"}));
  const AnswerStyle text = answer_style(source, test::ByteTokenizer({}));
  EXPECT_EQ(text.calls, CallForm::mistral_args);
  EXPECT_FALSE(text.marker_control);
  EXPECT_TRUE(text.frame_controls.empty());
}

TEST(AnswerStyle, KnowsCallsInTagsAndWhatStandsInThemAsText) {
  const std::string source = "{% if tools %}{{ tools }}{% endif %}<tool_call>\n<function={{ name }}>\n<parameter={{ key }}>\n{{ arguments }}\n</parameter>\n</function>\n</tool_call>";
  EXPECT_EQ(answer_style(source, test::ByteTokenizer({})).calls, CallForm::parameters);
  Tool tool{"f", "", {R"({"type":"object","properties":{"a":{"type":"string","maxLength":3,"title":"t"},"b":{"enum":["x","y"]},"c":{"type":["string","null"]},
    "d":{"type":"string","enum":["x"],"minLength":1},"e":{"type":"integer"},"g":{"$ref":"#/$defs/s"},"h":{"const":"k"},"i":{"enum":["x",1]},"j":true}})"}};
  EXPECT_EQ(text_parameters(tool), (std::set<std::string>{"a", "b", "h"}));
  tool.parameters = {};
  EXPECT_TRUE(text_parameters(tool).empty());
}

TEST(AnswerStyle, FindsTheTokensThatFillInTheMiddle) {
  const test::ByteTokenizer qwen({}, {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"});
  const auto middle = answer_style("", qwen).middle;
  ASSERT_TRUE(middle);
  EXPECT_EQ(qwen.token_bytes(middle->before_prefix), "<|fim_prefix|>");
  EXPECT_EQ(qwen.token_bytes(middle->before_suffix), "<|fim_suffix|>");
  EXPECT_EQ(qwen.token_bytes(middle->after.value()), "<|fim_middle|>");
  EXPECT_FALSE(middle->suffix_first);
  const test::ByteTokenizer codestral({"[PREFIX]", "[SUFFIX]"});
  const auto other = answer_style("", codestral).middle;
  ASSERT_TRUE(other);
  EXPECT_TRUE(other->suffix_first);
  EXPECT_FALSE(other->after);
}

AnswerStyle style_of(CallForm form, const std::string& marker, bool thinks = false) {
  AnswerStyle style;
  style.calls = form;
  style.marker = marker;
  if (thinks) style.think_open = "<think>", style.think_close = "</think>";
  return style;
}

std::string text_of(const std::vector<Tokenizer::Part>& parts) {
  std::string text;
  for (const auto& part : parts) text += part.text;
  return text;
}

TEST(EndPrompt, AForcedCallBeginsInThePrompt) {
  GenerateRequest request;
  request.tools.choice = ToolUse::Choice::required;
  const std::vector<Tokenizer::Part> rendered = {{"user text", false}, {"<|im_start|>assistant\n", true}};
  const std::vector<std::tuple<CallForm, std::string, std::string, bool>> cases = {
      {CallForm::hermes, "<tool_call>", "<tool_call>\n", true}, {CallForm::generic, "<tool_call>", "<tool_call>\n", true},
      {CallForm::mistral, "[TOOL_CALLS]", "[TOOL_CALLS]", true}, {CallForm::mistral_args, "[TOOL_CALLS]", "[TOOL_CALLS]", true}, {CallForm::llama, "<|python_tag|>", "", false}};
  for (const auto& [form, marker, added, calling] : cases) {
    auto parts = rendered;
    const AnswerBegin begin = end_prompt(parts, style_of(form, marker), request, false, true);
    EXPECT_EQ(text_of(parts), text_of(rendered) + added);
    EXPECT_EQ(begin.calling, calling);
    EXPECT_TRUE(parts.back().trusted);
  }
}

TEST(EndPrompt, AnOpenThoughtIsSeenAndClosedWhereNothingMayBeThought) {
  const std::vector<Tokenizer::Part> open = {{"hi", false}, {"<|Assistant|><think>\n", true}};
  AnswerStyle style = style_of(CallForm::hermes, "<tool_call>", true);
  GenerateRequest request;
  auto parts = open;
  EXPECT_TRUE(end_prompt(parts, style, request, false, false).thinking);
  EXPECT_EQ(text_of(parts), text_of(open));
  parts = open;
  EXPECT_FALSE(end_prompt(parts, style, request, true, false).thinking);
  EXPECT_EQ(text_of(parts), text_of(open) + "</think>\n\n");
  parts = open;                                      // a grammar that cannot see where the thought ends
  EXPECT_FALSE(end_prompt(parts, style, request, false, true).thinking);
  style.think_close_token = 5;
  parts = open;
  EXPECT_TRUE(end_prompt(parts, style, request, false, true).thinking);
  request.tools.choice = ToolUse::Choice::required;
  parts = open;
  const AnswerBegin forced = end_prompt(parts, style, request, false, true);
  EXPECT_FALSE(forced.thinking);
  EXPECT_TRUE(forced.calling);
  EXPECT_EQ(text_of(parts), text_of(open) + "</think>\n\n<tool_call>\n");
  // What a client wrote opens nothing.
  parts = {{"<think>", false}};
  request.tools = {};
  EXPECT_FALSE(end_prompt(parts, style, request, false, false).thinking);
}

ToolUse weather() {
  ToolUse use;
  use.choice = ToolUse::Choice::automatic;
  use.tools.push_back({"weather", "", {R"({"type":"object"})"}});
  return use;
}
const JsonText kShown{R"([{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}])"};

TEST(GenericMessages, StateTheToolsAndWriteCallsAndResultsAsText) {
  const JsonText messages{R"([{"role":"system","content":"Be brief."},{"role":"user","content":"Q"},
    {"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":{"name":"weather","arguments":{"city":"K"}}}]},
    {"role":"tool","tool_call_id":"a","content":"sun"},{"role":"tool","tool_call_id":"b","content":"rain"},{"role":"user","content":"And?"}])"};
  const Json out = Json::parse(generic_messages(messages, kShown, weather(), false).text);
  ASSERT_EQ(out.size(), 5u);
  EXPECT_EQ(out[0]["role"], "system");
  const std::string text = out[0]["content"];
  EXPECT_TRUE(text.starts_with("Be brief.\n\n")) << text;
  EXPECT_NE(text.find(R"({"name":"weather","parameters":{"type":"object"}})"), std::string::npos) << text;
  EXPECT_EQ(out[2]["content"], "<tool_call>\n{\"name\":\"weather\",\"arguments\":{\"city\":\"K\"}}\n</tool_call>");
  EXPECT_FALSE(out[2].contains("tool_calls"));
  EXPECT_EQ(out[3], Json::parse(R"({"role":"user","content":"<tool_response>\nsun\n</tool_response>\n<tool_response>\nrain\n</tool_response>"})"));
  EXPECT_EQ(out[4]["content"], "And?");
}

TEST(GenericMessages, GoIntoTheFirstUserMessageOrBecomeASystemMessage) {
  const JsonText messages{R"([{"role":"user","content":"Q"}])"};
  const Json system = Json::parse(generic_messages(messages, kShown, weather(), false).text);
  ASSERT_EQ(system.size(), 2u);
  EXPECT_EQ(system[0]["role"], "system");
  const Json user = Json::parse(generic_messages(messages, kShown, weather(), true).text);
  ASSERT_EQ(user.size(), 1u);
  EXPECT_TRUE(user[0]["content"].get<std::string>().ends_with("\n\nQ"));
  EXPECT_EQ(generic_messages(messages, {}, {}, false).text, R"([{"role":"user","content":"Q"}])");
}

TEST(TemplateVariables, SwitchThinkingOffOnlyWhereTheClientSaidNothing) {
  EXPECT_EQ(template_variables({R"({"a":1})"}, false).text, R"({"a":1})");
  EXPECT_EQ(template_variables({}, true).text, R"({"enable_thinking":false})");
  EXPECT_EQ(template_variables({R"({"enable_thinking":true})"}, true).text, R"({"enable_thinking":true})");
}

}  // namespace
}  // namespace tokenworks::gateway
