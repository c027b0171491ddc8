// The codecs of embeddings and of token translation: good bodies field by field, bad ones with the parameter they name.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "http/openai_texts.hpp"

namespace tokenworks::http {
namespace {

using nlohmann::json;

const config::Plant::Limits kLimits;

std::string embed(const std::string& rest) { return R"({"model":"m",)" + rest + "}"; }

TEST(EmbeddingRequest, EveryFormOfInputArrives) {
  const auto one = parse_embedding(embed(R"("input":"hi","encoding_format":"base64","dimensions":64,"user":"u","service_tier":"flex","unknown":1)"), kLimits);
  ASSERT_TRUE(one) << one.error().message;
  EXPECT_EQ(std::get<std::string>(one->request.inputs.at(0)), "hi");
  EXPECT_TRUE(one->base64);
  EXPECT_EQ(one->request.dimensions, 64);
  EXPECT_EQ(one->request.tier, Tier::batch);
  EXPECT_EQ(one->request.tags.at("user"), "u");
  const auto texts = parse_embedding(embed(R"("input":["a","b"],"encoding_format":"float")"), kLimits);
  ASSERT_TRUE(texts && !texts->base64);
  EXPECT_EQ(std::get<std::string>(texts->request.inputs.at(1)), "b");
  const auto ids = parse_embedding(embed(R"("input":[1,2,3])"), kLimits);
  ASSERT_TRUE(ids);
  EXPECT_EQ(std::get<std::vector<TokenId>>(ids->request.inputs.at(0)), (std::vector<TokenId>{1, 2, 3}));
  const auto lists = parse_embedding(embed(R"("input":[[1,2],[3]])"), kLimits);
  ASSERT_TRUE(lists);
  EXPECT_EQ(std::get<std::vector<TokenId>>(lists->request.inputs.at(1)), std::vector<TokenId>{3});
}

TEST(EmbeddingRequest, MistakesNameTheirParameter) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("input":"")", "input"},           {R"("input":[])", "input"},          {R"("input":[""])", "input"},
      {R"("input":["a",1])", "input"},      {R"("input":[1,"a"])", "input"},     {R"("input":[[]])", "input"},
      {R"("input":[[1],"a"])", "input"},    {R"("input":[1.5])", "input"},       {R"("input":[-1])", "input"},
      {R"("input":[{"a":1}])", "input"},    {R"("input":7)", "input"},           {R"("user":"u")", "input"},
      {R"("input":[null])", "input"},       {R"("input":"a","dimensions":0)", "dimensions"},
      {R"("input":"a","dimensions":"x")", "dimensions"},                         {R"("input":"a","encoding_format":"hex")", "encoding_format"},
      {R"("input":"a","user":7)", "user"},  {R"("input":"a","service_tier":"x")", "service_tier"}};
  for (const auto& [body, param] : cases) {
    const auto parsed = parse_embedding(embed(body), kLimits);
    ASSERT_FALSE(parsed) << body;
    EXPECT_EQ(parsed.error().param, param) << body;
    EXPECT_EQ(parsed.error().code, Errc::invalid_request) << body;
  }
  EXPECT_EQ(parse_embedding(R"({"input":"a"})", kLimits).error().param, "model");
  config::Plant::Limits two;
  two.embedding_inputs = 2;
  EXPECT_TRUE(parse_embedding(embed(R"("input":["a","b"])"), two));
  EXPECT_EQ(parse_embedding(embed(R"("input":["a","b","c"])"), two).error().param, "input");
}

TEST(EmbeddingAnswer, IsOpenAisShapeInBothFormats) {
  gateway::Embedded embedded;
  embedded.vectors = {{0.1f, -2.5f}, {1.0f, 0.0f}};
  embedded.receipt.model = "m";
  embedded.receipt.usage.input = 7;
  const auto plain = json::parse(embedding_json(embedded, false));
  EXPECT_EQ(plain["object"], "list");
  EXPECT_EQ(plain["model"], "m");
  EXPECT_EQ(plain["data"][1]["index"], 1);
  EXPECT_EQ(plain["data"][0]["object"], "embedding");
  EXPECT_FLOAT_EQ(plain["data"][0]["embedding"][0].get<float>(), 0.1f);
  EXPECT_EQ(plain["usage"]["prompt_tokens"], 7);
  EXPECT_EQ(plain["usage"]["total_tokens"], 7);
  EXPECT_TRUE(plain["usage"].contains("cost"));
  const auto coded = json::parse(embedding_json(embedded, true));
  EXPECT_EQ(coded["data"][1]["embedding"], "AACAPwAAAAA=") << "python: base64.b64encode(struct.pack('<2f', 1, 0))";
}

