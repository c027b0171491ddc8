// The front door over real sockets on loopback, against a fake service.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "gzip.hpp"
#include "http/server_tuning.hpp"
#include "raw_client.hpp"

namespace tokenworks::http::test {
namespace {

using nlohmann::json;

TEST(Server, AChatAnswerHasEveryFieldOpenAiRequires) {
  Plant plant;
  const Response response = plant.client().ask(post("/v1/chat/completions", chat_body("fake")));
  ASSERT_EQ(response.status, 200) << response.raw;
  const json body = json::parse(response.body);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "fake");
  EXPECT_EQ(body["created"], 1700000000);
  EXPECT_EQ(body["system_fingerprint"], "fp_1");
  EXPECT_EQ(body["service_tier"], "default");
  const json& choice = body["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "Hello \xc3\xa9\n\"\\");
  EXPECT_TRUE(choice["message"].contains("refusal") && choice["message"]["refusal"].is_null());
  EXPECT_TRUE(choice.contains("logprobs") && choice["logprobs"].is_null());
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["prompt_tokens"], 10);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
  EXPECT_NE(response.body.find(R"("cost":0.0000074,)"), std::string::npos) << response.body;
  const std::string id = body["usage"]["tokenworks"]["request_id"];
  EXPECT_EQ(response.headers.get("x-request-id"), id);
  EXPECT_EQ("chatcmpl-" + id.substr(4), body["id"]);
  EXPECT_EQ(response.headers.get("x-ratelimit-limit-requests"), "60");
  EXPECT_EQ(response.headers.get("x-ratelimit-reset-requests"), "1s");
  EXPECT_EQ(response.headers.get("x-ratelimit-reset-tokens"), "6m0s");
  EXPECT_FALSE(response.headers.get("openai-processing-ms").empty());
}

TEST(Server, AStreamArrivesInOpenAisOrderAndTheConnectionGoesOn) {
  Plant plant;
  RawClient client = plant.client();
  const std::string body = R"({"model":"fake","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}})";
  for (int round = 0; round < 3; ++round) {
    const Response response = client.ask(post("/v1/chat/completions", body));
    ASSERT_EQ(response.status, 200) << response.raw;
    EXPECT_EQ(response.headers.get("content-type"), "text/event-stream; charset=utf-8");
    EXPECT_EQ(response.headers.get("cache-control"), "no-cache");
    EXPECT_EQ(response.headers.get("x-accel-buffering"), "no");
    std::vector<std::string> events;
    for (std::size_t at = 0; at < response.body.size();) {
      const std::size_t end = response.body.find("\n\n", at);
      ASSERT_NE(end, std::string::npos);
      ASSERT_EQ(response.body.compare(at, 6, "data: "), 0);
      events.push_back(response.body.substr(at + 6, end - at - 6));
      at = end + 2;
    }
    ASSERT_EQ(events.size(), 7u);                    // role, three deltas, finish, usage, [DONE]
    EXPECT_EQ(json::parse(events[0])["choices"][0]["delta"]["role"], "assistant");
    EXPECT_EQ(json::parse(events[3])["choices"][0]["delta"]["content"], " \xc3\xa9\n\"\\");
    EXPECT_TRUE(json::parse(events[4])["choices"][0]["delta"].empty());
    EXPECT_EQ(json::parse(events[4])["choices"][0]["finish_reason"], "stop");
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(json::parse(events[static_cast<std::size_t>(i)])["usage"].is_null());
    EXPECT_TRUE(json::parse(events[5])["choices"].empty());
    EXPECT_EQ(json::parse(events[5])["usage"]["total_tokens"], 13);
    EXPECT_EQ(events[6], "[DONE]");
  }
}

TEST(Server, AnHttp10ClientGetsAStreamThatEndsWithTheConnection) {
  Plant plant;
  RawClient client = plant.client();
  const std::string body = chat_body("fake", true);
  client.send("POST /v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer " + std::string(kKey) + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.get("transfer-encoding"), "");
  EXPECT_TRUE(response.body.starts_with("data: {")) << response.body;
  EXPECT_TRUE(response.body.ends_with("data: [DONE]\n\n"));
}

