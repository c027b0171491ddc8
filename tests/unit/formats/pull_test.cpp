#include "tokenworks/formats/pull.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <atomic>

#include "formats/hub.hpp"
#include "http_server.hpp"
#include "support.hpp"
#include "tokenworks/formats/inspect.hpp"

namespace tokenworks::formats {
namespace {

std::string sha(const std::string& bytes) { return hex(sha256(bytes)); }

std::string some_bytes(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>((i * 2654435761u) >> 13);
  return out;
}

class Pull : public testing::Test {
 protected:
  Pull() {
    for (const char* name : {"http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"}) unsetenv(name);
    environment_.cache = scratch_.path() + "/hub";
    environment_.downloads = scratch_.path() + "/downloads";
  }
  Result<Pulled> url(const std::string& source, const std::string& sha256 = "", const OnProgress& progress = {}) {
    return pull({.source = source, .sha256 = sha256, .attempts = 3, .retry_delay_ms = 1}, environment_, progress);
  }
  std::string target(const std::string& name) const { return environment_.downloads + "/" + name; }

  test::ScratchDir scratch_;
  HubEnvironment environment_;
};

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(Pull, AUrlArrivesWholeUnderItsNameWithProgress) {
  const std::string file = some_bytes(700'000);
  HttpServer server([&](const HttpRequest& r) { return serve(r, file, "v1"); });
  std::vector<PullProgress> seen;
  const auto got = url(server.url("/models/a%20b.gguf?download=true"), sha(file), [&](const PullProgress& p) {
    seen.push_back(p);
    return true;
  });
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->path, target("a b.gguf"));
  EXPECT_EQ(got->bytes_fetched, file.size());
  EXPECT_EQ(read_file(got->path), file);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back().bytes, file.size());
  EXPECT_EQ(seen.back().total, file.size());
  EXPECT_FALSE(std::filesystem::exists(got->path + ".part"));
  EXPECT_FALSE(std::filesystem::exists(got->path + ".part.tag"));
  server.forget();
  const auto again = url(server.url("/models/a%20b.gguf"), sha(file));
  EXPECT_EQ(again->bytes_fetched, 0u);
  EXPECT_TRUE(server.requests().empty());                  // the hash says it is here
  EXPECT_EQ(url(server.url("/models/a%20b.gguf"))->bytes_fetched, 0u);
  EXPECT_EQ(server.requests().size(), 1u);                 // one HEAD says the length is the same
}

TEST_F(Pull, ABrokenConnectionGoesOnWhereItStopped) {
  const std::string file = some_bytes(300'000);
  std::atomic<int> calls = 0;
  HttpServer server([&](const HttpRequest& r) {
    std::string answer = serve(r, file, "v1");
    if (++calls < 3) answer.resize(answer.size() - 120'000);      // the head promised more
    return answer;
  });
  const auto got = url(server.url("/m.gguf"), sha(file));
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(read_file(got->path), file);
  EXPECT_EQ(got->bytes_fetched, file.size());              // not a byte twice
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].header("range"), "");
  EXPECT_EQ(requests[1].header("range"), "bytes=180000-");
  EXPECT_EQ(requests[1].header("if-range"), "\"v1\"");
}

// The head and 30,000 bytes of what it promises.
std::string cut_short(std::string answer) {
  answer.resize(std::min(answer.size(), answer.find("\r\n\r\n") + 4 + 30'000));
  return answer;
}

TEST_F(Pull, ALaterRunResumesWhatAnEarlierOneLeft) {
  const std::string file = some_bytes(200'000);
  std::atomic<bool> cut = true;
  HttpServer server([&](const HttpRequest& r) { return cut ? cut_short(serve(r, file, "v1")) : serve(r, file, "v1"); });
  const auto broken = url(server.url("/m.gguf"));
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, Errc::io);
  EXPECT_FALSE(std::filesystem::exists(target("m.gguf")));
  EXPECT_EQ(std::filesystem::file_size(target("m.gguf.part")), 90'000u);    // three attempts
  cut = false;
  const auto whole = url(server.url("/m.gguf"));
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_EQ(whole->bytes_fetched, 110'000u);
  EXPECT_EQ(read_file(target("m.gguf")), file);
}

TEST_F(Pull, APartOfAnOlderFileIsNeverGluedToANewerOne) {
  const std::string old_file = some_bytes(100'000), new_file(150'000, 'n');
  std::atomic<bool> renewed = false;
  HttpServer server([&](const HttpRequest& r) {
    if (renewed) return serve(r, new_file, "v2");
    std::string answer = serve(r, old_file, "v1");
    answer.resize(answer.find("\r\n\r\n") + 4 + 20'000);
    return answer;
  });
  ASSERT_FALSE(url(server.url("/m.gguf")));
  renewed = true;
  ASSERT_TRUE(url(server.url("/m.gguf")));
  EXPECT_EQ(read_file(target("m.gguf")), new_file);
}

TEST_F(Pull, AWrongHashIsRefusedAndDeleted) {
  const std::string file = some_bytes(5000);
  HttpServer server([&](const HttpRequest& r) { return serve(r, file, "v1"); });
  const auto got = url(server.url("/m.gguf"), sha("something else"));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, Errc::bad_file);
  EXPECT_SAYS(got.error().message, sha(file));
  EXPECT_SAYS(got.error().message, sha("something else"));
  EXPECT_FALSE(std::filesystem::exists(target("m.gguf")));
  EXPECT_FALSE(std::filesystem::exists(target("m.gguf.part")));
  EXPECT_EQ(url("relative", "abc").error().code, Errc::invalid_request);   // no sha256
}

TEST_F(Pull, RefusalsAreNotRetriedAndFailuresAre) {
  std::atomic<int> calls = 0;
  HttpServer server([&](const HttpRequest& r) {
    ++calls;
    if (r.target == "/missing") return http("404 Not Found", {}, "no");
    if (r.target == "/secret") return http("403 Forbidden", {"X-Error-Message: gated"});
    if (calls < 3) return http("503 Service Unavailable", {}, "busy");
    return http("200 OK", {}, "at last");
  });
  EXPECT_EQ(url(server.url("/missing")).error().code, Errc::not_found);
  EXPECT_EQ(calls, 1);
  const auto secret = url(server.url("/secret"));
  EXPECT_EQ(secret.error().code, Errc::insufficient_permissions);
  EXPECT_SAYS(secret.error().message, "gated");
  EXPECT_EQ(calls, 2);
  calls = 0;
  ASSERT_TRUE(url(server.url("/busy")));
  EXPECT_EQ(calls, 3);
}

TEST_F(Pull, AServerThatSendsMoreThanItSaidIsCutOff) {
  HttpServer server([&](const HttpRequest&) {
    return http("206 Partial Content", {"Content-Range: bytes 0-9/10"}, some_bytes(5000));
  });
  const auto got = url(server.url("/m.gguf"));
  ASSERT_FALSE(got);
  EXPECT_SAYS(got.error().message, "more than it announced");
}

// A first run gets as far as its connections do, a second is stopped at once, a third goes on from what the first one left.
TEST_F(Pull, StoppingKeepsWhatWasFetched) {
  const std::string file = some_bytes(300'000);
  std::atomic<bool> cut = true;
  HttpServer server([&](const HttpRequest& r) { return cut ? cut_short(serve(r, file, "v1")) : serve(r, file, "v1"); });
  ASSERT_FALSE(url(server.url("/m.gguf")));
  cut = false;
  const auto stopped = url(server.url("/m.gguf"), "", [&](const PullProgress&) { return false; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, Errc::cancelled);
  const auto part = std::filesystem::file_size(target("m.gguf.part"));
  EXPECT_GE(part, 90'000u);
  const auto rest = url(server.url("/m.gguf"));
  ASSERT_TRUE(rest) << rest.error().message;
  EXPECT_EQ(rest->bytes_fetched, file.size() - part);
  EXPECT_EQ(read_file(target("m.gguf")), file);
}

TEST_F(Pull, TwoDownloadsOfOneFileDoNotMix) {
  std::filesystem::create_directories(environment_.downloads);
  const int fd = open(target("m.gguf.part").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  HttpServer server([&](const HttpRequest& r) { return serve(r, "x", "v1"); });
  EXPECT_SAYS(url(server.url("/m.gguf")).error().message, "another process is downloading this file");
  close(fd);
  EXPECT_TRUE(url(server.url("/m.gguf")));
}

TEST_F(Pull, PlainHttpGoesToThisMachineOnly) {
  EXPECT_SAYS(url("http://models.example/m.gguf").error().message, "plain http is only allowed to this machine");
  EXPECT_SAYS(url("http://127.0.0.1.example/m.gguf").error().message, "plain http is only allowed to this machine");
  EXPECT_SAYS(url("http://localhost@models.example/m.gguf").error().message,
              "plain http is only allowed to this machine");
  EXPECT_SAYS(url("ftp://models.example/m.gguf").error().message, "is not an http or https URL");
  HttpServer server([&](const HttpRequest&) { return http("302 Found", {"Location: http://models.example/m.gguf"}); });
  EXPECT_SAYS(url(server.url("/m.gguf")).error().message, "plain http is only allowed to this machine");
  HttpServer loop([&](const HttpRequest&) { return http("302 Found", {"Location: /again"}); });
  EXPECT_SAYS(url(loop.url("/m.gguf")).error().message, "redirects more than");
}

TEST_F(Pull, AProxyOfTheEnvironmentIsUsed) {
  HttpServer proxy([&](const HttpRequest&) { return http("403 Forbidden"); });
  setenv("https_proxy", proxy.url().c_str(), 1);
  EXPECT_FALSE(url("https://models.example/m.gguf"));
  unsetenv("https_proxy");
  ASSERT_FALSE(proxy.requests().empty());
  EXPECT_EQ(proxy.requests().front().method, "CONNECT");
  EXPECT_EQ(proxy.requests().front().target, "models.example:443");
}

TEST_F(Pull, APathIsTakenAsItIs) {
  write_file(scratch_.path() + "/m.gguf", "bytes");
  EXPECT_EQ(url(scratch_.path() + "/m.gguf", sha("bytes"))->path, scratch_.path() + "/m.gguf");
  EXPECT_EQ(url(scratch_.path() + "/m.gguf", sha("other")).error().code, Errc::bad_file);
  EXPECT_EQ(url(scratch_.path() + "/none.gguf").error().code, Errc::not_found);
  EXPECT_TRUE(url(scratch_.path()));
}

TEST_F(Pull, ProgressReadsLikeASentence) {
  EXPECT_EQ(format_progress({.file = "m.gguf",
                             .bytes = 45'200'000,
                             .total = 98'362'432,
                             .bytes_per_second = 12.34e6,
                             .seconds_left = 4.3}),
            "m.gguf  45.2 MB of 98.4 MB  45 %  12.3 MB/s  4 s left");
  EXPECT_EQ(format_progress({.file = "m", .bytes = 5, .index = 1, .count = 3}), "[2/3] m  5 B");
  EXPECT_EQ(format_progress({.file = "m", .bytes = 1, .total = 2, .bytes_per_second = 1, .seconds_left = 3725}),
            "m  1 B of 2 B  50 %  1 B/s  1 h 2 min left");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(999'999), "1.00 MB");
  EXPECT_EQ(format_bytes(16'060'000'000), "16.1 GB");
}

TEST_F(Pull, TheEnvironmentIsReadAsHuggingfaceHubReadsIt) {
  const auto with = [](std::map<std::string, std::string> set) {
    for (const char* name :
         {"HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"}) {
      unsetenv(name);
    }
    for (const auto& [name, value] : set) setenv(name.c_str(), value.c_str(), 1);
    return HubEnvironment::from_environment();
  };
  write_file(scratch_.path() + "/token", " hf_file \n");
  EXPECT_EQ(with({{"HF_HOME", scratch_.path()}}).token, "hf_file");
  EXPECT_EQ(with({{"HF_HOME", scratch_.path()}, {"HF_TOKEN", "hf_env"}}).token, "hf_env");
  EXPECT_EQ(with({{"HF_TOKEN_PATH", scratch_.path() + "/token"}}).token, "hf_file");
  EXPECT_EQ(with({{"HF_HOME", "/h"}}).cache, "/h/hub");
  EXPECT_EQ(with({{"XDG_CACHE_HOME", "/x"}}).cache, "/x/huggingface/hub");
  EXPECT_EQ(with({{"HF_HOME", "/h"}, {"HF_HUB_CACHE", "/c"}}).cache, "/c");
  EXPECT_EQ(with({{"HF_ENDPOINT", "https://mirror.example/"}}).endpoint, "https://mirror.example");
  EXPECT_EQ(with({}).endpoint, "https://huggingface.co");
  EXPECT_TRUE(with({{"HF_HUB_OFFLINE", "true"}}).offline);
  EXPECT_FALSE(with({{"HF_HUB_OFFLINE", "0"}}).offline);
  with({});
}

}  // namespace
}  // namespace tokenworks::formats
