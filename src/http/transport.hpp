#pragma once
// Transport: the bytes of one connection, plain (TCP, Unix) or TLS, with one deadline. Nothing here knows HTTP. Lives on
// its IO thread, shared by the operations that are under way; close() ends them all.
#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tokenworks::http {

using StreamSocket = boost::asio::generic::stream_protocol::socket;
using TlsContext = boost::asio::ssl::context;

class Transport : public std::enable_shared_from_this<Transport> {
 public:
  virtual ~Transport() = default;

  virtual boost::asio::awaitable<bool> handshake() = 0;
  // After the handshake: the subject of the certificate the peer showed (RFC 4514), "" for none.
  virtual std::string peer() const { return {}; }
  // Waits for input and appends what is there, at most `most` bytes. `done` is called once, later, on the IO thread; false:
  // the peer is gone or the transport was closed. One at a time.
  virtual void read(std::string& into, std::size_t most, std::function<void(bool)> done) = 0;
  // Sends all bytes; false when the peer is gone or took nothing for `patience`. One at a time, beside a read.
  virtual boost::asio::awaitable<bool> write(std::string_view bytes, std::chrono::nanoseconds patience) = 0;
  // Sends as much as goes without waiting and returns how much that is; not while a write is under way.
  virtual std::size_t write_now(std::string_view /*bytes*/) { return 0; }
  // Tells the peer that nothing more will come, so that it can read to the end.
  virtual boost::asio::awaitable<void> end_of_output() = 0;
  virtual void close() = 0;

  // Calls what on_expiry() was given unless the deadline is moved or lifted in time. Moving it is a store, not a timer
  // operation: the timer runs to the earliest time that was ever set and looks again.
  void expire_in(std::chrono::nanoseconds patience);
  void never_expire() { expires_ = kNever; }
  void on_expiry(std::function<void()> call) { on_expiry_ = std::move(call); }
  boost::asio::any_io_executor executor() { return timer_.get_executor(); }

 protected:
  using Clock = std::chrono::steady_clock;
  static constexpr Clock::time_point kNever = Clock::time_point::max();

  explicit Transport(boost::asio::any_io_executor executor) : timer_(std::move(executor)) {}
  void stop_timer();

 private:
  void arm();

  boost::asio::steady_timer timer_;
  Clock::time_point expires_ = kNever, armed_ = kNever;
  std::function<void()> on_expiry_;
};

std::shared_ptr<Transport> plain_transport(StreamSocket socket);
// `context` is kept: a reload gives new connections a new one.
std::shared_ptr<Transport> tls_transport(StreamSocket socket, std::shared_ptr<TlsContext> context);

}  // namespace tokenworks::http
