// What the codecs make of bodies: good ones field by field, bad ones with the parameter they name.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "http/json_in.hpp"
#include "http/openai.hpp"

namespace tokenworks::http {
namespace {

using gateway::GenerateRequest;
using gateway::OutputFormat;
using nlohmann::json;

const config::Plant::Limits kLimits;

std::string chat(const std::string& extra) { return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + (extra.empty() ? "" : "," + extra) + "}"; }
std::string text(const std::string& extra) { return R"({"model":"m","prompt":"hi")" + (extra.empty() ? "" : "," + extra) + "}"; }

json messages_of(const std::string& messages) {
  const auto parsed = parse_chat(R"({"model":"m","messages":)" + messages + "}", kLimits);
  if (!parsed) return parsed.error().message;
  return json::parse(std::get<GenerateRequest::Chat>(parsed->request.prompts[0]).messages.text);
}

TEST(RequestTest, ATopPOfNothingIsTheLikeliestTokenAlone) {
  const auto parsed = parse_chat(chat(R"("temperature":1.5,"top_p":0)"), kLimits);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->request.sampling.temperature, 0);
}

TEST(ChatRequest, EveryFieldArrives) {
  const auto parsed = parse_chat(chat(R"("temperature":0.5,"top_p":0.9,"n":3,"max_tokens":7,"max_completion_tokens":9,"stop":["a","b"],
    "presence_penalty":-2,"frequency_penalty":2,"logit_bias":{"17":-100,"3":5.5},"seed":-4,"logprobs":true,"top_logprobs":20,"stream":true,
    "stream_options":{"include_usage":true},"user":"u1","safety_identifier":"s1","metadata":{"team":"x"},"service_tier":"flex","top_k":40,
    "min_p":0.05,"repetition_penalty":1.1,"stop_token_ids":[5],"ignore_eos":true,"chat_template_kwargs":{"enable_thinking":false},
    "response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object","z":1,"a":2}}},
    "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":"auto","parallel_tool_calls":true,
    "unknown":{"x":[1,2]},"store":false,"modalities":["text"])"), kLimits);
  ASSERT_TRUE(parsed) << parsed.error().message;
  const GenerateRequest& r = parsed->request;
  EXPECT_TRUE(parsed->stream && parsed->options.include_usage);
  EXPECT_FLOAT_EQ(r.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(r.sampling.top_p, 0.9f);
  EXPECT_FLOAT_EQ(r.sampling.min_p, 0.05f);
  EXPECT_FLOAT_EQ(r.sampling.repetition_penalty, 1.1f);
  EXPECT_FLOAT_EQ(r.sampling.presence_penalty, -2);
  EXPECT_FLOAT_EQ(r.sampling.frequency_penalty, 2);
  EXPECT_EQ(r.sampling.top_k, 40);
  EXPECT_EQ(r.sampling.top_logprobs, 20);
  EXPECT_EQ(r.choices, 3u);
  EXPECT_EQ(r.max_tokens, 9) << "the newer name wins";
  EXPECT_EQ(r.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(r.stop_tokens, std::vector<TokenId>{5});
  ASSERT_EQ(r.bias.size(), 2u);
  EXPECT_EQ(r.bias[0].token, 17);
  EXPECT_FLOAT_EQ(r.bias[0].bias, -100);
  EXPECT_EQ(r.seed, static_cast<std::uint64_t>(-4));
  EXPECT_TRUE(r.ignore_eos && r.logprobs);
  EXPECT_EQ(r.tier, Tier::batch);
  EXPECT_EQ(r.tags, (std::map<std::string, std::string>{{"team", "x"}, {"user", "u1"}, {"safety_identifier", "s1"}}));
  EXPECT_EQ(r.format.kind, OutputFormat::Kind::json_schema);
  EXPECT_EQ(r.format.schema.text, R"({"type":"object","z":1,"a":2})") << "the order of members is kept";
  const auto& prompt = std::get<GenerateRequest::Chat>(r.prompts[0]);
  EXPECT_EQ(prompt.tools.text, R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])");
  EXPECT_EQ(prompt.template_kwargs.text, R"({"enable_thinking":false})");
}

TEST(ChatRequest, WhatThePlanHasReservedIsNoTierOfItsOwn) {
  for (const char* tier : {"auto", "scale"}) EXPECT_FALSE(parse_chat(chat(R"("service_tier":")" + std::string(tier) + "\""), kLimits)->request.tier);
}

