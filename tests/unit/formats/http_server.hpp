#pragma once
// A tiny blocking HTTP server on a loopback port, for tests of downloads: one connection after the other, each answered
// with the bytes its handler returns (which may lie, stop early or redirect). Remembers every request head.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tokenworks::formats {

struct HttpRequest {
  std::string method, target, head;
  std::string header(std::string name) const {       // "" when it is not there
    std::string low = head;
    std::ranges::transform(low, low.begin(), ::tolower);
    std::ranges::transform(name, name.begin(), ::tolower);
    const std::size_t at = low.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const std::size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

class HttpServer {
 public:
  using Handler = std::function<std::string(const HttpRequest&)>;

  explicit HttpServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 16) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~HttpServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  int port() const { return port_; }
  std::string url(const std::string& path = "") const { return "http://127.0.0.1:" + std::to_string(port_) + path; }
  std::vector<HttpRequest> requests() const {
    std::lock_guard lock(mutex_);
    return requests_;
  }
  void forget() {
    std::lock_guard lock(mutex_);
    requests_.clear();
  }

 private:
  void run() {
    for (;;) {
      const int peer = accept(listener_, nullptr, nullptr);
      if (peer < 0) return;
      HttpRequest request;
      char buffer[4096];
      for (ssize_t n;
           request.head.find("\r\n\r\n") == std::string::npos && (n = read(peer, buffer, sizeof buffer)) > 0;) {
        request.head.append(buffer, static_cast<std::size_t>(n));
      }
      const std::size_t space = request.head.find(' '), end = request.head.find(' ', space + 1);
      if (end != std::string::npos) {
        request.method = request.head.substr(0, space);
        request.target = request.head.substr(space + 1, end - space - 1);
        {
          std::lock_guard lock(mutex_);
          requests_.push_back(request);
        }
        std::string answer = handler_(request);
        if (request.method == "HEAD") answer.resize(answer.find("\r\n\r\n") + 4);
        for (std::size_t sent = 0; sent < answer.size();) {
          const ssize_t n = send(peer, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
          if (n <= 0) break;
          sent += static_cast<std::size_t>(n);
        }
      }
      shutdown(peer, SHUT_WR);
      while (read(peer, buffer, sizeof buffer) > 0) {
      }
      close(peer);
    }
  }

  Handler handler_;
  int listener_ = -1, port_ = 0;
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::thread thread_;
};

inline std::string http(const std::string& status, const std::vector<std::string>& headers = {},
                        const std::string& body = "", bool with_length = true) {
  std::string out = "HTTP/1.1 " + status + "\r\nConnection: close\r\n";
  for (const auto& h : headers) out += h + "\r\n";
  if (with_length) out += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return out + "\r\n" + body;
}

// A file server: the whole file, or the rest of it when Range (and If-Range, when given) allow.
inline std::string serve(const HttpRequest& request, const std::string& file, const std::string& etag) {
  const std::string range = request.header("range"), condition = request.header("if-range");
  if (range.starts_with("bytes=") && (condition.empty() || condition == "\"" + etag + "\"")) {
    const std::size_t from = std::stoul(range.substr(6));
    if (from >= file.size()) {
      return http("416 Range Not Satisfiable", {"Content-Range: bytes */" + std::to_string(file.size())});
    }
    return http("206 Partial Content",
                {"ETag: \"" + etag + "\"", "Content-Range: bytes " + std::to_string(from) + "-" +
                                               std::to_string(file.size() - 1) + "/" + std::to_string(file.size())},
                file.substr(from));
  }
  return http("200 OK", {"ETag: \"" + etag + "\"", "Accept-Ranges: bytes"}, file);
}

}  // namespace tokenworks::formats
