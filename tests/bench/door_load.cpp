// The two small tools beside door.py, in one binary that costs as little CPU as can be, because both sides share the cores:
//   door_load upstream PORT                      an OpenAI-shaped server that answers every POST at once
//   door_load paced PORT MS EVENTS               the trivial paced server: every MS an event to each stream, EVENTS in all (the control)
//   door_load load HOST PORT CONNECTIONS SECONDS FILE   FILE holds one whole HTTP request; closed loop, answers by Content-Length
//   door_load streams HOST PORT CONNECTIONS FILE one stream each, read to its end; gaps between the events of every stream, and
//                                                how late this client itself comes to a timer of 5 ms (its own jitter: the control)
// One thread, epoll. Prints one line of JSON.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Peer {
  int fd = -1;
  std::string in;
  Clock::time_point began, last;
  int events = 0;
  bool done = false;
};

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

void all_descriptors() {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
}

int connected(const char* host, int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  inet_pton(AF_INET, host, &to.sin_addr);
  if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) die("connect");
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

void send_all(int fd, const std::string& bytes) {
  if (::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) die("send");
}

// Bytes of the first whole message in `in` by its Content-Length, or by its last chunk; 0: not yet whole.
std::size_t whole(const std::string& in) {
  const std::size_t head = in.find("\r\n\r\n");
  if (head == std::string::npos) return 0;
  std::string text = in.substr(0, head);
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::size_t at = text.find("content-length:");
  if (at != std::string::npos) {
    const std::size_t size = head + 4 + std::strtoul(text.c_str() + at + 15, nullptr, 10);
    return in.size() >= size ? size : 0;
  }
  const std::size_t end = in.find("\r\n0\r\n\r\n", head);
  return end == std::string::npos ? 0 : end + 7;
}

int listening(int port) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<std::uint16_t>(port));
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0 || ::listen(listener, 1024) != 0) die("bind");
  return listener;
}

int upstream(int port) {
  const int listener = listening(port), one = 1;
  const std::string body = R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":" a"},"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":1,"total_tokens":13}})";
  const std::string answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  const int poll = epoll_create1(0);
  epoll_event event{EPOLLIN, {.fd = listener}};
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  std::vector<std::string> in(65536);
  for (;;) {
    epoll_event ready[256];
    const int n = epoll_wait(poll, ready, 256, -1);
    for (int i = 0; i < n; ++i) {
      const int fd = ready[i].data.fd;
      if (fd == listener) {
        const int fresh = ::accept(listener, nullptr, nullptr);
        if (fresh < 0) continue;
        setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        in[static_cast<std::size_t>(fresh)].clear();
        epoll_event more{EPOLLIN, {.fd = fresh}};
        epoll_ctl(poll, EPOLL_CTL_ADD, fresh, &more);
        continue;
      }
      char bytes[65536];
      const ssize_t got = ::recv(fd, bytes, sizeof bytes, 0);
      if (got <= 0) {
        ::close(fd);
        continue;
      }
      std::string& text = in[static_cast<std::size_t>(fd)];
      text.append(bytes, static_cast<std::size_t>(got));
      while (const std::size_t size = whole(text)) {
        text.erase(0, size);
        ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
    }
  }
}

// What a server has to do at least: a timer, and a send per stream. The event is as long as one of ours.
int paced(int port, long every_ms, int events) {
  const int listener = listening(port), poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  const itimerspec every{{0, every_ms * 1'000'000}, {0, every_ms * 1'000'000}};
  timerfd_settime(timer, 0, &every, nullptr);
  for (const int fd : {listener, timer}) {
    epoll_event event{EPOLLIN, {.fd = fd}};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
  }
  const std::string data = "data: {\"text\":\"" + std::string(250, 'x') + "\"}\n\n", last = "0\r\n\r\n",
                    head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
  char size[16];
  std::snprintf(size, sizeof size, "%zx\r\n", data.size());
  const std::string chunk = size + data + "\r\n";
  std::vector<std::pair<int, int>> streams;          // and the events they got
  for (;;) {
    epoll_event ready[1024];
    const int n = epoll_wait(poll, ready, 1024, -1);
    for (int i = 0; i < n; ++i) {
      const int fd = ready[i].data.fd;
      char bytes[65536];
      if (fd == listener) {
        const int fresh = ::accept(listener, nullptr, nullptr), one = 1;
        if (fresh < 0) continue;
        setsockopt(fresh, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_event more{EPOLLIN, {.fd = fresh}};
        epoll_ctl(poll, EPOLL_CTL_ADD, fresh, &more);
      } else if (fd == timer) {
        if (::read(timer, bytes, 8) != 8) continue;
        for (auto& [to, sent] : streams) {
          const std::string& piece = sent++ < events ? chunk : last;
          ::send(to, piece.data(), piece.size(), MSG_NOSIGNAL);
        }
        std::erase_if(streams, [&](const auto& s) { return s.second > events; });
      } else if (::recv(fd, bytes, sizeof bytes, 0) <= 0) {
        ::close(fd);
      } else {
        ::send(fd, head.data(), head.size(), MSG_NOSIGNAL);
        streams.emplace_back(fd, 0);
      }
    }
  }
}

double at(std::vector<double>& values, double share) {
  if (values.empty()) return -1;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<std::size_t>(share * static_cast<double>(values.size())))];
}

