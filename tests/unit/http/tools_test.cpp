// Tools, reasoning and stream options on OpenAI's wire: what is read, what is refused with which parameter, and the shapes
// in which calls go out.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "http/openai.hpp"

namespace tokenworks::http {
namespace {

using gateway::AnswerChunk;
using gateway::GenerateRequest;
using Choice = gateway::ToolUse::Choice;
using nlohmann::json;

const config::Plant::Limits kLimits;
const std::string kTools = R"("tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}},{"type":"function","function":{"name":"g.h:i/j"}}])";

Result<Parsed> read(const std::string& extra, const config::Plant::Limits& limits = kLimits) {
  return parse_chat(R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + (extra.empty() ? "" : "," + extra) + "}", limits);
}
const GenerateRequest::Chat& chat_of(const Parsed& parsed) { return std::get<GenerateRequest::Chat>(parsed.request.prompts[0]); }

TEST(Tools, ArriveWithTheirChoice) {
  const auto automatic = read(kTools);
  ASSERT_TRUE(automatic) << automatic.error().message;
  const gateway::ToolUse& use = automatic->request.tools;
  EXPECT_EQ(use.choice, Choice::automatic);
  ASSERT_EQ(use.tools.size(), 2u);
  EXPECT_EQ(use.tools[0].name, "f");
  EXPECT_EQ(use.tools[0].parameters.text, R"({"type":"object"})");
  EXPECT_TRUE(use.tools[0].strict);
  EXPECT_FALSE(use.tools[1].strict);
  EXPECT_TRUE(use.tools[1].parameters.empty());
  EXPECT_TRUE(use.parallel);
  EXPECT_FALSE(chat_of(*automatic).tools.empty());

  const auto none = read(kTools + R"(,"tool_choice":"none")");
  EXPECT_EQ(none->request.tools.choice, Choice::none);
  EXPECT_TRUE(chat_of(*none).tools.empty());
  EXPECT_TRUE(read(kTools + R"(,"tool_choice":"required","parallel_tool_calls":false)")->request.tools.forced());
  EXPECT_FALSE(read(kTools + R"(,"tool_choice":"required","parallel_tool_calls":false)")->request.tools.parallel);
  const auto named = read(kTools + R"(,"tool_choice":{"type":"function","function":{"name":"g.h:i/j"}})");
  EXPECT_TRUE(named->request.tools.forced());
  EXPECT_EQ(named->request.tools.named, 1u);
  const auto allowed = read(kTools + R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}})");
  ASSERT_TRUE(allowed) << allowed.error().message;
  EXPECT_TRUE(allowed->request.tools.forced());
  EXPECT_TRUE(allowed->request.tools.tools[0].callable);
  EXPECT_FALSE(allowed->request.tools.tools[1].callable);
  EXPECT_EQ(read(R"("tools":[],"tool_choice":"none")")->request.tools.choice, Choice::none);
  EXPECT_EQ(read(R"("tools":[],"tool_choice":"auto")")->request.tools.choice, Choice::none);
}

