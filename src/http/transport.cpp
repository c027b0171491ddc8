#include "transport.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <optional>

namespace tokenworks::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

auto into(error_code& code) { return asio::redirect_error(asio::use_awaitable, code); }

bool would_block(const error_code& code) {
  return code == asio::error::would_block || code == asio::error::try_again || code == asio::error::interrupted;
}

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(StreamSocket socket) : Transport(socket.get_executor()), socket_(std::move(socket)) {
    error_code ignored;
    socket_.non_blocking(true, ignored);
  }

  asio::awaitable<bool> handshake() override { co_return true; }

  // Waits without a buffer of its own, so that an idle connection holds none.
  void read(std::string& into, std::size_t most, std::function<void(bool)> done) override {
    auto self = std::static_pointer_cast<PlainTransport>(shared_from_this());
    socket_.async_wait(StreamSocket::wait_read, [self, &into, most, done = std::move(done)](error_code code) mutable {
      if (!code) {
        thread_local std::array<char, 64 << 10> scratch;
        const std::size_t n = self->socket_.read_some(asio::buffer(scratch.data(), std::min(most, scratch.size())), code);
        if (would_block(code)) return self->read(into, most, std::move(done));
        into.append(scratch.data(), n);
      }
      done(!code);
    });
  }

  std::size_t write_now(std::string_view bytes) override {
    error_code code;
    return socket_.write_some(asio::buffer(bytes.data(), bytes.size()), code);   // an error comes again from write()
  }

  // The kernel nearly always has room: try first, wait only if it has not.
  asio::awaitable<bool> write(std::string_view bytes, std::chrono::nanoseconds patience) override {
    while (!bytes.empty()) {
      error_code code;
      const std::size_t n = socket_.write_some(asio::buffer(bytes.data(), bytes.size()), code);
      bytes.remove_prefix(n);
      if (!code) continue;
      if (!would_block(code)) co_return false;
      expire_in(patience);
      code = {};
      co_await socket_.async_wait(StreamSocket::wait_write, into(code));
      never_expire();
      if (code) co_return false;
    }
    co_return true;
  }

  asio::awaitable<void> end_of_output() override {
    error_code ignored;
    socket_.shutdown(StreamSocket::shutdown_send, ignored);
    co_return;
  }

  void close() override {
    stop_timer();
    error_code ignored;
    socket_.close(ignored);
  }

 private:
  StreamSocket socket_;
};

class TlsTransport final : public Transport {
 public:
  TlsTransport(StreamSocket socket, std::shared_ptr<TlsContext> context)
      : Transport(socket.get_executor()), context_(std::move(context)), stream_(std::move(socket), *context_) {}

  asio::awaitable<bool> handshake() override {
    error_code code;
    co_await stream_.async_handshake(asio::ssl::stream_base::server, into(code));
    co_return !code;
  }

  std::string peer() const override {
    const X509* certificate = SSL_get0_peer_certificate(const_cast<asio::ssl::stream<StreamSocket>&>(stream_).native_handle());
    if (certificate == nullptr) return {};
    const std::unique_ptr<BIO, int (*)(BIO*)> out(BIO_new(BIO_s_mem()), BIO_free);
    X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
    const char* text = nullptr;
    const long length = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<std::size_t>(std::clamp(length, 0L, 256L))};
  }

  void read(std::string& into, std::size_t most, std::function<void(bool)> done) override {
    auto self = std::static_pointer_cast<TlsTransport>(shared_from_this());
    stream_.async_read_some(asio::buffer(input_.data(), std::min(most, input_.size())),
                            [self, &into, done = std::move(done)](error_code code, std::size_t n) {
                              into.append(self->input_.data(), n);
                              done(!code);
                            });
  }

  asio::awaitable<bool> write(std::string_view bytes, std::chrono::nanoseconds patience) override {
    while (!bytes.empty()) {
      error_code code;
      expire_in(patience);
      const std::size_t n = co_await stream_.async_write_some(asio::buffer(bytes.data(), bytes.size()), into(code));
      never_expire();
      if (code) co_return false;
      bytes.remove_prefix(n);
    }
    co_return true;
  }

  // Sends close_notify and waits for the peer's; the caller's deadline bounds the wait.
  asio::awaitable<void> end_of_output() override {
    error_code ignored;
    co_await stream_.async_shutdown(into(ignored));
    stream_.next_layer().shutdown(StreamSocket::shutdown_send, ignored);
  }

  void close() override {
    stop_timer();
    error_code ignored;
    stream_.next_layer().close(ignored);
  }

 private:
  std::shared_ptr<TlsContext> context_;
  asio::ssl::stream<StreamSocket> stream_;
  std::array<char, 16 << 10> input_;                 // one TLS record
};

}  // namespace

void Transport::expire_in(std::chrono::nanoseconds patience) {
  expires_ = Clock::now() + patience;
  if (expires_ < armed_) arm();
}

void Transport::arm() {
  armed_ = expires_;
  timer_.expires_at(armed_);
  timer_.async_wait([self = shared_from_this()](error_code code) {
    if (code) return;                                // set to an earlier time, or stopped
    self->armed_ = kNever;
    if (self->expires_ == kNever) return;
    if (Clock::now() < self->expires_) return self->arm();
    self->expires_ = kNever;
    if (self->on_expiry_) self->on_expiry_();
  });
}

void Transport::stop_timer() {
  expires_ = armed_ = kNever;
  timer_.cancel();
}

std::shared_ptr<Transport> plain_transport(StreamSocket socket) { return std::make_shared<PlainTransport>(std::move(socket)); }

std::shared_ptr<Transport> tls_transport(StreamSocket socket, std::shared_ptr<TlsContext> context) {
  return std::make_shared<TlsTransport>(std::move(socket), std::move(context));
}

}  // namespace tokenworks::http