TEST(Base64, EveryRestOfThreeBytesIsPadded) {                   // from python's base64
  EXPECT_EQ(base64_of({}), "");
  EXPECT_EQ(base64_of({1.0f}), "AACAPw==");
  EXPECT_EQ(base64_of({1.0f, -1.0f}), "AACAPwAAgL8=");
  EXPECT_EQ(base64_of({1.0f, -1.0f, 0.5f}), "AACAPwAAgL8AAAA/");
}

TEST(TokenizeRequest, PromptsAndChatsArriveAndMistakesAreNamed) {
  const auto text = parse_tokenize(R"({"model":"m","prompt":"hi","add_special_tokens":false,"return_token_strs":true})", kLimits);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(std::get<std::string>(text->prompt), "hi");
  EXPECT_TRUE(!text->add_special_tokens && text->token_strings);
  EXPECT_TRUE(parse_tokenize(R"({"model":"m","prompt":""})", kLimits)) << "nothing is nothing: zero tokens";
  const auto chat = parse_tokenize(R"({"model":"m","messages":[{"role":"user","content":"hi"}],"add_generation_prompt":false})", kLimits);
  ASSERT_TRUE(chat) << chat.error().message;
  EXPECT_FALSE(std::get<gateway::GenerateRequest::Chat>(chat->prompt).opens_answer);
  EXPECT_EQ(json::parse(std::get<gateway::GenerateRequest::Chat>(chat->prompt).messages.text)[0]["content"], "hi");
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model":"m"})", "prompt"},
      {R"({"model":"m","prompt":7})", "prompt"},
      {R"({"model":"m","prompt":"a","messages":[{"role":"user","content":"b"}]})", "prompt"},
      {R"({"model":"m","messages":[]})", "messages"},
      {R"({"model":"m","messages":[{"role":"cat","content":"b"}]})", "messages[0].role"},
      {R"({"model":"m","prompt":"a","add_special_tokens":"yes"})", "add_special_tokens"},
      {R"({"prompt":"a"})", "model"}};
  for (const auto& [body, param] : cases) {
    const auto parsed = parse_tokenize(body, kLimits);
    ASSERT_FALSE(parsed) << body;
    EXPECT_EQ(parsed.error().param, param) << body;
  }
}

TEST(TokenizeAnswer, HasVllmsFields) {
  gateway::Tokenized tokens{.model = "m", .tokens = {5, 6}, .token_strings = {"a\"", "\xff"}, .context_tokens = 100, .rates = {}};
  const auto with = json::parse(tokenize_json(tokens));
  EXPECT_EQ(with, json::parse(R"({"count":2,"max_model_len":100,"tokens":[5,6],"token_strs":["a\"","\ufffd"]})"));
  tokens.token_strings.clear();
  EXPECT_EQ(json::parse(tokenize_json(tokens))["token_strs"], nullptr);
}

TEST(DetokenizeRequest, TakesIdsOnly) {
  const auto parsed = parse_detokenize(R"({"model":"m","tokens":[1,2]})");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->tokens, (std::vector<TokenId>{1, 2}));
  for (const char* body : {R"({"model":"m"})", R"({"model":"m","tokens":"a"})", R"({"model":"m","tokens":[-1]})", R"({"model":"m","tokens":[[1]]})"}) {
    const auto bad = parse_detokenize(body);
    ASSERT_FALSE(bad) << body;
    EXPECT_EQ(bad.error().param, "tokens") << body;
  }
}

}  // namespace
}  // namespace tokenworks::http
