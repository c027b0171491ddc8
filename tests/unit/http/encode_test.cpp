// Bytes on the wire, written by hand from notes on OpenAI's stream order and from its document; never from our own output.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "fake_service.hpp"
#include "http/errors.hpp"
#include "http/json_out.hpp"
#include "http/openai.hpp"

namespace tokenworks::http::test {
namespace {

using nlohmann::json;

RequestId fixed_id() { return *RequestId::parse("req_0192aabbccdd7000800000000000abcd"); }

gateway::AnswerChunk piece(std::string text, std::string finish = "") {
  gateway::AnswerChunk chunk;
  chunk.text = std::move(text);
  chunk.finish = std::move(finish);
  return chunk;
}

TEST(Stream, AChatStreamIsByteForByteWhatOpenAiWouldSend) {
  const auto encoder = openai_stream(OpenAiForm::chat, {.include_usage = true});
  std::string out;
  encoder->begin(start_of(fixed_id()), out);
  encoder->chunk(piece("Hi \"you\"\n"), out);
  encoder->chunk(piece("", "stop"), out);
  encoder->end(receipt_of(fixed_id()), out);
  const std::string head = R"(data: {"id":"chatcmpl-0192aabbccdd7000800000000000abcd","object":"chat.completion.chunk","created":1700000000,)"
                           R"("model":"fake","service_tier":"default","system_fingerprint":"fp_1","choices":[)";
  EXPECT_EQ(out,
            head + R"({"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null})" "\n\n" +
            head + R"({"index":0,"delta":{"content":"Hi \"you\"\n"},"logprobs":null,"finish_reason":null}],"usage":null})" "\n\n" +
            head + R"({"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null})" "\n\n" +
            head + R"(],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,)"
            R"("prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},)"
            R"("completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0},)"
            R"("cost":0.0000074,"cost_details":{"currency":"USD","input":"0.0000006","cached_input":"0.0000002","output":"0.0000066"},)"
            R"("tokenworks":{"request_id":"req_0192aabbccdd7000800000000000abcd","receipt":null}}})" "\n\ndata: [DONE]\n\n");
}

TEST(Stream, WithoutIncludeUsageNoChunkMentionsIt) {
  const auto encoder = openai_stream(OpenAiForm::chat, {});
  std::string out;
  encoder->begin(start_of(fixed_id(), 2), out);
  encoder->chunk(piece("a", "length"), out);
  encoder->end(receipt_of(fixed_id()), out);
  EXPECT_EQ(out.find("usage"), std::string::npos);
  EXPECT_NE(out.find(R"({"index":1,"delta":{"role":"assistant")"), std::string::npos) << "each choice begins with its role";
  EXPECT_TRUE(out.ends_with("\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n"));
}

TEST(Stream, ABudgetStopIsNamedInTheFinishChunk) {
  const auto encoder = openai_stream(OpenAiForm::completion, {});
  std::string out;
  encoder->begin(start_of(fixed_id()), out);
  EXPECT_EQ(out, "");
  gateway::AnswerChunk last = piece("x", "length");
  last.stopped_by_budget = true;
  encoder->chunk(last, out);
  EXPECT_NE(out.find(R"("choices":[{"index":0,"text":"x","logprobs":null,"finish_reason":null}]})"), std::string::npos) << out;
  EXPECT_NE(out.find(R"("choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}],"tokenworks":{"stop":"budget"}})"), std::string::npos) << out;
}

gateway::AnswerChunk with_logprobs() {
  gateway::AnswerChunk chunk = piece("\xc3\xa9!");
  chunk.tokens = {{5, -0.5f, {{5, -0.5f}, {9, -1.25f}}}, {6, -2.0f, {{7, -0.25f}, {6, -2.0f}}}};
  chunk.token_texts = {"\xc3\xa9", "!"};
  chunk.top_texts = {{"\xc3\xa9", "e"}, {"?", "!"}};
  return chunk;
}

TEST(Stream, ChatLogprobsCarryTokenBytesAndAlternatives) {
  const auto encoder = openai_stream(OpenAiForm::chat, {.logprobs = true});
  std::string ignored, out;
  encoder->begin(start_of(fixed_id()), ignored);
  encoder->chunk(with_logprobs(), out);
  const json choice = json::parse(out.substr(6))["choices"][0];
  EXPECT_EQ(choice["logprobs"], json::parse(R"({"content":[
      {"token":"é","logprob":-0.5,"bytes":[195,169],"top_logprobs":[{"token":"é","logprob":-0.5,"bytes":[195,169]},{"token":"e","logprob":-1.25,"bytes":[101]}]},
      {"token":"!","logprob":-2.0,"bytes":[33],"top_logprobs":[{"token":"?","logprob":-0.25,"bytes":[63]},{"token":"!","logprob":-2.0,"bytes":[33]}]}],
      "refusal":null})"));
}