TEST(Tools, WhatIsWrongIsNamed) {
  config::Plant::Limits small;
  small.tools = 1;
  small.schema_bytes = 64;
  small.content_parts = 2;
  const std::string function = R"({"type":"function","function":{"name":"f","parameters":)";
  struct Bad {
    std::string extra, param;
    Errc code = Errc::invalid_request;
    const config::Plant::Limits* limits = &kLimits;
  };
  const std::vector<Bad> cases = {
      {R"("tools":[5])", "tools[0]"},
      {R"("tools":[{"type":"custom","custom":{"name":"x"}}])", "tools[0].type", Errc::unsupported_parameter},
      {R"("tools":[{"type":"function","function":{"name":"with blank"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}])", "tools[1].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])", "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"f","strict":1}}])", "tools[0].function.strict"},
      {kTools + R"(,"tool_choice":"sometimes")", "tool_choice"},
      {kTools + R"(,"tool_choice":{"type":"function","function":{"name":"other"}})", "tool_choice.function.name"},
      {kTools + R"(,"tool_choice":{"type":"function"})", "tool_choice.function"},
      {kTools + R"(,"tool_choice":{"type":"custom"})", "tool_choice.type"},
      {kTools + R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"x"}}]}})", "tool_choice.allowed_tools.tools"},
      {kTools + R"(,"parallel_tool_calls":"yes")", "parallel_tool_calls"},
      {R"("functions":[{"name":"f"}])", "functions", Errc::unsupported_parameter}, {R"("function_call":"auto")", "function_call", Errc::unsupported_parameter},
      {kTools, "tools", Errc::invalid_request, &small},
      {R"("tools":[)" + function + R"({"description":")" + std::string(80, 'x') + R"("}}}])", "tools[0].function.parameters", Errc::invalid_request, &small},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"description":")" + std::string(80, 'x') + R"("}}})", "response_format.json_schema.schema", Errc::invalid_request, &small},
      {R"("reasoning_effort":"extreme")", "reasoning_effort"}, {R"("reasoning_effort":3)", "reasoning_effort"},
      {R"("stream":true,"stream_options":{"include_obfuscation":"x"})", "stream_options.include_obfuscation"},
      {R"("stream":true,"stream_options":{"continuous_usage_stats":true})", "stream_options.continuous_usage_stats"},
      {R"("prompt_cache_key":5)", "prompt_cache_key"}};
  for (const Bad& bad : cases) {
    const auto parsed = read(bad.extra, *bad.limits);
    ASSERT_FALSE(parsed) << bad.extra;
    EXPECT_EQ(parsed.error().param, bad.param) << bad.extra;
    EXPECT_EQ(parsed.error().code, bad.code) << bad.extra;
  }
  const auto parts = parse_chat(R"({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"text","text":"c"}]}]})", small);
  ASSERT_FALSE(parts);
  EXPECT_EQ(parts.error().param, "messages[0].content");
}

TEST(Reasoning, EffortGoesToTheTemplateAndNoneSwitchesItOff) {
  const auto high = read(R"("reasoning_effort":"high","chat_template_kwargs":{"enable_thinking":true})");
  ASSERT_TRUE(high);
  EXPECT_EQ(json::parse(chat_of(*high).template_kwargs.text), json::parse(R"({"enable_thinking":true,"reasoning_effort":"high"})"));
  EXPECT_FALSE(chat_of(*high).no_reasoning);
  EXPECT_TRUE(chat_of(*read(R"("reasoning_effort":"none")")).no_reasoning);
  EXPECT_EQ(chat_of(*read(R"("reasoning_effort":"low","chat_template_kwargs":{"reasoning_effort":"high"})")).template_kwargs.text, R"({"reasoning_effort":"high"})");
  EXPECT_TRUE(chat_of(*read("")).template_kwargs.empty());
}

TEST(Completions, ASuffixIsReadAndAnEmptyOneIsNone) {
  const auto with = parse_completion(R"({"model":"m","prompt":"a","suffix":"b"})", kLimits);
  ASSERT_TRUE(with);
  EXPECT_EQ(with->request.suffix, "b");
  EXPECT_FALSE(parse_completion(R"({"model":"m","prompt":"a","suffix":""})", kLimits)->request.suffix);
  const auto echoed = parse_completion(R"({"model":"m","prompt":"a","suffix":"b","echo":true})", kLimits);
  ASSERT_FALSE(echoed);
  EXPECT_EQ(echoed.error().param, "suffix");
}

gateway::AnswerStart start() {
  gateway::AnswerStart s;
  s.model = "m";
  return s;
}

std::vector<json> events(const std::string& stream) {
  std::vector<json> all;
  for (std::size_t at = 0; at < stream.size();) {
    const std::size_t end = stream.find("\n\n", at);
    EXPECT_TRUE(stream.substr(at).starts_with("data: "));
    all.push_back(json::parse(stream.substr(at + 6, end - at - 6)));
    at = end + 2;
  }
  return all;
}

