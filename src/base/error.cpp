#include "tokenworks/base/error.hpp"

namespace tokenworks {

const char* name(Errc code) {
  switch (code) {
    case Errc::invalid_request: return "invalid_request";
    case Errc::context_length_exceeded: return "context_length_exceeded";
    case Errc::unsupported_parameter: return "unsupported_parameter";
    case Errc::invalid_api_key: return "invalid_api_key";
    case Errc::model_not_allowed: return "model_not_allowed";
    case Errc::model_not_allowed_now: return "model_not_allowed_now";
    case Errc::residency_violation: return "residency_violation";
    case Errc::insufficient_permissions: return "insufficient_permissions";
    case Errc::model_not_found: return "model_not_found";
    case Errc::not_found: return "not_found";
    case Errc::method_not_allowed: return "method_not_allowed";
    case Errc::request_timeout: return "request_timeout";
    case Errc::idempotency_in_progress: return "idempotency_in_progress";
    case Errc::declared_in_config: return "declared_in_config";
    case Errc::body_too_large: return "body_too_large";
    case Errc::unsupported_media_type: return "unsupported_media_type";
    case Errc::idempotency_mismatch: return "idempotency_mismatch";
    case Errc::rate_limit_exceeded: return "rate_limit_exceeded";
    case Errc::concurrency_limit_exceeded: return "concurrency_limit_exceeded";
    case Errc::insufficient_quota: return "insufficient_quota";
    case Errc::headers_too_large: return "headers_too_large";
    case Errc::engine_failed: return "engine_failed";
    case Errc::internal: return "internal_error";
    case Errc::server_is_overloaded: return "server_is_overloaded";
    case Errc::server_draining: return "server_draining";
    case Errc::ledger_unavailable: return "ledger_unavailable";
    case Errc::deadline_exceeded: return "deadline_exceeded";
    case Errc::bad_config: return "bad_config";
    case Errc::bad_file: return "bad_file";
    case Errc::io: return "io_error";
    case Errc::cancelled: return "cancelled";
  }
  return "internal_error";
}

}  // namespace tokenworks
