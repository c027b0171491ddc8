#include "listener.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <charconv>

#include "tokenworks/base/log.hpp"
#include "tokenworks/http/listen_check.hpp"

namespace tokenworks::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Unix = asio::local::stream_protocol;
using boost::system::error_code;

constexpr auto kAcceptPause = std::chrono::milliseconds(100);

void tune(tcp::socket& socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);   // a token must not wait for an acknowledgement
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
}
void tune(Unix::socket&) {}

template <class Acceptor>
asio::awaitable<void> accept_loop(Acceptor& acceptor, NextContext next, TakeSocket take) {
  asio::steady_timer pause(acceptor.get_executor());
  while (acceptor.is_open()) {
    asio::io_context& context = next();
    typename Acceptor::protocol_type::socket socket(context);
    error_code code;
    co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, code));
    if (!code) {
      tune(socket);
      take(context, StreamSocket(std::move(socket)));
      continue;
    }
    if (code == asio::error::operation_aborted || code == asio::error::bad_descriptor) co_return;
    if (code == asio::error::connection_aborted) continue;   // it left before we came
    log::warn("http.accept_failed", {{"why", code.message()}});
    pause.expires_after(kAcceptPause);
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, code));
  }
}

}  // namespace

Result<std::vector<tcp::endpoint>> resolve_listen(const std::string& text) {
  const auto bad = [&](const std::string& why) { return error(Errc::bad_config, "listen address '" + text + "': " + why); };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return bad("write it as host:port, for example 127.0.0.1:8080");
  std::string host = text.substr(0, colon);
  const std::string_view port_text = std::string_view(text).substr(colon + 1);
  unsigned port = 0;
  const auto [end, failed] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || failed != std::errc{} || end != port_text.data() + port_text.size() || port > 65535) return bad("the port must be 0 to 65535");
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host.empty() || host == "*") host = "0.0.0.0";
  error_code code;
  if (const auto address = asio::ip::make_address(host, code); !code) {
    return std::vector<tcp::endpoint>{tcp::endpoint(address, static_cast<unsigned short>(port))};
  }
  asio::io_context context;
  tcp::resolver resolver(context);
  const auto found = resolver.resolve(host, std::to_string(port), code);
  if (code || found.empty()) return bad("the host name cannot be resolved (" + code.message() + ")");
  std::vector<tcp::endpoint> endpoints;
  for (const auto& entry : found) {
    if (std::find(endpoints.begin(), endpoints.end(), entry.endpoint()) == endpoints.end()) endpoints.push_back(entry.endpoint());
  }
  if (port == 0) endpoints.resize(1);                // two ports of the kernel's choice would be two addresses
  return endpoints;
}

bool is_loopback(const std::vector<tcp::endpoint>& endpoints) {
  return std::all_of(endpoints.begin(), endpoints.end(), [](const tcp::endpoint& e) { return e.address().is_loopback(); });
}

std::string url_of(const tcp::endpoint& endpoint, bool tls) {
  const std::string host = endpoint.address().to_string();
  return std::string(tls ? "https://" : "http://") + (endpoint.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(endpoint.port());
}

Result<tcp::acceptor> bind_tcp(asio::io_context& context, const tcp::endpoint& at) {
  tcp::acceptor acceptor(context);
  error_code code;
  acceptor.open(at.protocol(), code);
  if (!code) acceptor.set_option(asio::socket_base::reuse_address(true), code);
  if (!code && at.protocol() == tcp::v6()) acceptor.set_option(asio::ip::v6_only(at.address().is_loopback()), code);
  if (!code) acceptor.bind(at, code);
  if (!code) acceptor.listen(4096, code);
  if (code) {
    return error(Errc::bad_config, "cannot listen on " + at.address().to_string() + ":" + std::to_string(at.port()) + ": " + code.message());
  }
  return acceptor;
}

std::string listen_mistake(const std::string& address) {
  const auto endpoints = resolve_listen(address);
  if (!endpoints) return endpoints.error().message;
  asio::io_context context;
  for (const tcp::endpoint& at : *endpoints) {
    tcp::acceptor acceptor(context);
    error_code code;
    acceptor.open(at.protocol(), code);
    if (!code) acceptor.set_option(asio::socket_base::reuse_address(true), code);
    if (!code) acceptor.bind(at, code);
    if (code && code != asio::error::address_in_use) return "cannot listen on " + address + ": " + code.message();
  }
  return {};
}

Result<Unix::acceptor> bind_unix(asio::io_context& context, const std::string& path) {
  const auto refuse = [&](const std::string& why) { return error(Errc::bad_config, "cannot listen on the control socket " + path + ": " + why); };
  if (path.size() >= sizeof(sockaddr_un{}.sun_path)) return refuse("the path is longer than 107 bytes; choose a shorter data_dir");
  struct stat there {};
  if (lstat(path.c_str(), &there) == 0) {
    if (!S_ISSOCK(there.st_mode)) return refuse("a file that is no socket is in its place");
    unlink(path.c_str());                            // ours: the caller holds the lock of the data directory
  }
  Unix::acceptor acceptor(context);
  error_code code;
  acceptor.open(Unix(), code);
  const mode_t before = umask(0177);                 // the file must never exist with wider rights
  if (!code) acceptor.bind(Unix::endpoint(path), code);
  umask(before);
  if (!code) acceptor.listen(64, code);
  if (code) return refuse(code.message());
  return acceptor;
}

asio::awaitable<void> accept_tcp(tcp::acceptor& acceptor, NextContext next, TakeSocket take) {
  return accept_loop(acceptor, std::move(next), std::move(take));
}
asio::awaitable<void> accept_unix(Unix::acceptor& acceptor, NextContext next, TakeSocket take) {
  return accept_loop(acceptor, std::move(next), std::move(take));
}

}  // namespace tokenworks::http
