#pragma once
// A client that sends exactly the bytes it is told and reads with a deadline, so that a test cannot hang; and the server
// the tests talk to.
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "fake_service.hpp"
#include "http/headers.hpp"
#include "tokenworks/http/server.hpp"

namespace tokenworks::http::test {

struct Response {
  int status = 0;                                    // 0: the connection ended before a whole answer
  Headers headers;
  std::string body;                                  // chunks joined
  std::string raw;
};

class RawClient {
 public:
  explicit RawClient(const std::string& url, int receive_buffer = 0);
  ~RawClient() { close(); }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}
  RawClient(const RawClient&) = delete;

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void half_close() { ::shutdown(fd_, SHUT_WR); }
  void reset();
  bool send(std::string_view bytes);
  // False at the end of the stream, on an error or after `patience`.
  bool fill(std::chrono::milliseconds patience = std::chrono::seconds(20));
  bool read_until(std::string_view mark);
  // Whether the server has ended the connection (nothing more comes, not a timeout).
  bool at_end();
  std::string& buffer() { return buffer_; }
  int fd() const { return fd_; }

  Response read_response(bool head_only = false);

  Response ask(std::string_view bytes) {
    send(bytes);
    return read_response();
  }

 private:
  void connect_unix(const std::string& path);
  bool read_chunks(std::string& body);

  int fd_ = -1;
  std::string buffer_;
  bool timed_out_ = false;
};

std::string post(const std::string& path, const std::string& body, const std::string& extra = "");
std::string get(const std::string& path, const std::string& key = kKey, const std::string& extra = "");
std::string chat_body(const std::string& model, bool stream = false);

// A server on a port of the kernel's choice.
class Plant {
 public:
  explicit Plant(const std::function<void(ServerOptions&)>& change = {}, const std::function<void(FakeService&)>& prepare = {});
  ~Plant();
  RawClient client() { return RawClient(server->api_urls().at(0)); }
  RawClient admin() { return RawClient(server->admin_url()); }

  FakeService service;
  FakeAdministration administration;
  std::unique_ptr<telemetry::Metrics> metrics = telemetry::Metrics::make({{"version", "test"}});
  Readiness readiness;
  std::unique_ptr<Server> server;
};

// Waits for something another thread does, without sleeping for a fixed time.
template <class Condition>
bool eventually(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace tokenworks::http::test