TEST(Encode, StreamedCallsAreDeltasInOpenAisShape) {
  const auto encoder = openai_stream(OpenAiForm::chat, {});
  std::string out;
  encoder->begin(start(), out);
  out.clear();
  AnswerChunk chunk;
  chunk.reasoning = "Hm.";
  chunk.text = "So:";
  chunk.calls = {{0, "call_1", "f", ""}, {0, "", "", "{\"a\":"}, {0, "", "", " 1}"}, {1, "call_2", "g", "{}"}};
  chunk.finish = "tool_calls";
  encoder->chunk(chunk, out);
  const std::vector<json> all = events(out);
  const std::vector<std::string> deltas = {
      R"({"reasoning_content":"Hm."})", R"({"content":"So:"})",
      R"({"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]})",
      R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]})", R"({"tool_calls":[{"index":0,"function":{"arguments":" 1}"}}]})",
      R"({"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"g","arguments":""}}]})",
      R"({"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]})", "{}"};
  ASSERT_EQ(all.size(), deltas.size()) << out;
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i]["choices"][0]["delta"], json::parse(deltas[i])) << i;
    EXPECT_EQ(all[i]["choices"][0]["finish_reason"], i + 1 == all.size() ? json("tool_calls") : json(nullptr));
  }
}

TEST(Encode, AWholeAnswerHoldsCallsAndReasoningAndNoEmptyContent) {
  const auto encoder = openai_whole(OpenAiForm::chat, false);
  encoder->begin(start());
  AnswerChunk chunk;
  chunk.reasoning = "Hm.";
  chunk.calls = {{0, "call_1", "f", ""}, {0, "", "", "{\"a\": 1}"}, {1, "call_2", "g", "{}"}};
  chunk.finish = "tool_calls";
  encoder->chunk(std::move(chunk));
  gateway::Receipt receipt;
  receipt.usage = {.input = 4, .cached_input = 0, .output = 9, .reasoning = 3};
  const json whole = json::parse(encoder->end(receipt));
  const json& message = whole["choices"][0]["message"];
  EXPECT_TRUE(message["content"].is_null());
  EXPECT_EQ(message["reasoning_content"], "Hm.");
  EXPECT_EQ(message["tool_calls"], json::parse(R"([{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}},
                                                  {"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}])"));
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "tool_calls");
  EXPECT_EQ(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 3);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 9);
}

TEST(Encode, ObfuscationMakesSizesEqual) {
  const auto encoder = openai_stream(OpenAiForm::chat, {.obfuscation = true});
  std::string out;
  encoder->begin(start(), out);
  out.clear();
  std::set<std::size_t> sizes;
  for (const char* text : {"a", "ab", "abc", "a longer piece"}) {
    AnswerChunk chunk;
    chunk.text = text;
    out.clear();
    encoder->chunk(chunk, out);
    sizes.insert(out.size());
    const json event = events(out).at(0);
    EXPECT_EQ(event["choices"][0]["delta"]["content"], text);
    EXPECT_TRUE(event["obfuscation"].is_string());
  }
  EXPECT_LE(sizes.size(), 2u);
}

TEST(Encode, ContinuousUsageShowsWhatIsCommitted) {
  const auto encoder = openai_stream(OpenAiForm::chat, {.include_usage = true, .continuous_usage = true});
  std::string out;
  encoder->begin(start(), out);
  out.clear();
  AnswerChunk chunk;
  chunk.text = "a";
  chunk.committed = Usage{.input = 7, .cached_input = 2, .output = 5, .reasoning = 1};
  encoder->chunk(chunk, out);
  const json usage = events(out).at(0)["usage"];
  EXPECT_EQ(usage["prompt_tokens"], 7);
  EXPECT_EQ(usage["completion_tokens"], 5);
  EXPECT_EQ(usage["total_tokens"], 12);
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 1);
  EXPECT_FALSE(usage.contains("cost"));
}

}  // namespace
}  // namespace tokenworks::http
