// The writing half of a session: whole answers, chunks of a stream, and the comment lines that keep a quiet stream alive.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <charconv>

#include "errors.hpp"
#include "session.hpp"

namespace tokenworks::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

Error gone() { return error(Errc::cancelled, "the client is gone"); }

// `bytes` as one chunk of a chunked body, its size line written in front without moving what follows twice.
void append_chunk(std::string& out, std::string_view bytes) {
  if (bytes.empty()) return;                         // an empty chunk would end the body
  char size[24];
  out.append(size, static_cast<std::size_t>(std::to_chars(size, size + sizeof size, bytes.size(), 16).ptr - size));
  out += "\r\n";
  out.append(bytes);
  out += "\r\n";
}

}  // namespace

HeadFacts Session::facts() const {
  const auto* principal = admitted_.caller.principal;
  return {.plant = plant_, .plane = plane_, .id = &id_,
          .organization = principal == nullptr ? std::string_view() : std::string_view(principal->organization.value),
          .processing_ms = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - started_).count(),
          .close = closing_, .chunked = chunked_, .cross_origin = cross_origin_, .http_1_0 = http_1_0_};
}

// One write at a time: a ping may be under way when an answer goes on.
asio::awaitable<bool> Session::write_bytes(std::string_view bytes) {
  while (writing_) {
    error_code ignored;
    others_wait_ = true;
    output_event_.expires_at(Clock::time_point::max());
    co_await output_event_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  if (broken_) co_return false;
  writing_ = true;
  const bool ok = co_await transport_->write(bytes, std::chrono::nanoseconds(plant_.limits.write_timeout_ns));
  writing_ = false;
  if (others_wait_) output_event_.cancel();
  last_write_ = Clock::now();
  if (!ok) closing_ = broken_ = true;
  co_return ok;
}

asio::awaitable<void> Session::write_reply(const Reply& reply) {
  if (reply.close) closing_ = true;
  std::string bytes;
  append_head(bytes, reply.status, reply.content_type, static_cast<std::int64_t>(reply.body.size()), reply.headers, facts());
  if (!head_only_) bytes += reply.body;
  co_await write_bytes(bytes);
}

asio::awaitable<Result<>> Session::start(std::string_view content_type, const Headers& headers, std::string_view first) {
  chunked_ = !http_1_0_;
  if (http_1_0_) closing_ = true;                    // the body ends with the connection
  streaming_ = true;
  std::string bytes;
  append_head(bytes, 200, content_type, -1, headers, facts());
  if (chunked_) {
    append_chunk(bytes, first);
  } else {
    bytes += first;
  }
  const bool sent = co_await write_bytes(bytes);
  if (!sent) co_return gone();
  co_return Result<>{};
}

asio::awaitable<Result<>> Session::write_stream(std::string_view bytes) {
  const bool sent = co_await write_bytes(bytes);
  if (!sent) {
    if (current_ != nullptr) current_->departure.client_left();
    co_return gone();
  }
  co_return Result<>{};
}

asio::awaitable<Result<>> Session::send(std::string_view bytes) {
  if (!chunked_) return write_stream(bytes);
  return write_chunk(bytes, false);
}

// While a ping is under way nothing may come between its parts: flush() waits for its end. The thread's one buffer is warm,
// where a session's own would be fetched from memory with every token; a session keeps only what the socket did not take.
bool Session::send_now(std::string_view bytes) {
  thread_local std::string framed;
  if (chunked_) {
    framed.clear();
    append_chunk(framed, bytes);
    bytes = framed;
  }
  unsent_.clear();
  std::size_t sent = 0;
  if (!writing_ && !broken_) {
    sent = transport_->write_now(bytes);
    last_write_ = Clock::now();
    if (sent == bytes.size()) return true;
  }
  unsent_ = bytes.substr(sent);
  return false;
}

asio::awaitable<Result<>> Session::flush() {
  const std::string rest = std::move(unsent_);
  unsent_.clear();
  co_return co_await write_stream(rest);
}

asio::awaitable<Result<>> Session::write_chunk(std::string_view bytes, bool last) {
  std::string chunk;
  chunk.reserve(bytes.size() + 24);
  append_chunk(chunk, bytes);
  if (last) chunk += "0\r\n\r\n";
  const bool sent = co_await write_bytes(chunk);
  if (sent) co_return Result<>{};
  if (current_ != nullptr) current_->departure.client_left();
  co_return gone();
}

asio::awaitable<Result<>> Session::finish(std::string_view bytes) {
  std::string().swap(unsent_);                       // an idle connection holds no buffer
  ping_.clear();
  ping_timer_.cancel();
  if (!chunked_) return write_stream(bytes);
  return write_chunk(bytes, true);
}

void Session::keep_alive_with(std::string ping) {
  ping_ = std::move(ping);
  if (!ping_.empty() && !broken_) arm_ping();
}

void Session::arm_ping() {
  ping_timer_.expires_at(std::max(Clock::now() + std::chrono::milliseconds(1), last_write_ + plant_.ping_every));
  ping_timer_.async_wait([self = shared_from_this()](error_code code) {
    if (code || self->ping_.empty() || self->broken_) return;
    if (!self->writing_ && Clock::now() >= self->last_write_ + self->plant_.ping_every) {
      asio::co_spawn(self->transport_->executor(), send_ping(self), asio::detached);
    }
    self->arm_ping();
  });
}

asio::awaitable<void> Session::send_ping(std::shared_ptr<Session> self) {
  std::string bytes;
  if (self->chunked_) {
    append_chunk(bytes, self->ping_);
  } else {
    bytes = self->ping_;
  }
  const bool sent = co_await self->write_bytes(bytes);
  if (!sent && self->current_ != nullptr) self->current_->departure.client_left();
}

}  // namespace tokenworks::http
