#pragma once
// Server: the listeners of the plant. Public (`/v1/...`), admin (probes, metrics, `/admin/v1/...`), and the control socket
// (the admin table without a key, for the owner of the data directory). Each IO thread runs one io_context(1); a connection
// lives and dies on one of them, so nothing on its path takes a lock. Beast stays behind the source files.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tokenworks/base/result.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/gateway/administration.hpp"
#include "tokenworks/gateway/service.hpp"
#include "tokenworks/jobs/idempotency.hpp"
#include "tokenworks/telemetry/metrics.hpp"

namespace tokenworks::http {

struct Readiness {
  bool live = true;                                  // the process should not be restarted
  bool ready = true;
  std::vector<std::pair<std::string, std::string>> checks;   // name, "ok" or why not: for ?verbose
};

struct ServerOptions {
  std::vector<std::string> listen;                   // "host:port", port 0 allowed, "[::1]:0" too
  std::string admin_listen, control_socket;          // "": none
  config::Plant::Tls tls;
  config::Plant::Limits limits;
  int io_threads = 1;
  std::string server_version;                        // the `server` header
  jobs::Idempotency* idempotency = nullptr;          // for Idempotency-Key on billable routes; outlives the server
  std::function<Result<>()> bound;                   // the last word before anything is accepted; its error ends the start
};

class Server {
 public:
  // Binds and starts the threads. bad_config when an address or certificate cannot be used. All references outlive it.
  static Result<std::unique_ptr<Server>> start(const ServerOptions& options, gateway::Service& service,
                                               gateway::Administration& administration, telemetry::Metrics& metrics,
                                               std::function<Readiness()> readiness);
  virtual ~Server() = default;                       // stop() if that was not called
  virtual std::vector<std::string> api_urls() const = 0;     // "http://127.0.0.1:41233"
  virtual std::string admin_url() const = 0;
  // New certificates for new connections, or an error and the old ones stay.
  virtual Result<> reload_tls(const config::Plant::Tls& tls) = 0;
  // Stops accepting; idle connections close, running answers finish (`Connection: close`). Returns at once.
  virtual void drain() = 0;
  virtual std::int64_t requests_in_flight() const = 0;
  virtual void stop() = 0;                           // closes what is left and joins
};

}  // namespace tokenworks::http
