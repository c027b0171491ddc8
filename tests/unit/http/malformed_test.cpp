// Broken HTTP, byte by byte: each gets a clear 4xx, the connection is closed where its framing cannot be trusted, and what
// a smuggler hid behind it is never taken for a request.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "http/head.hpp"
#include "raw_client.hpp"

namespace tokenworks::http::test {
namespace {

const std::string kAuth = "Authorization: Bearer " + std::string(kKey) + "\r\n";
const std::string kPost = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + kAuth;

std::vector<std::string> broken_framings() {
  std::vector<std::string> all{
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", " GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET\r\n\r\n",
      "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
      "GET / http/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\nHost: x\n\n", "GET /\r\n\r\n", "G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET v1/models HTTP/1.1\r\nHost: x\r\n\r\n", "GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "GET / HTTP/1.1\r\nHost: [a]b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", "GET http://u@h/ HTTP/1.1\r\nHost: x\r\n\r\n", "GET http:///v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n\tb\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX: a\x01" "b\r\n\r\n", std::string("GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 35),
      "GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nX y: a\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /v1/models HTTP/1.1\r\nHost: x\r\n" + kAuth + "authorization: Bearer another\r\n\r\n"};
  // Lengths and codings that two parsers could read differently (RFC 9112 6.3).
  for (const std::string headers :
       {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5, 5\r\n", "Content-Length: +5\r\n", "Content-Length: -1\r\n", "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n", "Content-Length: \r\n", "Content-Length: 99999999999999999999999\r\n", "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, gzip\r\n", "Transfer-Encoding: chunked, chunked\r\n", "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding:\x0b" "chunked\r\n", "Transfer-Encoding : chunked\r\n", "Transfer-Encoding: \"chunked\"\r\n", "Transfer-Encoding: chunked;q=1\r\n"}) {
    all.push_back(kPost + headers + "\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: x\r\n" + kAuth + "\r\n");
  }
  for (const std::string chunks : {"zz\r\n", "-1\r\nx\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "5;\x01\r\nhello\r\n", "\r\n\r\n", "5 5\r\nhello\r\n", "0x5\r\nhello\r\n",
                                   "FFFFFFFFFFFFFFFFF\r\n", "5\nhello\n0\n\n", "G\r\n"}) {
    all.push_back(kPost + "Transfer-Encoding: chunked\r\n\r\n" + chunks + std::string(20, '\n') + "GET /v1/models HTTP/1.1\r\nHost: x\r\n" + kAuth + "\r\n");
  }
  all.push_back("POST /v1/chat/completions HTTP/1.0\r\n" + kAuth + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  return all;
}

TEST(Malformed, BrokenFramingIsRefusedAndTheConnectionEndsThere) {
  Plant plant;
  for (const std::string& bytes : broken_framings()) {
    RawClient client = plant.client();
    client.send(bytes);
    const Response response = client.read_response();
    EXPECT_TRUE(response.status >= 400 && response.status < 500) << response.status << " for " << bytes.substr(0, 220);
    EXPECT_EQ(nlohmann::json::parse(response.body)["error"].size(), 4u);
    EXPECT_TRUE(RequestId::parse(response.headers.get("x-request-id")));
    EXPECT_EQ(response.headers.get("connection"), "close") << bytes.substr(0, 220);
    EXPECT_TRUE(client.at_end());
    EXPECT_EQ(client.buffer(), "") << "a second answer: what was hidden behind " << bytes.substr(0, 220);
  }
  EXPECT_EQ(plant.service.generated, 0);
}

TEST(Malformed, RefusedRequestsWithSoundFramingKeepTheConnection) {
  Plant plant;
  RawClient client = plant.client();
  for (const auto& [request, status] : std::initializer_list<std::pair<std::string, int>>{
           {post("/v1/chat/completions", ""), 400}, {post("/v1/chat/completions", "{"), 400}, {post("/v1/nothing", "{}"), 404},
           {get("/v1/chat/completions"), 405}, {get("/v1/models?a=%zz"), 400}, {get("/v1/models", "wrong"), 401},
           {kPost + "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415},
           {kPost + "Expect: tea\r\nContent-Length: 2\r\n\r\n{}", 417}}) {
    EXPECT_EQ(client.ask(request).status, status) << request;
  }
  EXPECT_EQ(client.ask(get("/v1/models")).status, 200);
}

// Also data that looks like a size line, the end of the body, or a mistake, at the start of a piece.
TEST(Malformed, AChunkedBodyMayArriveInAnyPieces) {
  const std::string head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& body : {std::string("0\r\n\r\n"), std::string("0;x=y\r\nA: b\r\n\r\n"), std::string("1\r\n{\r\n0\r\n\r\n"), std::string("2\r\n{}\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
                                 std::string("8 ;q=\"a;b\"\r\n0}0\r\n\r\n0\r\n00a  \r\n0z\r\n0;\r\n0\r\r\n000;a=b\r\nC:\r\n\r\n")}) {
    for (const std::size_t piece : {1u, 2u, 3u, 4u, 100u}) {
      RequestReader reader(1000, 1000);
      std::string buffer;
      const std::string all = head + body;
      for (std::size_t sent = 0; sent < all.size() && reader.state() != RequestReader::State::done;) {
        buffer += all.substr(sent, piece);
        sent += piece;
        for (int again = 0; again < 2; ++again) buffer.erase(0, reader.feed(buffer));
      }
      ASSERT_EQ(reader.state(), RequestReader::State::done) << piece << ": " << body;
      EXPECT_EQ(buffer, "");
      if (body[0] == '8') {
        EXPECT_EQ(reader.request().body, std::string("0}0\r\n\r\n0") + "0z\r\n0;\r\n0\r");
      }
    }
  }
  Plant plant;
  RawClient client = plant.client();
  client.send(kPost + "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char* piece : {"0\r\n", "\r", "\n"}) client.send(piece);
  EXPECT_EQ(client.read_response().status, 400) << "an empty body";
}

TEST(Malformed, AChunkThatCannotBeOneIsToldWithoutMoreBytes) {
  const std::string head = "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char* body : {"zz\r\n", "G\r\n", "0x\r\n", "x\r\n", "1\r\n{\r\nz\r\n"}) {
    for (const std::size_t piece : {1u, 2u, 3u, 100u}) {
      RequestReader reader(1000, 1000);
      std::string buffer;
      const std::string all = head + body;
      for (std::size_t sent = 0; sent < all.size() && reader.state() != RequestReader::State::failed; sent += piece) {
        buffer += all.substr(sent, piece);
        for (int again = 0; again < 3; ++again) buffer.erase(0, reader.feed(buffer));
      }
      EXPECT_EQ(reader.state(), RequestReader::State::failed) << piece << ": " << body;
    }
  }
}

TEST(Malformed, RandomBytesNeverGetMoreThanA4xx) {
  Plant plant;
  std::mt19937 random(20261123);
  const std::string good = post("/v1/chat/completions", chat_body("fake"));
  for (int i = 0; i < 150; ++i) {
    std::string bytes = good;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; --flips) bytes[random() % (bytes.size() - 90)] = static_cast<char>(random());
    RawClient client = plant.client();
    client.send(bytes);
    client.half_close();                             // a request that now waits for more ends here
    const Response response = client.read_response();
    EXPECT_LT(response.status, 500) << i << ": " << bytes;
  }
  EXPECT_EQ(plant.client().ask(get("/v1/models")).status, 200);
}

}  // namespace
}  // namespace tokenworks::http::test