TEST(ChatRequest, NullsEmptyListsAndWholeFloatsAreTolerated) {
  const auto parsed = parse_chat(chat(R"("temperature":null,"stop":null,"tools":[],"logit_bias":null,"n":1.0,"max_tokens":16.0,
    "response_format":null,"metadata":null,"stream":null,"stream_options":null,"tool_choice":null,"functions":[])"), kLimits);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->request.max_tokens, 16);
  EXPECT_FALSE(parsed->request.seed);
  EXPECT_FALSE(parsed->request.tier);
  EXPECT_TRUE(std::get<GenerateRequest::Chat>(parsed->request.prompts[0]).tools.empty());
}

TEST(ChatRequest, MessagesArePassedOnAsTemplatesExpectThem) {
  EXPECT_EQ(messages_of(R"([{"role":"developer","content":"d"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"n"}])"),
            json::parse(R"([{"role":"system","content":"d"},{"role":"user","content":"a\nb","name":"n"}])"));
  EXPECT_EQ(messages_of(R"([{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}}]},
                            {"role":"tool","tool_call_id":"c1","content":"ok"}])"),
            json::parse(R"([{"role":"assistant","content":"","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":{"x":1}}}]},
                            {"role":"tool","content":"ok","tool_call_id":"c1"}])"));
  EXPECT_EQ(messages_of(R"([{"role":"assistant","content":null},{"role":"user","content":"a"}])"), json::parse(R"([{"role":"assistant","content":""},{"role":"user","content":"a"}])"))
      << "an answer that was cut before its first word";
}

struct Bad {
  const char* extra;
  const char* param;
  Errc code = Errc::invalid_request;
};

TEST(ChatRequest, EveryBadFieldIsNamed) {
  const Bad table[] = {
      {R"("temperature":2.1)", "temperature"}, {R"("temperature":-0.1)", "temperature"}, {R"("temperature":"hot")", "temperature"},
      {R"("temperature":true)", "temperature"}, {R"("top_p":-0.1)", "top_p"}, {R"("top_p":1.01)", "top_p"}, {R"("n":0)", "n"}, {R"("n":17)", "n"},
      {R"("n":1.5)", "n"}, {R"("n":1e300)", "n"}, {R"("max_tokens":0)", "max_tokens"}, {R"("max_tokens":-1)", "max_tokens"},
      {R"("max_tokens":"5")", "max_tokens"}, {R"("max_completion_tokens":0)", "max_completion_tokens"}, {R"("stop":5)", "stop"},
      {R"("stop":[5])", "stop"}, {R"("stop":"")", "stop"}, {R"("stop":["a",""])", "stop"}, {R"("presence_penalty":2.5)", "presence_penalty"},
      {R"("frequency_penalty":-2.5)", "frequency_penalty"}, {R"("logit_bias":[])", "logit_bias"}, {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"}, {R"("logit_bias":{"1":101})", "logit_bias"}, {R"("logit_bias":{"1":"a"})", "logit_bias"},
      {R"("logit_bias":{"99999999999":1})", "logit_bias"}, {R"("seed":1.5)", "seed"}, {R"("seed":"a")", "seed"}, {R"("logprobs":3)", "logprobs"},
      {R"("top_logprobs":5)", "top_logprobs"}, {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"}, {R"("stream":"yes")", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"}, {R"("stream":true,"stream_options":[])", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage"}, {R"("user":7)", "user"},
      {R"("metadata":{"a":1})", "metadata.a"}, {R"("metadata":"a")", "metadata"}, {R"("service_tier":"gold")", "service_tier"},
      {R"("service_tier":1)", "service_tier"}, {R"("top_k":-2)", "top_k"}, {R"("min_p":1.5)", "min_p"},
      {R"("repetition_penalty":0)", "repetition_penalty"}, {R"("stop_token_ids":["a"])", "stop_token_ids"}, {R"("ignore_eos":1)", "ignore_eos"},
      {R"("response_format":"json")", "response_format"}, {R"("response_format":{})", "response_format.type"},
      {R"("response_format":{"type":"xml"})", "response_format.type"}, {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{}}})", "response_format.json_schema.name"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"a b","schema":{}}})", "response_format.json_schema.name"},
      {R"("guided_regex":5)", "guided_regex"}, {R"("guided_regex":"a","guided_choice":["b"])", "guided_choice"},
      {R"("guided_choice":[])", "guided_choice"}, {R"("structured_outputs":{"json":5})", "structured_outputs.json"},
      {R"("structured_outputs":{"structural_tag":"{}"})", "structured_outputs.structural_tag", Errc::unsupported_parameter},
      {R"("structured_outputs":{"json":{},"disable_additional_properties":true})", "structured_outputs.disable_additional_properties", Errc::unsupported_parameter},
      {R"("tools":{})", "tools"}, {R"("tools":[{"type":"x"}])", "tools[0].type"}, {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name"}, {R"("tool_choice":"auto")", "tool_choice"},
      {R"("tool_choice":"maybe")", "tool_choice"}, {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice"},
      {R"("functions":[{"name":"f"}])", "functions", Errc::unsupported_parameter}, {R"("audio":{"voice":"a"})", "audio", Errc::unsupported_parameter},
      {R"("modalities":["audio"])", "modalities", Errc::unsupported_parameter}, {R"("chat_template_kwargs":[])", "chat_template_kwargs"}};
  for (const Bad& bad : table) {
    const auto parsed = parse_chat(chat(bad.extra), kLimits);
    ASSERT_FALSE(parsed) << bad.extra;
    EXPECT_EQ(parsed.error().param, bad.param) << bad.extra << ": " << parsed.error().message;
    EXPECT_EQ(parsed.error().code, bad.code) << bad.extra;
    EXPECT_NE(parsed.error().message.find(bad.param), std::string::npos) << parsed.error().message;
  }
}

TEST(ChatRequest, ASchemaIsReadWhereverClientsPutItAndKnowsItsPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"null"}}})", "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_object","schema":{"type":"null"}})", "response_format.schema"},
      {R"("response_format":{"type":"json_schema","schema":{"type":"null"}})", "response_format.schema"},
      {R"("guided_json":{"type":"null"})", "guided_json"}, {R"("guided_json":"{\"type\":\"null\"}")", "guided_json"},
      {R"("structured_outputs":{"json":{"type":"null"}})", "structured_outputs.json"}};
  for (const auto& [extra, param] : cases) {
    const auto parsed = parse_chat(chat(extra), kLimits);
    ASSERT_TRUE(parsed) << extra << parsed.error().message;
    EXPECT_EQ(parsed->request.format.kind, gateway::OutputFormat::Kind::json_schema) << extra;
    EXPECT_EQ(json::parse(parsed->request.format.schema.text), json::parse(R"({"type":"null"})")) << extra;
    EXPECT_EQ(parsed->request.format.param, param);
  }
  EXPECT_EQ(parse_chat(chat(R"("guided_regex":"a")"), kLimits)->request.format.param, "guided_regex");
  EXPECT_EQ(parse_chat(chat(R"("structured_outputs":{"choice":["a"]})"), kLimits)->request.format.param, "structured_outputs.choice");
  EXPECT_EQ(parse_chat(chat(R"("response_format":{"type":"json_object","schema":5})"), kLimits).error().param, "response_format.schema");
}