TEST(Server, PipelinedRequestsAreAnsweredInTheirOrder) {
  Plant plant;
  RawClient client = plant.client();
  std::string all;
  for (int i = 0; i < 50; ++i) all += i % 2 == 0 ? get("/v1/models") : post("/v1/chat/completions", chat_body("fake", i % 4 == 1));
  client.send(all);
  for (int i = 0; i < 50; ++i) {
    const Response response = client.read_response();
    ASSERT_EQ(response.status, 200) << i;
    ASSERT_EQ(response.body.find(R"("object":"list")") != std::string::npos, i % 2 == 0) << i;
    ASSERT_EQ(response.headers.get("transfer-encoding") == "chunked", i % 4 == 1) << i;
  }
}

TEST(Server, ARequestMayArriveByteByByte) {
  Plant plant;
  RawClient client = plant.client();
  for (const char c : "\r\n" + post("/v1/chat/completions", chat_body("fake"))) client.send(std::string_view(&c, 1));
  EXPECT_EQ(client.read_response().status, 200);
}

TEST(Server, ChunkedBodiesAreReadAndTheirTrailersMeanNothing) {
  Plant plant;
  RawClient client = plant.client();
  const std::string body = chat_body("fake");
  std::string bytes = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + std::string(kKey) + "\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char c : body) bytes += std::string("1;ext=1\r\n") + c + "\r\n";
  bytes += "0\r\nX-Request-Timeout: nonsense\r\n\r\n";
  EXPECT_EQ(client.ask(bytes).status, 200);
  EXPECT_EQ(client.ask(get("/v1/models")).status, 200);
}

TEST(Server, AClientThatAsksFirstIsToldToContinue) {
  Plant plant;
  RawClient client = plant.client();
  const std::string request = post("/v1/chat/completions", chat_body("fake"), "Expect: 100-continue\r\n");
  const std::size_t split = request.find("\r\n\r\n") + 4;
  client.send(request.substr(0, split));
  ASSERT_TRUE(client.read_until("HTTP/1.1 100 Continue\r\n\r\n"));
  client.send(request.substr(split));
  EXPECT_EQ(client.read_response().status, 200);
}

TEST(Server, AClientThatAsksFirstWithoutAKeyIsRefusedBeforeItSendsItsBody) {
  Plant plant;
  RawClient client = plant.client();
  client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n");
  const Response response = client.read_response();
  EXPECT_EQ(response.status, 401);
  EXPECT_EQ(response.raw.find("100 Continue"), std::string::npos);
  EXPECT_TRUE(client.at_end());
}

TEST(Server, AClientThatVanishesMidStreamIsNoticedAtOnce) {
  Plant plant;
  for (const bool hard : {false, true}) {
    for (const bool stream : {false, true}) {
      const int before = plant.service.departures;
      RawClient client = plant.client();
      client.send(post("/v1/chat/completions", chat_body("wait", stream)));
      if (stream) client.read_until("assistant");
      ASSERT_TRUE(eventually([&] { return plant.server->requests_in_flight() == 1; }));
      if (hard) {
        client.reset();
      } else {
        client.close();
      }
      EXPECT_TRUE(eventually([&] { return plant.service.departures == before + 1; }));
      EXPECT_TRUE(eventually([&] { return plant.server->requests_in_flight() == 0; }));
    }
  }
  EXPECT_NE(plant.metrics->expose(false).find("status=\"499\"} 4"), std::string::npos);
}

TEST(Server, AHalfClosedConnectionCountsAsLeft) {
  Plant plant;
  RawClient client = plant.client();
  client.send(post("/v1/chat/completions", chat_body("wait", true)));
  client.read_until("assistant");
  client.half_close();
  EXPECT_TRUE(eventually([&] { return plant.service.departures == 1; }));
}

TEST(Server, AReaderThatStallsIsCutOffAfterTheWriteTimeout) {
  Plant plant([](ServerOptions& o) { o.limits.write_timeout_ns = 100'000'000; });
  RawClient client(plant.server->api_urls()[0], 4096);
  client.send(post("/v1/chat/completions", chat_body("flood", true)));
  EXPECT_TRUE(eventually([&] { return plant.service.departures == 1; }));
  EXPECT_TRUE(eventually([&] { return plant.server->requests_in_flight() == 0; }));
}

