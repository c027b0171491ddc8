#pragma once
// Control: how a command reaches the plant. While a daemon runs, over <data_dir>/control.sock; without one, the command
// holds the data directory's lock and opens the store itself. One HTTP request over a unix socket (libcurl).
#include <functional>
#include <memory>
#include <string>

#include "tokenworks/app/plant.hpp"
#include "tokenworks/config/config.hpp"
#include "tokenworks/ledger/ledger.hpp"

namespace tokenworks::cli {

struct Reply {
  int status = 0;
  std::string body;
};

// unreachable: Errc::io. `socket` empty: `url` is a full http(s) URL. `on_data` gets the body as it comes instead.
// `authorities`: a PEM file of certificates to trust in place of the system's; without it SSL_CERT_FILE, then the system.
Result<Reply> http_request(const std::string& method, const std::string& url, const std::string& body,
                           const std::string& socket = {}, const std::string& bearer = {},
                           const std::function<void(std::string_view)>& on_data = {}, const std::string& authorities = {});
// One segment of a URL's path, percent-encoded.
std::string path_segment(const std::string& text);

class Control {
 public:
  // Decides which of the two ways it is. Errors: io.
  static Result<Control> open(const config::Config& config);
  bool daemon() const { return lock_ == nullptr; }
  // Only with a daemon: the answer's body, or the error it named.
  Result<std::string> call(const std::string& method, const std::string& path, const std::string& body = {}) const;
  // Only without one: opened on first use.
  Result<ledger::Ledger*> ledger();

 private:
  std::string data_dir_;
  std::unique_ptr<app::DataDirLock> lock_;
  std::unique_ptr<Clock> clock_;
  std::unique_ptr<ledger::Ledger> ledger_;
};

}  // namespace tokenworks::cli
