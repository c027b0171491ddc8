#pragma once
// The first lines of an answer, written by hand: status line, the headers every answer carries, and the handler's own.
#include <string>

#include "exchange.hpp"

namespace tokenworks::http {

struct HeadFacts {
  const Plant& plant;
  Plane plane = Plane::api;
  const RequestId* id = nullptr;
  std::string_view organization;                     // "" when no key was read
  std::int64_t processing_ms = 0;
  bool close = false;                                // "connection: close"
  bool chunked = false;                              // else content-length
  bool cross_origin = false;                         // the request came from a web page
  bool http_1_0 = false;
};

// `length`: of the body, when it is not chunked; -1: none is stated (the body ends with the connection).
void append_head(std::string& out, int status, std::string_view content_type, std::int64_t length, const Headers& headers,
                 const HeadFacts& facts);
const char* reason_phrase(int status);
// The answer to an OPTIONS request: what may be asked here, and for browsers what a page may send (CORS).
Reply options_reply(const std::string& allow, const Headers& request, Plane plane);

}  // namespace tokenworks::http
