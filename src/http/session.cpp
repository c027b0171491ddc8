#include "session.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "errors.hpp"
#include "tokenworks/base/log.hpp"
#include "tokenworks/base/log_level.hpp"

namespace tokenworks::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr std::size_t kReadAhead = 64 << 10;         // of pipelined requests, while one is served
constexpr std::int64_t kSlowestBytesPerSecond = 16 << 10;   // a body that arrives slower than this runs into its deadline
constexpr auto kLingerTime = seconds(2);
constexpr std::size_t kLingerBytes = 16 << 20;

}  // namespace

Session::Session(std::shared_ptr<Transport> transport, Plane plane, const Plant& plant, Sessions& sessions,
                 std::atomic<std::int64_t>& in_flight)
    : transport_(std::move(transport)),
      plane_(plane),
      plant_(plant),
      sessions_(sessions),
      in_flight_(in_flight),
      input_event_(transport_->executor()),
      output_event_(transport_->executor()),
      ping_timer_(transport_->executor()) {
  sessions_.add(*this);
  transport_->on_expiry([this] { deadline_passed(); });
}

Session::~Session() {
  transport_->on_expiry({});
  transport_->close();
  sessions_.remove(*this);
}

// A reader that is too slow is told so; a writer that makes no progress, or a handshake, is cut off.
void Session::deadline_passed() {
  if (!waiting_) return transport_->close();
  late_ = true;
  input_event_.cancel();
}

asio::awaitable<void> Session::run() {
  const auto self = shared_from_this();
  transport_->expire_in(nanoseconds(plant_.limits.read_timeout_ns));
  const bool got = co_await transport_->handshake();
  if (!got) {
    transport_->close();
    co_return;
  }
  peer_ = transport_->peer();
  while (!closing_ && !broken_) {
    const bool wait_for_request_ok = co_await wait_for_request();
    if (!wait_for_request_ok) break;
    co_await exchange_one();
  }
  co_await linger();
  transport_->close();
}

void Session::drain() {
  closing_ = true;
  if (idle_) input_event_.cancel();
}

void Session::abort() {
  closing_ = broken_ = ended_ = true;
  if (current_ != nullptr) current_->departure.client_left();
  input_event_.cancel();
  transport_->close();
}

// Keeps one read under way as long as there is room. While a request is served this is also the watch on its client.
void Session::pump() {
  const std::size_t room = kReadAhead + static_cast<std::size_t>(plant_.limits.header_bytes);
  if (reading_ || ended_ || in_.size() >= room) return;
  reading_ = true;
  transport_->read(in_, room - in_.size(), [self = shared_from_this()](bool ok) {
    self->reading_ = false;
    if (!ok) self->ended_ = true;
    self->input_event_.cancel();
    if (self->current_ == nullptr) return;
    if (self->ended_) {
      self->current_->departure.client_left();
    } else {
      self->pump();
    }
  });
}