double ms(Clock::duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// Event data of a peer is its index.
std::vector<Peer> connected_peers(const char* host, int port, int connections, int poll) {
  std::vector<Peer> peers(static_cast<std::size_t>(connections));
  for (std::size_t i = 0; i < peers.size(); ++i) {
    peers[i].fd = connected(host, port);
    epoll_event event{EPOLLIN, {.u64 = i}};
    epoll_ctl(poll, EPOLL_CTL_ADD, peers[i].fd, &event);
  }
  return peers;
}

int load(const char* host, int port, int connections, double seconds, const std::string& request) {
  const int poll = epoll_create1(0);
  std::vector<Peer> peers = connected_peers(host, port, connections, poll);
  const auto begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (Peer& p : peers) p.began = Clock::now(), send_all(p.fd, request);
  std::vector<double> took;
  std::size_t bad = 0, out = peers.size();
  while (out > 0) {
    epoll_event ready[256];
    const int n = epoll_wait(poll, ready, 256, 10'000);
    if (n == 0) die("nothing came for 10 s");
    for (int i = 0; i < n; ++i) {
      Peer& p = peers[ready[i].data.u64];
      char bytes[65536];
      const ssize_t got = ::recv(p.fd, bytes, sizeof bytes, 0);
      if (got <= 0) die("recv");
      p.in.append(bytes, static_cast<std::size_t>(got));
      const std::size_t size = whole(p.in);
      if (size == 0) continue;
      const auto now = Clock::now();
      took.push_back(ms(now - p.began));
      bad += p.in.compare(9, 3, "200") != 0 ? 1 : 0;
      p.in.erase(0, size);
      if (now >= end) {
        --out;
        continue;
      }
      p.began = now;
      send_all(p.fd, request);
    }
  }
  const double wall = std::chrono::duration<double>(Clock::now() - begin).count();
  const double count = static_cast<double>(took.size());
  std::printf("{\"requests\": %zu, \"bad\": %zu, \"seconds\": %.4f, \"per_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", took.size(), bad, wall,
              count / wall, at(took, 0.5), at(took, 0.99));
  return 0;
}

int streams(const char* host, int port, int connections, const std::string& request) {
  const int poll = epoll_create1(0);
  std::vector<Peer> peers = connected_peers(host, port, connections, poll);
  constexpr std::uint64_t kTick = ~std::uint64_t{0};
  const int ticks = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  const itimerspec every{{0, 5'000'000}, {0, 5'000'000}};
  timerfd_settime(ticks, 0, &every, nullptr);
  epoll_event tick{EPOLLIN, {.u64 = kTick}};
  epoll_ctl(poll, EPOLL_CTL_ADD, ticks, &tick);
  auto due = Clock::now() + std::chrono::milliseconds(5);
  std::vector<double> late;
  const auto begin = Clock::now();
  for (Peer& p : peers) send_all(p.fd, request);
  std::vector<double> gaps;
  std::size_t left = peers.size(), events = 0, reads = 0, bad = 0;
  auto heard = begin;
  while (left > 0) {
    epoll_event ready[1024];
    const int n = epoll_wait(poll, ready, 1024, 60'000);
    const auto now = Clock::now();                   // of the wake: what this client takes to read is not the server's
    if (now - heard > std::chrono::seconds(60)) die("nothing came for 60 s");
    for (int i = 0; i < n; ++i) {
      if (ready[i].data.u64 == kTick) {
        std::uint64_t passed = 0;
        if (::read(ticks, &passed, sizeof passed) != sizeof passed) continue;
        late.push_back(std::max(0.0, ms(now - due)));
        due += passed * std::chrono::milliseconds(5);
        continue;
      }
      heard = now;
      Peer& p = peers[ready[i].data.u64];
      char bytes[65536];
      const ssize_t got = ::recv(p.fd, bytes, sizeof bytes, 0);
      if (got <= 0) die("recv");
      const std::string_view text(bytes, static_cast<std::size_t>(got));
      if (p.in.empty() && text.substr(0, 12) != "HTTP/1.1 200") {   // refused: no stream will come
        std::fwrite(bytes, 1, static_cast<std::size_t>(got), stderr);
        ++bad, --left;
        epoll_ctl(poll, EPOLL_CTL_DEL, p.fd, nullptr);
        continue;
      }
      p.in.assign(p.in.size() < 7 ? p.in : p.in.substr(p.in.size() - 7)).append(text);
      int fresh = 0;
      for (std::size_t f = text.find("data: {"); f != std::string_view::npos; f = text.find("data: {", f + 1)) ++fresh;
      if (fresh > 0) {
        ++reads;
        if (p.events > 0) gaps.push_back(ms(now - p.last));
        p.last = now, p.events += fresh, events += static_cast<std::size_t>(fresh);
      }
      if (p.in.find("\r\n0\r\n\r\n") != std::string::npos || p.in.ends_with("0\r\n\r\n")) {
        p.done = true, --left;
        bad += p.events < 2 ? 1 : 0;
        epoll_ctl(poll, EPOLL_CTL_DEL, p.fd, nullptr);
      }
    }
  }
  const double wall = std::chrono::duration<double>(Clock::now() - begin).count();
  const auto stalls = std::count_if(gaps.begin(), gaps.end(), [](double g) { return g > 50; });
  std::printf("{\"streams\": %zu, \"bad\": %zu, \"seconds\": %.4f, \"events\": %zu, \"reads\": %zu, \"gap_p50_ms\": %.3f, \"gap_p99_ms\": %.3f, "
              "\"gap_max_ms\": %.3f, \"over_50_ms\": %lld, \"late_p99_ms\": %.3f, \"late_max_ms\": %.3f}\n",
              peers.size(), bad, wall, events, reads, at(gaps, 0.5), at(gaps, 0.99), at(gaps, 1), static_cast<long long>(stalls), at(late, 0.99), at(late, 1));
  return 0;
}

std::string file(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

int main(int argc, char** argv) {
  all_descriptors();
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "upstream" && argc == 3) return upstream(std::atoi(argv[2]));
  if (mode == "paced" && argc == 5) return paced(std::atoi(argv[2]), std::atol(argv[3]), std::atoi(argv[4]));
  if (mode == "load" && argc == 7) return load(argv[2], std::atoi(argv[3]), std::atoi(argv[4]), std::atof(argv[5]), file(argv[6]));
  if (mode == "streams" && argc == 6) return streams(argv[2], std::atoi(argv[3]), std::atoi(argv[4]), file(argv[5]));
  std::fprintf(stderr, "door_load upstream PORT | paced PORT MS EVENTS | load HOST PORT CONNECTIONS SECONDS FILE | streams HOST PORT CONNECTIONS FILE\n");
  return 2;
}
