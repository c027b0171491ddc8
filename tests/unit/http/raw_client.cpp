#include "raw_client.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>

#include <cstring>

#include "tokenworks/base/log.hpp"

namespace tokenworks::http::test {

RawClient::RawClient(const std::string& url, int receive_buffer) {
  if (url.starts_with("/")) {
    connect_unix(url);
    return;
  }
  const std::size_t colon = url.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(url.substr(colon + 1))));
  inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
  fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
  const int one = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) ADD_FAILURE() << "connect: " << strerror(errno);
}

void RawClient::reset() {
  const linger hard{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  close();
}

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool RawClient::fill(std::chrono::milliseconds patience) {
  pollfd ready{fd_, POLLIN, 0};
  if (::poll(&ready, 1, static_cast<int>(patience.count())) <= 0) {
    timed_out_ = true;
    return false;
  }
  char bytes[65536];
  const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
  if (n <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(n));
  return true;
}

bool RawClient::read_until(std::string_view mark) {
  while (buffer_.find(mark) == std::string::npos) {
    if (!fill()) return false;
  }
  return true;
}

bool RawClient::at_end() {
  while (fill()) {
  }
  return !timed_out_;
}

Response RawClient::read_response(bool head_only) {
  Response response;
  for (;;) {
    if (!read_until("\r\n\r\n")) {
      response.raw = buffer_;
      return response;
    }
    if (!buffer_.starts_with("HTTP/1.1 100 ")) break;
    buffer_.erase(0, buffer_.find("\r\n\r\n") + 4);
  }
  const std::size_t end = buffer_.find("\r\n\r\n") + 4;
  const std::string head = buffer_.substr(0, end);
  std::size_t at = head.find("\r\n") + 2;
  while (at < end - 2) {
    const std::size_t stop = head.find("\r\n", at), colon = head.find(": ", at);
    response.headers.add(head.substr(at, colon - at), head.substr(colon + 2, stop - colon - 2));
    at = stop + 2;
  }
  response.raw = head;
  buffer_.erase(0, end);
  const int status = std::stoi(head.substr(9, 3));
  if (head_only || status == 204) return response.status = status, response;
  if (response.headers.get("transfer-encoding") == "chunked") {
    if (!read_chunks(response.body)) return response;
  } else if (const auto length = response.headers.get("content-length"); !length.empty()) {
    const std::size_t want = std::stoul(std::string(length));
    while (buffer_.size() < want) {
      if (!fill()) return response;
    }
    response.body = buffer_.substr(0, want);
    buffer_.erase(0, want);
  } else {
    while (fill()) {
    }
    response.body = std::exchange(buffer_, {});
  }
  response.status = status;
  return response;
}

void RawClient::connect_unix(const std::string& path) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::strncpy(to.sun_path, path.c_str(), sizeof to.sun_path - 1);
  fd_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) ADD_FAILURE() << "connect: " << strerror(errno);
}

bool RawClient::read_chunks(std::string& body) {
  for (;;) {
    if (!read_until("\r\n")) return false;
    const std::size_t line = buffer_.find("\r\n");
    const std::size_t size = std::stoul(buffer_.substr(0, line), nullptr, 16);
    while (buffer_.size() < line + 2 + size + 2) {
      if (!fill()) return false;
    }
    body += buffer_.substr(line + 2, size);
    buffer_.erase(0, line + 2 + size + 2);
    if (size == 0) return true;
  }
}

Plant::Plant(const std::function<void(ServerOptions&)>& change, const std::function<void(FakeService&)>& prepare) {
  log::configure(log::Level::error, false);
  if (prepare) prepare(service);
  ServerOptions options;
  options.listen = {"127.0.0.1:0"};
  options.admin_listen = "127.0.0.1:0";
  options.server_version = "tokenworks/test";
  if (change) change(options);
  metrics->set_organizations({"acme"});
  metrics->set_models({"fake"});
  auto started = Server::start(options, service, administration, *metrics, [this] { return readiness; });
  if (!started) throw std::runtime_error(started.error().message);
  server = std::move(*started);
}

Plant::~Plant() = default;

std::string post(const std::string& path, const std::string& body, const std::string& extra) {
  return "POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + kKey + "\r\nContent-Type: application/json\r\n" + extra +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string get(const std::string& path, const std::string& key, const std::string& extra) {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + (key.empty() ? "" : "Authorization: Bearer " + key + "\r\n") + extra + "\r\n";
}

std::string chat_body(const std::string& model, bool stream) {
  return R"({"model":")" + model + R"(","messages":[{"role":"user","content":"hi"}])" + (stream ? R"(,"stream":true})" : "}");
}

}  // namespace tokenworks::http::test