TEST(ChatRequest, BadMessagesAreNamedByTheirPlace) {
  const std::pair<const char*, const char*> table[] = {
      {"[]", "messages"}, {"5", "messages"}, {"null", "messages"}, {"[5]", "messages[0]"}, {R"([{"content":"a"}])", "messages[0].role"},
      {R"([{"role":"king","content":"a"}])", "messages[0].role"}, {R"([{"role":5,"content":"a"}])", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"}, {R"([{"role":"user","content":null}])", "messages[0].content"},
      {R"([{"role":"user","content":{}}])", "messages[0].content"}, {R"([{"role":"user","content":["a"]}])", "messages[0].content[0]"},
      {R"([{"role":"user","content":"a"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}])", "messages[1].content[1]"},
      {R"([{"role":"user","content":[{"type":"input_audio"}]}])", "messages[0].content[0]"},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"}, {R"([{"role":"assistant"}])", "messages[0].content"},
      {R"([{"role":"tool","content":"a"}])", "messages[0].tool_call_id"},
      {R"([{"role":"assistant","tool_calls":[{"type":"function"}]}])", "messages[0].tool_calls[0].id"},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f"}}]}])", "messages[0].tool_calls[0].function.arguments"}};
  for (const auto& [messages, param] : table) {
    const auto parsed = parse_chat(std::string(R"({"model":"m","messages":)") + messages + "}", kLimits);
    ASSERT_FALSE(parsed) << messages;
    EXPECT_EQ(parsed.error().param, param) << parsed.error().message;
  }
  const auto image = parse_chat(R"({"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]})", kLimits);
  EXPECT_NE(image.error().message.find("the model is not able to see images"), std::string::npos);
}

