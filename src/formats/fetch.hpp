#pragma once
// Fetcher: HTTP GET and HEAD over libcurl for `pull`. Redirects are followed here, not by libcurl, so that one rule is
// visible: the access token goes to the endpoint's origin (scheme, host, port) and nowhere else, and plain http only to
// this machine or to an endpoint the user chose. Proxies come from the environment. One thread.
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tokenworks/base/result.hpp"

namespace tokenworks::formats {

struct HttpAnswer {
  long status = 0;
  std::map<std::string, std::string> headers;        // names in lower case; of the last answer
  std::string body;                                  // text requests only
  std::string url;                                   // that gave this answer
  std::string header(const std::string& name) const;
};

class Fetcher {
 public:
  // `endpoint`: where the token may go; "" token: none is sent.
  Fetcher(std::string endpoint, std::string token);

  // One HEAD; a redirect to another path of the same host is followed, one to another host is returned as it is.
  Result<HttpAnswer> head(const std::string& url);
  // GET of a small text. `bytes_max` bounds the body.
  Result<HttpAnswer> text(const std::string& url, std::size_t bytes_max);

  struct Sink {
    std::function<bool(const HttpAnswer& head)> begin;   // a final answer of 2xx begins; false: stop here
    std::function<bool(std::string_view)> data;          // false: stop (disk full, cancelled)
    std::function<bool()> alive;                         // asked about once a second also while nothing arrives
  };
  // GET into `sink`. An answer that is no 2xx comes back with its status and no body. Error io: the connection failed
  // or broke (the sink keeps what it got), or the sink said stop.
  Result<HttpAnswer> download(const std::string& url, const std::vector<std::string>& headers, const Sink& sink);

 private:
  struct Call;
  Result<HttpAnswer> once(const std::string& url, Call& call);
  Result<> allowed(const std::string& url) const;

  std::string endpoint_origin_, token_;
};

// "https://host:443"; "" when it is no http(s) URL. Loopback: this machine by name or address.
std::string origin_of(const std::string& url);
bool is_loopback(const std::string& url);
// `location` as seen from `url`; "" when it is none.
std::string resolve_url(const std::string& url, const std::string& location);
std::string last_path_segment(const std::string& url);     // percent-decoded; "" when there is none
std::string url_encode(std::string_view text);             // every byte but unreserved ones, also '/'

}  // namespace tokenworks::formats
