#pragma once
// Error: why something did not work, in one closed set of codes.
//
// A code says what the outside is told (INTERFACE "HTTP": status and code); one exhaustive switch in src/http maps it.
// The message is for a person: what was wrong, where, and what to do. It never carries a prompt, an answer or a key.
#include <cstdint>
#include <string>
#include <utility>

namespace tokenworks {

enum class Errc : std::uint8_t {
  // What a client did or met (each has a row in INTERFACE "HTTP").
  invalid_request,            // 400; `param` names the field
  context_length_exceeded,    // 400
  unsupported_parameter,      // 400
  invalid_api_key,            // 401
  model_not_allowed,          // 403
  model_not_allowed_now,      // 403
  residency_violation,        // 403
  insufficient_permissions,   // 403
  model_not_found,            // 404
  not_found,                  // 404
  method_not_allowed,         // 405
  request_timeout,            // 408: the client was too slow sending its request
  idempotency_in_progress,    // 409
  declared_in_config,         // 409
  body_too_large,             // 413
  unsupported_media_type,     // 415
  idempotency_mismatch,       // 422
  rate_limit_exceeded,        // 429, Retry-After
  concurrency_limit_exceeded, // 429, Retry-After
  insufficient_quota,         // 429, x-should-retry: false
  headers_too_large,          // 431
  engine_failed,              // 500
  internal,                   // 500, opaque: our own defect
  server_is_overloaded,       // 503
  server_draining,            // 503
  ledger_unavailable,         // 503
  deadline_exceeded,          // 504
  // What never reaches a client as such: start-up, files, the CLI.
  bad_config,                 // exit code 2
  bad_file,                   // a file that is truncated, lies about itself or has an unknown type
  io,                         // the operating system refused; errno text in the message
  cancelled,                  // the caller left
};

struct Error {
  Errc code = Errc::internal;
  std::string message;
  std::string param{};                     // the request field at fault, "" when there is none
  std::int64_t retry_after_ms = -1;        // how long to wait before a retry can work; -1 when unknown or pointless
};

// The INTERFACE word of a code: "rate_limit_exceeded".
const char* name(Errc code);

inline Error error(Errc code, std::string message, std::string param = {}) {
  return Error{code, std::move(message), std::move(param)};
}

}  // namespace tokenworks
