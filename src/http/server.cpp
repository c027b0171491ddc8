#include "tokenworks/http/server.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include "errors.hpp"
#include "io_thread.hpp"
#include "listener.hpp"
#include "server_tuning.hpp"
#include "tls.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/base/snapshot.hpp"

namespace tokenworks::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr std::int64_t kAdminConnectionsMax = 1024;
constexpr auto kStopPatience = std::chrono::seconds(5);

// Written into a fresh connection beyond the limit; it fits any empty socket buffer, so it is sent without waiting.
const std::string& too_many() {
  static const std::string text = [] {
    const std::string body = error_json(error(Errc::server_is_overloaded, "too many connections are open; retry in a second"));
    return "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
           "content-length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }();
  return text;
}

void turn_away(StreamSocket& socket) {
  char unread[4096];                                 // what stays unread when a socket closes resets the connection
  ::send(socket.native_handle(), too_many().data(), too_many().size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::shutdown(socket.native_handle(), SHUT_WR);
  ::recv(socket.native_handle(), unread, sizeof unread, MSG_DONTWAIT);
}

class ServerImpl final : public Server {
 public:
  ServerImpl(const ServerOptions& options, gateway::Service& service, gateway::Administration& administration,
             telemetry::Metrics& metrics, std::function<Readiness()> readiness)
      : plant_{.service = &service, .administration = &administration, .metrics = &metrics, .idempotency = options.idempotency, .readiness = std::move(readiness),
               .limits = options.limits, .server_version = options.server_version, .workers = &workers_, .blocking = &blocking_,
               .ping_every = ping_interval()} {
    for (int i = 0; i < std::max(options.io_threads, 1); ++i) threads_.push_back(std::make_unique<IoThread>());
  }
  ~ServerImpl() override { stop(); }

  Result<> bind(const ServerOptions& options);
  void start();

  std::vector<std::string> api_urls() const override { return api_urls_; }
  std::string admin_url() const override { return admin_url_; }
  Result<> reload_tls(const config::Plant::Tls& tls) override;
  void drain() override;
  std::int64_t requests_in_flight() const override { return in_flight_; }
  void stop() override;

 private:
  struct Listener {
    tcp::acceptor acceptor;
    Plane plane;
    bool tls;
  };
  asio::io_context& next_thread();
  void take(Plane plane, bool tls, asio::io_context& context, StreamSocket socket);
  IoThread& thread_of(asio::io_context& context);
  void close_acceptors(bool all);

  asio::thread_pool workers_{1}, blocking_{2};
  Plant plant_;
  std::atomic<std::int64_t> in_flight_{0};
  Snapshot<TlsContext> tls_;
  std::vector<std::unique_ptr<IoThread>> threads_;   // public connections; listeners accept on the first
  IoThread admin_thread_;                            // probes answer also when the public threads are busy
  std::vector<Listener> listeners_;
  std::optional<asio::local::stream_protocol::acceptor> control_;
  std::string control_path_;
  std::vector<std::string> api_urls_;
  std::string admin_url_;
  std::size_t turn_ = 0;
  bool stopped_ = false;
};

Result<> ServerImpl::bind(const ServerOptions& options) {
  if (options.tls.on()) {
    auto tls = make_tls(options.tls);
    if (!tls) return tls.error();
    tls_.set(*tls);
  }
  for (const std::string& text : options.listen) {
    const auto endpoints = resolve_listen(text);
    if (!endpoints) return endpoints.error();
    for (const tcp::endpoint& at : *endpoints) {
      auto acceptor = bind_tcp(threads_[0]->context(), at);
      if (!acceptor) return acceptor.error();
      api_urls_.push_back(url_of(acceptor->local_endpoint(), options.tls.on()));
      listeners_.push_back({std::move(*acceptor), Plane::api, options.tls.on()});
    }
  }
  if (!options.admin_listen.empty()) {
    const auto endpoints = resolve_listen(options.admin_listen);
    if (!endpoints) return endpoints.error();
    const bool local = is_loopback(*endpoints);
    if (!local && !options.tls.on()) {
      return error(Errc::bad_config, "the admin listener refuses the address " + options.admin_listen + " without TLS: use a loopback address or set tls");
    }
    auto acceptor = bind_tcp(admin_thread_.context(), endpoints->front());
    if (!acceptor) return acceptor.error();
    admin_url_ = url_of(acceptor->local_endpoint(), !local);
    listeners_.push_back({std::move(*acceptor), Plane::admin, !local});
  }
  if (!options.control_socket.empty()) {
    auto acceptor = bind_unix(admin_thread_.context(), options.control_socket);
    if (!acceptor) return acceptor.error();
    control_.emplace(std::move(*acceptor));
    control_path_ = options.control_socket;
  }
  return {};
}

void ServerImpl::start() {
  for (Listener& listener : listeners_) {
    const bool api = listener.plane == Plane::api;
    NextContext next = [this, api]() -> asio::io_context& { return api ? next_thread() : admin_thread_.context(); };
    TakeSocket take_it = [this, plane = listener.plane, tls = listener.tls](asio::io_context& context, StreamSocket socket) {
      take(plane, tls, context, std::move(socket));
    };
    asio::co_spawn(listener.acceptor.get_executor(), accept_tcp(listener.acceptor, std::move(next), std::move(take_it)), asio::detached);
  }
  if (control_) {
    NextContext next = [this]() -> asio::io_context& { return admin_thread_.context(); };
    TakeSocket take_it = [this](asio::io_context& context, StreamSocket socket) { take(Plane::local, false, context, std::move(socket)); };
    asio::co_spawn(control_->get_executor(), accept_unix(*control_, std::move(next), std::move(take_it)), asio::detached);
  }
  for (const auto& thread : threads_) thread->start();
  admin_thread_.start();
}

asio::io_context& ServerImpl::next_thread() { return threads_[turn_++ % threads_.size()]->context(); }

IoThread& ServerImpl::thread_of(asio::io_context& context) {
  for (const auto& thread : threads_) {
    if (&thread->context() == &context) return *thread;
  }
  return admin_thread_;
}

// On the acceptor's thread; the connection begins on its own.
void ServerImpl::take(Plane plane, bool tls, asio::io_context& context, StreamSocket socket) {
  IoThread& home = thread_of(context);
  std::int64_t open = 0;
  for (const auto& thread : threads_) open += thread->connections();
  const bool full = plane == Plane::api ? open >= plant_.limits.connections : admin_thread_.connections() >= kAdminConnectionsMax;
  if (full) {
    if (!tls) turn_away(socket);
    return;
  }
  home.expect();
  const auto context_now = tls ? tls_.get() : nullptr;
  asio::post(context, [this, plane, &home, context_now, socket = std::move(socket)]() mutable {
    auto transport = context_now != nullptr ? tls_transport(std::move(socket), std::const_pointer_cast<TlsContext>(context_now))
                                            : plain_transport(std::move(socket));
    auto session = std::make_shared<Session>(std::move(transport), plane, plant_, home, in_flight_);
    asio::awaitable<void> life = session->run();
    asio::co_spawn(home.context(), std::move(life), [session](std::exception_ptr failed) {
      if (!failed) return;
      try {
        std::rethrow_exception(failed);
      } catch (const std::exception& e) {
        log::error("http.connection_exception", {{"what", std::string_view(e.what())}});
      }
    });
  });
}

Result<> ServerImpl::reload_tls(const config::Plant::Tls& tls) {
  if (!tls.on() || tls_.get() == nullptr) {
    if (tls.on() == (tls_.get() != nullptr)) return {};
    return error(Errc::bad_config, "tls cannot be switched on or off by a reload: restart the server");
  }
  auto made = make_tls(tls);
  if (!made) return made.error();
  tls_.set(*made);
  return {};
}

void ServerImpl::close_acceptors(bool all) {
  for (Listener& listener : listeners_) {
    if (!all && listener.plane != Plane::api) continue;
    asio::post(listener.acceptor.get_executor(), [&acceptor = listener.acceptor] {
      boost::system::error_code ignored;
      acceptor.close(ignored);
    });
  }
  if (!all || !control_) return;
  asio::post(control_->get_executor(), [this] {
    boost::system::error_code ignored;
    control_->close(ignored);
  });
}

void ServerImpl::drain() {
  close_acceptors(false);
  for (const auto& thread : threads_) thread->drain();
}

void ServerImpl::stop() {
  if (stopped_) return;
  stopped_ = true;
  close_acceptors(true);
  for (const auto& thread : threads_) thread->stop(kStopPatience);
  admin_thread_.stop(kStopPatience);
  workers_.join();
  blocking_.join();
  if (!control_path_.empty()) ::unlink(control_path_.c_str());
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, gateway::Service& service,
                                              gateway::Administration& administration, telemetry::Metrics& metrics,
                                              std::function<Readiness()> readiness) {
  auto server = std::make_unique<ServerImpl>(options, service, administration, metrics, std::move(readiness));
  if (const auto bound = server->bind(options); !bound) return bound.error();
  if (options.bound) {
    if (const auto allowed = options.bound(); !allowed) return allowed.error();
  }
  server->start();
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace tokenworks::http