TEST(Server, ASlowReaderThatMakesProgressIsNotCutOff) {
  Plant plant([](ServerOptions& o) { o.limits.write_timeout_ns = 10'000'000'000; });   // this reader may have to wait for a core
  RawClient client(plant.server->api_urls()[0], 4096);
  client.send(post("/v1/chat/completions", chat_body("flood", true)));
  std::size_t read = 0;
  while (read < (8u << 20)) {
    ASSERT_TRUE(client.fill()) << "cut off after " << read;
    read += client.buffer().size();
    client.buffer().clear();
  }
  EXPECT_EQ(plant.service.departures, 0);
}

TEST(Server, AQuietStreamIsKeptAliveByComments) {
  ping_interval() = std::chrono::milliseconds(5);
  Plant plant;
  ping_interval() = std::chrono::seconds(15);
  const Response response = plant.client().ask(post("/v1/chat/completions", chat_body("quiet", true)));
  ASSERT_EQ(response.status, 200);
  const std::size_t ping = response.body.find(": ping\n\n");
  ASSERT_NE(ping, std::string::npos) << response.body;
  EXPECT_LT(ping, response.body.find("Hel"));
  EXPECT_TRUE(response.body.ends_with("data: [DONE]\n\n"));
}

TEST(Server, ARequestThatTricklesIsAnsweredWith408) {
  Plant plant([](ServerOptions& o) { o.limits.read_timeout_ns = 50'000'000; });
  RawClient head = plant.client();
  head.send("GET /v1/models HTT");
  EXPECT_EQ(head.read_response().status, 408);
  EXPECT_TRUE(head.at_end());
  RawClient body = plant.client();
  body.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + std::string(kKey) + "\r\nContent-Length: 100\r\n\r\n{");
  EXPECT_EQ(body.read_response().status, 408);
  EXPECT_TRUE(body.at_end());
  RawClient silent = plant.client();                 // never said anything: closed without a word
  EXPECT_TRUE(silent.at_end());
  EXPECT_EQ(silent.buffer(), "");
}

TEST(Server, AnIdleConnectionIsClosedAfterItsTime) {
  Plant plant([](ServerOptions& o) { o.limits.idle_timeout_ns = 30'000'000; });
  RawClient client = plant.client();
  EXPECT_EQ(client.ask(get("/v1/models")).status, 200);
  EXPECT_TRUE(client.at_end());
}

TEST(Server, LargeBodiesAreRefusedWhileTheyAreSent) {
  Plant plant([](ServerOptions& o) { o.limits.body_bytes = 1000; });
  RawClient declared = plant.client();
  EXPECT_EQ(declared.ask(post("/v1/chat/completions", std::string(100'000, ' '))).status, 413);
  EXPECT_TRUE(declared.at_end());
  RawClient chunked = plant.client();
  chunked.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + std::string(kKey) + "\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 100; ++i) chunked.send("64\r\n" + std::string(100, ' ') + "\r\n");
  EXPECT_EQ(chunked.read_response().status, 413);
}

TEST(Server, LargeHeadersAreRefused) {
  Plant plant([](ServerOptions& o) { o.limits.header_bytes = 4096; });
  RawClient one = plant.client();
  EXPECT_EQ(one.ask("GET /v1/models HTTP/1.1\r\nHost: x\r\nX-A: " + std::string(5000, 'a') + "\r\n\r\n").status, 431);
  EXPECT_TRUE(one.at_end());
  RawClient endless = plant.client();
  endless.send("GET /v1/models HTTP/1.1\r\n");
  for (int i = 0; i < 10'000; ++i) {
    if (!endless.send("X-A: b\r\n")) break;
  }
  EXPECT_EQ(endless.read_response().status, 431);
}

TEST(Server, ConnectionsBeyondTheLimitAreToldAndClosed) {
  Plant plant([](ServerOptions& o) { o.limits.connections = 4; });
  std::vector<RawClient> kept;
  for (int i = 0; i < 4; ++i) {
    kept.push_back(plant.client());
    ASSERT_EQ(kept.back().ask(get("/v1/models")).status, 200);
  }
  RawClient fifth = plant.client();
  const Response refused = fifth.read_response();
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(json::parse(refused.body)["error"]["code"], "server_is_overloaded");
  EXPECT_TRUE(fifth.at_end());
  EXPECT_EQ(plant.admin().ask(get("/livez", "")).status, 200);
  kept.clear();
  EXPECT_TRUE(eventually([&] { return plant.client().ask(get("/v1/models")).status == 200; }));
}

TEST(Server, HundredsOfIdleConnectionsLeaveRoomForOneThatAsks) {
  Plant plant;
  std::vector<RawClient> idle;
  for (int i = 0; i < 900; ++i) {
    idle.push_back(plant.client());
    if (i % 3 == 0) idle.back().send("GET /v1/mod");   // slow ones among them
  }
  EXPECT_EQ(plant.client().ask(post("/v1/chat/completions", chat_body("fake"))).status, 200);
  EXPECT_EQ(plant.admin().ask(get("/livez", "")).status, 200);
  const std::string whole = get("/v1/models"), rest = whole.substr(std::string("GET /v1/mod").size());
  for (std::size_t i = 0; i < idle.size(); ++i) ASSERT_EQ(idle[i].ask(i % 3 == 0 ? rest : whole).status, 200) << i;
}

TEST(Server, ADefectInAHandlerIsAnOpaque500AndTheServerLives) {
  Plant plant;
  RawClient client = plant.client();
  const Response response = client.ask(post("/v1/chat/completions", chat_body("throw")));
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.body.find("planted"), std::string::npos);
  EXPECT_EQ(json::parse(response.body)["error"]["code"], "internal_error");
  EXPECT_TRUE(client.at_end());
  RawClient streaming = plant.client();
  EXPECT_EQ(streaming.ask(post("/v1/chat/completions", chat_body("throw-late", true))).status, 0) << "a broken stream must look broken";
  EXPECT_EQ(plant.client().ask(get("/v1/models")).status, 200);
}

TEST(Server, AFailureAfterTheStartIsAnEventOfTheStream) {
  Plant plant;
  const Response response = plant.client().ask(post("/v1/chat/completions", chat_body("fail-late", true)));
  EXPECT_EQ(response.status, 200);
  const std::size_t event = response.body.find(R"(data: {"error":{"message":"the engine failed","type":"server_error","param":null,"code":"engine_failed"}})");
  EXPECT_NE(event, std::string::npos) << response.body;
  EXPECT_EQ(response.body.find("[DONE]"), std::string::npos);
  EXPECT_EQ(plant.client().ask(post("/v1/chat/completions", chat_body("fail-late"))).status, 500);
  EXPECT_EQ(plant.client().ask(post("/v1/chat/completions", chat_body("broken"))).status, 500);
}

TEST(Server, AStreamCutOffByItsDeadlineSaysSoAndSpeaksOfNoShutdown) {
  Plant plant;
  const Response stream = plant.client().ask(post("/v1/chat/completions", chat_body("late", true)));
  EXPECT_EQ(stream.status, 200);
  EXPECT_NE(stream.body.find(R"(data: {"error":{"message":"the time was over","type":"server_error","param":null,"code":"deadline_exceeded"}})"), std::string::npos)
      << stream.body;
  EXPECT_EQ(stream.body.find("[DONE]"), std::string::npos);
  EXPECT_EQ(plant.client().ask(post("/v1/chat/completions", chat_body("late"))).status, 504);
}

TEST(Server, AnAnswerStoppedByItsBudgetSaysSo) {
  Plant plant;
  const Response whole = plant.client().ask(post("/v1/chat/completions", chat_body("budget")));
  EXPECT_EQ(whole.headers.get("x-tokenworks-stop"), "budget");
  EXPECT_EQ(json::parse(whole.body)["choices"][0]["finish_reason"], "length");
  const Response stream = plant.client().ask(post("/v1/chat/completions", chat_body("budget", true)));
  EXPECT_NE(stream.body.find(R"("finish_reason":"length"}],"tokenworks":{"stop":"budget"}})"), std::string::npos) << stream.body;
}

TEST(Server, RefusalsCarryTheHeadersSdksObey) {
  Plant plant({}, [](FakeService& s) {
    Error rate = error(Errc::rate_limit_exceeded, "too many requests");
    rate.retry_after_ms = 1234;
    s.refusals["rate"] = rate;
    s.refusals["quota"] = error(Errc::insufficient_quota, "the budget is used up");
  });
  RawClient client = plant.client();
  for (const bool stream : {false, true}) {
    const Response rate = client.ask(post("/v1/chat/completions", chat_body("rate", stream)));
    EXPECT_EQ(rate.status, 429);
    EXPECT_EQ(rate.headers.get("retry-after"), "2");
    EXPECT_EQ(rate.headers.get("retry-after-ms"), "1234");
    EXPECT_EQ(rate.headers.count("x-should-retry"), 0u);
    EXPECT_TRUE(RequestId::parse(rate.headers.get("x-request-id")));
    const Response quota = client.ask(post("/v1/chat/completions", chat_body("quota", stream)));
    EXPECT_EQ(quota.status, 429);
    EXPECT_EQ(quota.headers.get("x-should-retry"), "false");
    EXPECT_EQ(quota.headers.count("retry-after"), 0u);
  }
}

TEST(Server, GzipBodiesAreReadAndBoundedAfterInflation) {
  Plant plant([](ServerOptions& o) { o.limits.body_bytes = 100'000; });
  const Response ok = plant.client().ask(post("/v1/chat/completions", gzip(chat_body("fake")), "Content-Encoding: gzip\r\n"));
  EXPECT_EQ(ok.status, 200) << ok.body;
  EXPECT_EQ(plant.client().ask(post("/v1/chat/completions", gzip(std::string(200'000, ' ')), "Content-Encoding: gzip\r\n")).status, 413);
  EXPECT_EQ(plant.client().ask(post("/v1/chat/completions", "no gzip", "Content-Encoding: gzip\r\n")).status, 400);
  EXPECT_EQ(plant.client().ask(post("/v1/chat/completions", "x", "Content-Encoding: br\r\n")).status, 415);
}

TEST(Server, HeadersOfTheRequestReachTheGateway) {
  Plant plant;
  RawClient client = plant.client();
  client.ask(post("/v1/chat/completions", chat_body("fake"), "X-Request-Timeout: 2.5\r\nX-Stainless-Retry-Count: 2\r\nX-Stainless-Lang: python\r\n"));
  EXPECT_EQ(plant.service.last().timeout_ns, 2'500'000'000);
  EXPECT_EQ(plant.service.last().retry_count, 2);
  const Response bad = client.ask(post("/v1/chat/completions", chat_body("fake"), "X-Request-Timeout: soon\r\n"));
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(json::parse(bad.body)["error"]["param"], "x-request-timeout");
}

TEST(Server, HeadIsAnsweredOnGetRoutesWithoutABody) {
  Plant plant;
  RawClient client = plant.client();
  const std::size_t length = client.ask(get("/v1/models")).body.size();
  std::string head = get("/v1/models");
  head.replace(0, 3, "HEAD");
  client.send(head);
  const Response response = client.read_response(true);
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.get("content-length"), std::to_string(length));
  EXPECT_EQ(client.ask(get("/v1/models")).status, 200) << "a body after HEAD would have been read as an answer";
}

TEST(Server, BrowsersMayAskFirst) {
  Plant plant;
  RawClient client = plant.client();
  const Response preflight = client.ask(
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n"
      "Access-Control-Request-Headers: authorization,content-type,x-stainless-lang\r\n\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.headers.get("access-control-allow-origin"), "*");
  EXPECT_EQ(preflight.headers.get("access-control-allow-headers"), "authorization,content-type,x-stainless-lang");
  EXPECT_EQ(preflight.headers.get("access-control-allow-methods"), "POST, OPTIONS");
  const Response answer = client.ask(get("/v1/models", kKey, "Origin: https://app.example\r\n"));
  EXPECT_EQ(answer.headers.get("access-control-allow-origin"), "*");
  EXPECT_NE(answer.headers.get("access-control-expose-headers").find("x-request-id"), std::string_view::npos);
  const Response refused = client.ask(get("/v1/models", "", "Origin: https://app.example\r\n"));
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.headers.get("access-control-allow-origin"), "*") << "a page must be able to read its 401";
  EXPECT_EQ(plant.admin().ask("OPTIONS /metrics HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\r\n")
                .headers.count("access-control-allow-origin"), 0u);
}

TEST(Server, WrongMethodsAndPathsAreToldApart) {
  Plant plant;
  RawClient client = plant.client();
  const Response method = client.ask("GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.headers.get("allow"), "POST, OPTIONS");
  const Response odd = client.ask("BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(odd.status, 405);
  EXPECT_EQ(odd.headers.get("allow"), "GET, HEAD, OPTIONS");
  const Response path = client.ask(get("/v1/nothing"));
  EXPECT_EQ(path.status, 404);
  EXPECT_EQ(json::parse(path.body)["error"]["code"], "not_found");
  EXPECT_EQ(client.ask(get("/metrics")).status, 404) << "the admin table is not reachable from the public listener";
  EXPECT_EQ(client.ask(get("/admin/v1/keys", "sk-tw-operator")).status, 404);
}

TEST(Server, ModelsAreFoundByIdsWithSlashes) {
  Plant plant;
  RawClient client = plant.client();
  EXPECT_EQ(json::parse(client.ask(get("/v1/models")).body)["data"][0]["object"], "model");
  for (const char* path : {"/v1/models/fake", "/v1/models/org/fake", "/v1/models/org%2Ffake"}) {
    const Response response = client.ask(get(path));
    ASSERT_EQ(response.status, 200) << path;
    const json card = json::parse(response.body);
    EXPECT_EQ(card["id"], "fake");
    EXPECT_EQ(card["owned_by"], "tokenworks");
    EXPECT_EQ(card["tokenworks"]["digest"], "d1");
  }
  EXPECT_EQ(client.ask(get("/v1/models/none")).status, 404);
  EXPECT_EQ(client.ask(get("/v1/models/%zz")).status, 404);
}

TEST(Server, KeysAreAskedForAndNeverRepeated) {
  Plant plant;
  RawClient client = plant.client();
  EXPECT_EQ(client.ask(get("/v1/models", "")).status, 401);
  const Response wrong = client.ask(get("/v1/models", "sk-tw-wrong"));
  EXPECT_EQ(wrong.status, 401);
  EXPECT_EQ(wrong.headers.get("www-authenticate"), "Bearer");
  EXPECT_EQ(wrong.body.find("sk-tw-wrong"), std::string::npos);
  EXPECT_EQ(client.ask("GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Basic c2s6\r\n\r\n").status, 401);
}

TEST(Server, DrainLetsRunningAnswersFinishAndClosesIdleConnections) {
  Plant plant([](ServerOptions& o) { o.io_threads = 2; }, [](FakeService& s) { s.quiet_for = std::chrono::seconds(2); });   // longer than this thread may be kept waiting
  RawClient idle = plant.client(), busy = plant.client();
  EXPECT_EQ(idle.ask(get("/v1/models")).status, 200);
  busy.send(post("/v1/chat/completions", chat_body("quiet")));
  ASSERT_TRUE(eventually([&] { return plant.server->requests_in_flight() == 1; }));
  plant.server->drain();
  EXPECT_TRUE(idle.at_end());
  const Response response = busy.read_response();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.get("connection"), "close");
  EXPECT_TRUE(busy.at_end());
  EXPECT_EQ(plant.admin().ask(get("/livez", "")).status, 200) << "probes are answered until the end";
  ASSERT_TRUE(eventually([&] { return plant.server->requests_in_flight() == 0; }));
}

TEST(Server, StopEndsRunningAnswersAndTellsTheService) {
  Plant plant;
  RawClient client = plant.client();
  client.send(post("/v1/chat/completions", chat_body("wait", true)));
  client.read_until("assistant");
  plant.server->stop();
  EXPECT_EQ(plant.service.departures, 1);
  EXPECT_TRUE(client.at_end());
}

TEST(Server, RequestsOnSeveralThreadsAreAllAnsweredAndCounted) {
  Plant plant([](ServerOptions& o) { o.io_threads = 3; });
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      RawClient client = plant.client();
      for (int i = 0; i < 50; ++i) {
        if (client.ask(post("/v1/chat/completions", chat_body("fake", (i + t) % 2 == 0))).status == 200) ++good;
        if (i % 10 == 9) plant.admin().ask(get("/metrics", ""));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 200);
  // A request is counted after its last byte was written: the client may know its answer a moment earlier.
  ASSERT_TRUE(eventually([&] { return plant.server->requests_in_flight() == 0; }));
  const std::string text = plant.metrics->expose(false);
  EXPECT_NE(text.find(R"(tokenworks_requests_total{model="fake",organization="acme",status="200"} 200)"), std::string::npos);
  EXPECT_NE(text.find(R"(tokenworks_tokens_total{class="cached_input",model="fake",organization="acme"} 800)"), std::string::npos);
  EXPECT_NE(text.find("tokenworks_time_to_first_token_seconds_count 200"), std::string::npos);
  EXPECT_NE(text.find("tokenworks_request_seconds_count 200"), std::string::npos);
}

}  // namespace
}  // namespace tokenworks::http::test