TEST(Stream, CompletionLogprobsCountOffsetsInCharactersAcrossChunks) {
  const auto encoder = openai_stream(OpenAiForm::completion, {.logprobs = true});
  std::string out;
  encoder->begin(start_of(fixed_id()), out);
  encoder->chunk(with_logprobs(), out);
  const std::string first = out;
  out.clear();
  encoder->chunk(with_logprobs(), out);
  EXPECT_EQ(json::parse(first.substr(6))["choices"][0]["logprobs"]["text_offset"], json::parse("[0,1]"));
  EXPECT_EQ(json::parse(out.substr(6))["choices"][0]["logprobs"]["text_offset"], json::parse("[2,3]"));
  EXPECT_EQ(json::parse(first.substr(6))["choices"][0]["logprobs"]["top_logprobs"][1], json::parse(R"({"?":-0.25,"!":-2.0})"));
}

// "<s>" begins every sequence of some models and stands in no text; "Zü" is cut inside its second character.
TEST(Stream, AnEchoedPromptsOffsetsAreThoseOfItsTextAndTheOutputGoesOnAfterIt) {
  const auto encoder = openai_stream(OpenAiForm::completion, false, true);
  std::string out;
  encoder->begin(start_of(fixed_id()), out);
  gateway::AnswerChunk chunk = piece("Z\xc3\xbc is!");
  chunk.echoed_bytes = 6;
  chunk.echoed_tokens = 4;
  for (const char* text : {"<s>", "Z\xc3", "\xbc", " is", "!"}) {
    chunk.token_texts.push_back(text);
    chunk.tokens.push_back({1, chunk.tokens.empty() ? std::nanf("") : -1.5f, {}});
  }
  encoder->chunk(chunk, out);
  const json first = json::parse(out.substr(6))["choices"][0];
  EXPECT_EQ(first["text"], "Zü is!");
  EXPECT_EQ(first["logprobs"]["text_offset"], json::parse("[0,0,2,2,5]"));
  EXPECT_TRUE(first["logprobs"]["token_logprobs"][0].is_null());
  EXPECT_TRUE(first["logprobs"]["top_logprobs"][0].is_null());
  EXPECT_EQ(first["logprobs"]["token_logprobs"][4], -1.5);
  out.clear();
  encoder->chunk(with_logprobs(), out);
  EXPECT_EQ(json::parse(out.substr(6))["choices"][0]["logprobs"]["text_offset"], json::parse("[6,7]"));
}

TEST(Whole, ChoicesAreGatheredInTheirPlaces) {
  const auto encoder = openai_whole(OpenAiForm::completion, true);
  encoder->begin(start_of(fixed_id(), 2));
  gateway::AnswerChunk second = with_logprobs();
  second.choice = 1;
  encoder->chunk(std::move(second));
  encoder->chunk(piece("a"));
  gateway::AnswerChunk prompt = piece("b", "length");   // the first token of an echoed prompt has no probability
  prompt.tokens = {{1, std::nanf(""), {}}};
  prompt.token_texts = {"b"};
  encoder->chunk(std::move(prompt));
  const json answer = json::parse(encoder->end(receipt_of(fixed_id())));
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["id"], "cmpl-0192aabbccdd7000800000000000abcd");
  EXPECT_EQ(answer["choices"][0]["text"], "ab");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(answer["choices"][0]["logprobs"]["token_logprobs"][0].is_null());
  EXPECT_EQ(answer["choices"][1]["text"], "\xc3\xa9!");
  EXPECT_EQ(answer["choices"][1]["logprobs"]["tokens"], json::parse(R"(["é","!"])"));
  EXPECT_EQ(answer["choices"][1]["index"], 1);
}