TEST(ChatRequest, BodiesThatAreNoJsonObjectAreRefused) {
  std::string deep(100, '['), wide = "[0";
  for (int i = 0; i < 400'000; ++i) wide += ",0";
  for (const std::string& body : {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("{\"model\":\"m\",}"),
                                  std::string("{\"model\":\"\xff\"}"), std::string(R"({"model":"\ud800"})"), std::string(R"({"model":"a","model":"b"})"),
                                  std::string(R"({"model":"m","x":NaN})"), std::string(R"({"model":"m"} x)"), std::string(R"({"model":"m","n":1e999})"),
                                  R"({"model":"m","x":)" + deep + "}", R"({"model":"m","x":)" + wide + "]}"}) {
    const auto parsed = parse_chat(body, kLimits);
    ASSERT_FALSE(parsed) << body.substr(0, 60);
    EXPECT_EQ(parsed.error().code, Errc::invalid_request);
    EXPECT_LT(parsed.error().message.size(), 200u);
  }
  EXPECT_EQ(parse_chat(R"({"messages":[]})", kLimits).error().param, "model");
}

TEST(CompletionRequest, PromptsOfAllFourShapesAreRead) {
  const auto prompts = [](const char* prompt) { return parse_completion(std::string(R"({"model":"m","prompt":)") + prompt + "}", kLimits)->request.prompts; };
  EXPECT_EQ(std::get<std::string>(prompts(R"("a")").at(0)), "a");
  EXPECT_EQ(std::get<std::string>(prompts(R"(["a","b"])").at(1)), "b");
  EXPECT_EQ(std::get<std::vector<TokenId>>(prompts("[1,2,3]").at(0)), (std::vector<TokenId>{1, 2, 3}));
  EXPECT_EQ(std::get<std::vector<TokenId>>(prompts("[[1],[2,3]]").at(1)), (std::vector<TokenId>{2, 3}));
}

TEST(CompletionRequest, DefaultsAndLogprobsAreOpenAis) {
  const auto plain = parse_completion(text(""), kLimits);
  EXPECT_EQ(plain->request.max_tokens, 16);
  EXPECT_FALSE(plain->request.logprobs);
  const auto probed = parse_completion(text(R"("logprobs":0,"echo":true,"best_of":1,"suffix":null)"), kLimits);
  ASSERT_TRUE(probed) << probed.error().message;
  EXPECT_TRUE(probed->request.logprobs && probed->request.echo);
  EXPECT_EQ(probed->request.sampling.top_logprobs, 0);
}

TEST(CompletionRequest, TheBestOfSeveralAndThePromptAlone) {
  const auto best = parse_completion(text(R"("n":2,"best_of":5,"max_tokens":0)"), kLimits);
  ASSERT_TRUE(best) << best.error().message;
  EXPECT_EQ(best->request.choices, 2u);
  EXPECT_EQ(best->request.made(), 5u);
  EXPECT_EQ(best->request.max_tokens, 0);
  for (const char* all : {R"("n":3)", R"("n":3,"best_of":3)", R"("n":3,"best_of":0)", R"("n":3,"best_of":null)", R"("n":3,"best_of":3,"stream":true)"}) {
    const auto parsed = parse_completion(text(all), kLimits);
    ASSERT_TRUE(parsed) << all;
    EXPECT_EQ(parsed->request.made(), 3u) << all;
  }
}

TEST(CompletionRequest, EveryBadFieldIsNamed) {
  for (const auto& [prompt, what] : std::initializer_list<std::pair<const char*, const char*>>{
           {"null", "missing"}, {"5", "number"}, {"{}", "object"}, {"[]", "empty"}, {"[\"a\",1]", "mixed"}, {"[1.5]", "fraction"},
           {"[-1]", "negative"}, {"[[]]", "empty ids"}, {"[[\"a\"]]", "strings inside"}, {"[99999999999]", "too large"}}) {
    const auto parsed = parse_completion(std::string(R"({"model":"m","prompt":)") + prompt + "}", kLimits);
    ASSERT_FALSE(parsed) << what;
    EXPECT_EQ(parsed.error().param, "prompt") << what;
  }
  const Bad table[] = {{R"("logprobs":6)", "logprobs"}, {R"("logprobs":true)", "logprobs"}, {R"("echo":1)", "echo"}, {R"("max_tokens":-1)", "max_tokens"},
                       {R"("best_of":21)", "best_of"}, {R"("n":3,"best_of":2)", "best_of"}, {R"("best_of":2,"stream":true)", "best_of"}};
  for (const Bad& bad : table) {
    const auto parsed = parse_completion(text(bad.extra), kLimits);
    ASSERT_FALSE(parsed) << bad.extra;
    EXPECT_EQ(parsed.error().param, bad.param);
    EXPECT_EQ(parsed.error().code, bad.code);
  }
}

}  // namespace
}  // namespace tokenworks::http
