#pragma once
// Exchange: one request and what its handler may use to answer it, free of sockets and of Beast. A handler returns a whole
// Reply, or streams through the Outlet and returns a Reply whose `streamed` is set. Everything here lives on the
// connection's IO thread for as long as the request is served; the session owns it.
#include <boost/asio/awaitable.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "headers.hpp"
#include "tokenworks/base/ids.hpp"
#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/administration.hpp"
#include "tokenworks/gateway/service.hpp"
#include "tokenworks/http/server.hpp"
#include "tokenworks/telemetry/metrics.hpp"

namespace tokenworks::http {

enum class Plane : std::uint8_t { api, admin, local };   // public listener, admin listener, control socket

struct Reply {
  int status = 200;
  std::string content_type = "application/json";     // "": no body
  Headers headers;
  std::string body;
  bool streamed = false;                             // the handler has sent its answer itself
  bool close = false;                                // the connection ends with this answer
};

// A request as it was read: the target split and decoded, the body whole and inflated.
struct Incoming {
  std::string method;
  std::string path;                                  // still percent-encoded, without query
  std::string query;
  Headers headers;
  std::string body;
  bool http_1_0 = false;
};

// The way to a client whose answer is streamed. Each returns an error once the client is gone or stalled. Arguments are
// the caller's locals and outlive the call: g++ 12 corrupts class-type arguments passed by value inside a co_await.
class Outlet {
 public:
  virtual ~Outlet() = default;
  // Sends the head (status 200) and the first bytes together.
  virtual boost::asio::awaitable<Result<>> start(std::string_view content_type, const Headers& headers, std::string_view first) = 0;
  // Sends `bytes`: one chunk, one write.
  virtual boost::asio::awaitable<Result<>> send(std::string_view bytes) = 0;
  // Sends the last bytes and the end of the body.
  virtual boost::asio::awaitable<Result<>> finish(std::string_view bytes) = 0;
  // What to send when nothing else was sent for a while (a comment line); "" for never.
  virtual void keep_alive_with(std::string ping) = 0;
};

// What all connections share. Set up before the first one, outlives the last.
struct Plant {
  gateway::Service* service = nullptr;
  gateway::Administration* administration = nullptr;
  telemetry::Metrics* metrics = nullptr;
  jobs::Idempotency* idempotency = nullptr;          // may be null: Idempotency-Key is then ignored
  std::function<Readiness()> readiness;
  config::Plant::Limits limits;
  std::string server_version;
  boost::asio::thread_pool* workers = nullptr;       // for work too long for an IO thread: large bodies, the exposition
  boost::asio::thread_pool* blocking = nullptr;      // for calls that wait for the ledger (Administration)
  std::chrono::nanoseconds ping_every = std::chrono::seconds(15);
};

// What the log line and the metrics of a request say; handlers fill in what they learn.
struct Account {
  std::string organization, model, currency;
  Usage usage;
  Money charge;
  double queue_seconds = -1, first_token_seconds = -1;
  bool admitted = false;                             // counts in the latency histograms
  bool embedding = false;                            // its input tokens are of class embedding
};

struct Exchange {
  const Plant& plant;
  Plane plane;
  RequestId id;
  Incoming request;
  std::vector<std::string> captures;                 // decoded path parts the route's pattern captured
  Query query;
  gateway::Caller caller;                            // principal is null where the route needs no key
  Outlet& outlet;
  gateway::Departure departure;
  std::chrono::steady_clock::time_point started;
  Account account;
};

}  // namespace tokenworks::http