TEST(Json, StringsAreWhatAStrictParserReadsBack) {
  std::string all;
  for (int c = 0; c < 0x80; ++c) all += static_cast<char>(c);
  all += "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80";
  std::string out;
  append_string(out, all);
  EXPECT_EQ(json::parse(out).get<std::string>(), all);
  // Overlong, lone surrogate, beyond U+10FFFF, cut off, stray tail: each becomes U+FFFD, never illegal JSON.
  for (const std::string bad : {"\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}) {
    out.clear();
    append_string(out, "a" + bad + "b");
    const std::string read = json::parse(out).get<std::string>();
    EXPECT_TRUE(read.starts_with("a\xef\xbf\xbd") && read.ends_with("b")) << out;
  }
}

TEST(Json, MoneyIsWrittenDigitByDigit) {
  gateway::Receipt receipt = receipt_of(fixed_id());
  receipt.cost = Money{9'007'199'254'740'993};       // 2^53 + 1: a double has no such number
  std::string out;
  append_usage(out, receipt);
  EXPECT_NE(out.find(R"("cost":9007199.254740993,)"), std::string::npos) << out;
}

// Every code of INTERFACE's table, and the retry headers notes/wire.md A2 says SDKs obey.
TEST(Errors, EveryCodeHasTheStatusAndShapeOfTheInterface) {
  const std::pair<Errc, int> table[] = {
      {Errc::invalid_request, 400}, {Errc::context_length_exceeded, 400}, {Errc::unsupported_parameter, 400}, {Errc::bad_config, 400},
      {Errc::invalid_api_key, 401}, {Errc::model_not_allowed, 403}, {Errc::model_not_allowed_now, 403}, {Errc::residency_violation, 403},
      {Errc::insufficient_permissions, 403}, {Errc::model_not_found, 404}, {Errc::not_found, 404}, {Errc::method_not_allowed, 405},
      {Errc::request_timeout, 408}, {Errc::idempotency_in_progress, 409}, {Errc::declared_in_config, 409}, {Errc::body_too_large, 413},
      {Errc::unsupported_media_type, 415}, {Errc::idempotency_mismatch, 422}, {Errc::rate_limit_exceeded, 429},
      {Errc::concurrency_limit_exceeded, 429}, {Errc::insufficient_quota, 429}, {Errc::headers_too_large, 431}, {Errc::cancelled, 499},
      {Errc::engine_failed, 500}, {Errc::internal, 500}, {Errc::bad_file, 500}, {Errc::io, 500}, {Errc::server_is_overloaded, 503},
      {Errc::server_draining, 503}, {Errc::ledger_unavailable, 503}, {Errc::deadline_exceeded, 504}};
  EXPECT_EQ(std::size(table), static_cast<std::size_t>(Errc::cancelled) + 1) << "a code is missing here";
  for (const auto& [code, status] : table) {
    Error e = error(code, "secret detail", "field");
    e.retry_after_ms = 1500;
    const Reply reply = error_reply(e);
    EXPECT_EQ(reply.status, status) << name(code);
    const json body = json::parse(reply.body)["error"];
    EXPECT_EQ(body.size(), 4u);
    EXPECT_EQ(body["code"], name(code));
    EXPECT_EQ(body["param"], "field");
    EXPECT_FALSE(body["type"].get<std::string>().empty());
    const bool opaque = code == Errc::internal || code == Errc::bad_file || code == Errc::io;
    EXPECT_EQ(reply.body.find("secret detail") == std::string::npos, opaque) << name(code);
    const bool retried = status == 429 || status == 503 || code == Errc::idempotency_in_progress;
    EXPECT_EQ(reply.headers.get("retry-after"), retried && code != Errc::insufficient_quota ? "2" : "") << name(code);
    EXPECT_EQ(reply.headers.get("x-should-retry"), code == Errc::insufficient_quota || code == Errc::declared_in_config ? "false" : "") << name(code);
  }
  EXPECT_TRUE(json::parse(error_json(error(Errc::not_found, "x")))["error"]["param"].is_null());
}

// Printed, not asserted: a busy machine must not fail a test. docs/benchmarks.md states the number.
TEST(Stream, TheCostOfAStreamedTokenIsPrinted) {
  const auto encoder = openai_stream(OpenAiForm::chat, {.include_usage = true});
  std::string out;
  encoder->begin(start_of(fixed_id()), out);
  const gateway::AnswerChunk chunk = piece(" token\n");
  constexpr int kTokens = 200'000;
  const auto begin = std::chrono::steady_clock::now();
  std::size_t bytes = 0;
  for (int i = 0; i < kTokens; ++i) {
    out.clear();
    encoder->chunk(chunk, out);
    bytes += out.size();
  }
  const double ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count() / kTokens;
  std::printf("streamed token: %.0f ns, %zu bytes\n", ns, bytes / kTokens);
  EXPECT_GT(bytes, 0u);
}

}  // namespace
}  // namespace tokenworks::http::test
