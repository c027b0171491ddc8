#pragma once
// Errors on the wire: the one place where an Errc becomes a status, a type, a code and headers (INTERFACE "HTTP").
#include <string>

#include "tokenworks/base/error.hpp"
#include "exchange.hpp"

namespace tokenworks::http {

struct ErrorShape {
  int status;
  const char* type;                                  // OpenAI's families: invalid_request_error, rate_limit_error, ...
  const char* code;
  bool opaque;                                       // the message is ours to read, not the client's
  int should_retry;                                  // x-should-retry: 0 "false", 1 "true", -1 not sent
};
ErrorShape shape(Errc code);

// {"error":{"message","type","param","code"}}, all four always.
std::string error_json(const Error& error);
// The whole answer, with Retry-After, retry-after-ms and x-should-retry where they belong.
Reply error_reply(const Error& error);

}  // namespace tokenworks::http