// Waits until something arrived. False when nothing more will.
asio::awaitable<bool> Session::more() {
  const std::size_t before = in_.size();
  pump();
  waiting_ = true;
  while (!ended_ && !late_ && in_.size() == before && !(closing_ && idle_)) {
    error_code ignored;
    input_event_.expires_at(Clock::time_point::max());
    co_await input_event_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  waiting_ = false;
  co_return in_.size() > before;
}

void Session::take(std::size_t bytes) { in_.erase(0, bytes); }

// Whether a request has begun. Empty lines before one are skipped (RFC 9112 2.2); an idle connection holds no buffer.
bool Session::request_began() {
  take(std::min(in_.find_first_not_of("\r\n"), in_.size()));
  if (!in_.empty()) return true;
  if (in_.capacity() > 1024) std::string().swap(in_);
  return false;
}

// Between requests. False: none will come. (Kept free of temporaries: g++ 12 miscompiles what lives around a co_await.)
asio::awaitable<bool> Session::wait_for_request() {
  idle_ = true;
  admitted_ = {};                                    // an idle connection pins no directory and holds no request
  reader_.reset();
  const std::int64_t patience_ns = served_before_ ? plant_.limits.idle_timeout_ns : plant_.limits.read_timeout_ns;
  transport_->expire_in(nanoseconds(patience_ns));
  while (!request_began()) {
    if (closing_) co_return false;
    const bool got = co_await more();
    if (!got) co_return false;
  }
  idle_ = false;
  started_ = Clock::now();
  id_ = RequestId::make_now();
  co_return true;
}

// Feeds the reader until the head is complete. False: it never will be; the answer, if one is due, was sent.
asio::awaitable<bool> Session::read_head() {
  transport_->expire_in(nanoseconds(plant_.limits.read_timeout_ns));
  for (;;) {
    take(reader_->feed(in_));
    if (reader_->state() == RequestReader::State::failed) {
      closing_ = true;
      Reply reply = error_reply(reader_->failure());
      co_await refuse(reply);
      co_return false;
    }
    if (reader_->state() != RequestReader::State::head) co_return true;
    const bool got = co_await more();
    if (!got) {
      co_await give_up();
      co_return false;
    }
  }
}

// No more of this request will come: the client left, or was too slow and is told.
asio::awaitable<void> Session::give_up() {
  closing_ = true;
  if (!late_) {
    broken_ = true;
    co_return;
  }
  late_ = false;
  transport_->never_expire();
  Reply reply = error_reply(error(Errc::request_timeout, "the request did not arrive in time; send it faster or in smaller parts"));
  co_await refuse(reply);
}

asio::awaitable<bool> Session::read_body() {
  if (reader_->state() == RequestReader::State::body && reader_->expects_continue() && in_.empty()) {
    const bool told = co_await write_bytes("HTTP/1.1 100 Continue\r\n\r\n");
    if (!told) co_return false;
  }
  std::int64_t received = 0;
  while (reader_->state() == RequestReader::State::body) {
    const nanoseconds spent = Clock::now() - started_;
    const nanoseconds allowed = nanoseconds(plant_.limits.read_timeout_ns) + seconds(received / kSlowestBytesPerSecond);
    transport_->expire_in(std::max<nanoseconds>(allowed - spent, nanoseconds(1)));
    const std::size_t before = in_.size();
    const bool got = co_await more();
    if (!got) {
      co_await give_up();
      co_return false;
    }
    received += static_cast<std::int64_t>(in_.size() - before);
    take(reader_->feed(in_));
  }
  if (reader_->state() == RequestReader::State::failed) {
    closing_ = true;
    Reply reply = error_reply(reader_->failure());
    co_await refuse(reply);
    co_return false;
  }
  co_return true;
}

// One request, from its first byte to the end of its answer.
asio::awaitable<void> Session::exchange_one() {
  reader_.emplace(static_cast<std::size_t>(plant_.limits.header_bytes), static_cast<std::size_t>(plant_.limits.body_bytes));
  chunked_ = streaming_ = head_only_ = http_1_0_ = cross_origin_ = false;
  const bool read_head_ok = co_await read_head();
  if (!read_head_ok) co_return;
  if (!reader_->keep_alive()) closing_ = true;
  head_only_ = reader_->request().method == "HEAD";
  http_1_0_ = reader_->request().http_1_0;
  cross_origin_ = !reader_->request().headers.get("origin").empty();
  admitted_ = dispatch(plant_, plane_, reader_->request());
  if (!admitted_.answer && reader_->bad_expectation()) {
    admitted_.answer = error_reply(error(Errc::invalid_request, "the only expectation this server meets is 100-continue"));
    admitted_.answer->status = 417;
  }
  if (admitted_.answer) {
    // The body is not needed; when it is not there yet, the connection cannot be used again.
    if (reader_->state() != RequestReader::State::done) closing_ = true;
    const Reply reply = std::move(*admitted_.answer);
    co_await refuse(reply);
    co_return;
  }
  const bool read_body_ok = co_await read_body();
  if (!read_body_ok) co_return;
  transport_->never_expire();
  auto decoding = decode_body(plant_, reader_->request());
  const Result<> decoded = co_await std::move(decoding);
  if (!decoded) {
    Reply reply = error_reply(decoded.error());
    co_await refuse(reply);
    co_return;
  }
  const bool counted = plane_ == Plane::api;
  if (counted) ++in_flight_;
  Exchange exchange{.plant = plant_, .plane = plane_, .id = id_, .request = std::move(reader_->request()),
                    .captures = std::move(admitted_.captures), .query = std::move(admitted_.query),
                    .caller = admitted_.caller, .outlet = *this, .departure = {}, .started = started_, .account = {}};
  const Reply reply = co_await answer_request(exchange);
  if (!reply.streamed) co_await write_reply(reply);
  account_for(exchange, exchange.departure.left() ? shape(Errc::cancelled).status : reply.status);
  if (counted) --in_flight_;
  served_before_ = true;
}

asio::awaitable<Reply> Session::answer_request(Exchange& exchange) {
  if (exchange.caller.principal != nullptr) exchange.account.organization = exchange.caller.principal->organization.value;
  if (admitted_.route->billable) {
    current_ = &exchange;
    pump();                                          // from here on a client that leaves is noticed
    if (ended_) exchange.departure.client_left();
  }
  Reply reply;
  std::string failed;
  try {
    Answer answer = admitted_.route->handler(exchange);
    reply = co_await std::move(answer);
  } catch (const std::exception& e) {
    failed = e.what();
  } catch (...) {
    failed = "an exception of unknown type";
  }
  current_ = nullptr;
  ping_.clear();
  ping_timer_.cancel();
  if (failed.empty()) co_return reply;
  log::error("session.exception", {{"request_id", id_.to_string()}, {"route", admitted_.route->pattern}, {"what", failed}});
  reply = error_reply(error(Errc::internal, failed));
  reply.close = true;
  if (streaming_) {                                  // its head is out: the only honest end is a broken one
    reply.streamed = true;
    broken_ = true;
  }
  co_return reply;
}

// An answer to a request that never reached a handler.
asio::awaitable<void> Session::refuse(const Reply& reply) {
  co_await write_reply(reply);
  Exchange nothing{.plant = plant_, .plane = plane_, .id = id_, .request = std::move(reader_->request()), .captures = {},
                   .query = {}, .caller = admitted_.caller, .outlet = *this, .departure = {}, .started = started_, .account = {}};
  if (nothing.caller.principal != nullptr) nothing.account.organization = nothing.caller.principal->organization.value;
  account_for(nothing, reply.status);
  served_before_ = true;
}

// One log line and one count per request; ids, names and numbers only.
void Session::account_for(const Exchange& exchange, int status) {
  const double took = std::chrono::duration<double>(Clock::now() - started_).count();
  const Account& account = exchange.account;
  const Route* route = admitted_.route;
  const bool quiet = route != nullptr && route->quiet && status < 500;
  if (const auto level = quiet ? log::Level::debug : log::Level::info; log::writes(level)) {
    log::write(level, "request",
               {{"request_id", id_.to_string()}, {"method", exchange.request.method.substr(0, 16)},
                {"route", route == nullptr ? std::string_view("-") : route->pattern}, {"status", status}, {"ms", took * 1000},
                {"organization", account.organization}, {"model", account.model}, {"input_tokens", account.usage.input},
                {"output_tokens", account.usage.output}, {"cost", to_string(account.charge, account.currency)}, {"peer", peer_}});
  }
  if (plane_ != Plane::api) return;
  telemetry::RequestDone done{.organization = account.organization, .model = account.model, .currency = account.currency,
                              .status = status, .usage = account.usage, .embedding = account.embedding, .charge = account.charge,
                              .seconds = account.admitted ? took : -1, .queue_seconds = account.queue_seconds,
                              .first_token_seconds = account.first_token_seconds};
  plant_.metrics->request_done(done);
}

// Lets the peer read what was sent: closing a socket with unread input resets the connection and takes the answer along.
asio::awaitable<void> Session::linger() {
  if (broken_ || ended_) co_return;
  late_ = false;
  transport_->expire_in(kLingerTime);
  co_await transport_->end_of_output();
  idle_ = false;
  for (std::size_t dropped = 0; dropped < kLingerBytes && !ended_;) {
    dropped += in_.size();
    in_.clear();
    const bool more_ok = co_await more();
    if (!more_ok) break;
  }
}

}  // namespace tokenworks::http
