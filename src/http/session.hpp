#pragma once
// Session: one connection from accept to close: reads requests one after the other (pipelined ones wait in the buffer),
// dispatches them, writes answers, watches whether the client is still there. It lives on one IO thread and is kept alive
// by its own operations; nothing in it is shared, nothing takes a lock.
//
// A client that sends the end of its stream has left, also if it would go on reading: the two cannot be told apart, and
// generating for nobody costs money. What it had asked for before is still answered when that is immediate.
#include <boost/asio/steady_timer.hpp>
#include <atomic>
#include <memory>
#include <string>

#include "dispatch.hpp"
#include "exchange.hpp"
#include "head.hpp"
#include "quick_outlet.hpp"
#include "reply_head.hpp"
#include "transport.hpp"

namespace tokenworks::http {

class Session;

// The connections of one IO thread, so that drain and stop can find them. Used on that thread only.
class Sessions {
 public:
  virtual ~Sessions() = default;
  virtual void add(Session& session) = 0;
  virtual void remove(Session& session) = 0;
};

class Session final : public Outlet, public QuickOutlet, public std::enable_shared_from_this<Session> {
 public:
  // `in_flight` counts public requests; all references outlive the session.
  Session(std::shared_ptr<Transport> transport, Plane plane, const Plant& plant, Sessions& sessions, std::atomic<std::int64_t>& in_flight);
  ~Session() override;

  // The whole life; spawn once.
  boost::asio::awaitable<void> run();
  // Ends after the answer under way; at once when there is none.
  void drain();
  // Ends now; a request under way is told that its client left.
  void abort();

  boost::asio::awaitable<Result<>> start(std::string_view content_type, const Headers& headers, std::string_view first) override;
  boost::asio::awaitable<Result<>> send(std::string_view bytes) override;
  bool send_now(std::string_view bytes) override;
  boost::asio::awaitable<Result<>> flush() override;
  boost::asio::awaitable<Result<>> finish(std::string_view bytes) override;
  void keep_alive_with(std::string ping) override;

 private:
  using Clock = std::chrono::steady_clock;

  // Input.
  void deadline_passed();
  void pump();
  boost::asio::awaitable<bool> more();
  bool request_began();
  boost::asio::awaitable<bool> wait_for_request();
  boost::asio::awaitable<bool> read_head();
  boost::asio::awaitable<bool> read_body();
  boost::asio::awaitable<void> give_up();
  void take(std::size_t bytes);
  // One request.
  boost::asio::awaitable<void> exchange_one();
  boost::asio::awaitable<Reply> answer_request(Exchange& exchange);
  boost::asio::awaitable<void> refuse(const Reply& reply);
  void account_for(const Exchange& exchange, int status);
  // Output.
  HeadFacts facts() const;
  boost::asio::awaitable<bool> write_bytes(std::string_view bytes);
  boost::asio::awaitable<void> write_reply(const Reply& reply);
  boost::asio::awaitable<Result<>> write_stream(std::string_view bytes);
  boost::asio::awaitable<Result<>> write_chunk(std::string_view bytes, bool last);
  void arm_ping();
  static boost::asio::awaitable<void> send_ping(std::shared_ptr<Session> self);
  boost::asio::awaitable<void> linger();

  const std::shared_ptr<Transport> transport_;
  const Plane plane_;
  const Plant& plant_;
  Sessions& sessions_;
  std::atomic<std::int64_t>& in_flight_;

  std::string in_;                                   // read, not yet consumed
  bool reading_ = false, ended_ = false;             // a read is under way; the peer is gone
  bool waiting_ = false, late_ = false;              // in more(); the deadline passed meanwhile
  boost::asio::steady_timer input_event_, output_event_, ping_timer_;   // the first two are never reached: events

  std::optional<RequestReader> reader_;
  Admitted admitted_;
  RequestId id_;
  std::string peer_;                                 // whose certificate the connection came with
  Clock::time_point started_;
  Exchange* current_ = nullptr;                      // while a handler runs
  bool idle_ = true, served_before_ = false;
  bool head_only_ = false, http_1_0_ = false, cross_origin_ = false;   // of the request being answered
  bool closing_ = false;                             // after this answer
  bool broken_ = false;                              // nothing can be written any more
  bool writing_ = false, streaming_ = false, chunked_ = false;
  bool others_wait_ = false;                         // for the end of a write: a ping was under way when an answer went on
  std::string ping_;
  std::string unsent_;                               // of send_now(): framed, not yet taken by the socket
  Clock::time_point last_write_;
};

}  // namespace tokenworks::http
