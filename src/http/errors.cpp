#include "errors.hpp"

#include <algorithm>

#include "json_out.hpp"

namespace tokenworks::http {
namespace {

constexpr const char* kRequest = "invalid_request_error";
constexpr const char* kPermission = "permission_error";
constexpr const char* kRate = "rate_limit_error";
constexpr const char* kServer = "server_error";

}  // namespace

ErrorShape shape(Errc code) {
  const char* word = name(code);
  switch (code) {
    case Errc::invalid_request: return {400, kRequest, word, false, -1};
    case Errc::context_length_exceeded: return {400, kRequest, word, false, -1};
    case Errc::unsupported_parameter: return {400, kRequest, word, false, -1};
    case Errc::bad_config: return {400, kRequest, word, false, -1};          // a reload that was refused
    case Errc::invalid_api_key: return {401, kRequest, word, false, -1};
    case Errc::model_not_allowed: return {403, kPermission, word, false, -1};
    case Errc::model_not_allowed_now: return {403, kPermission, word, false, -1};
    case Errc::residency_violation: return {403, kPermission, word, false, -1};
    case Errc::insufficient_permissions: return {403, kPermission, word, false, -1};
    case Errc::model_not_found: return {404, kRequest, word, false, -1};
    case Errc::not_found: return {404, kRequest, word, false, -1};
    case Errc::method_not_allowed: return {405, kRequest, word, false, -1};
    case Errc::request_timeout: return {408, kRequest, word, false, -1};
    case Errc::idempotency_in_progress: return {409, kRequest, word, false, -1};
    // SDKs retry every 409; what stands in a file stays there however often one asks.
    case Errc::declared_in_config: return {409, kRequest, word, false, 0};
    case Errc::body_too_large: return {413, kRequest, word, false, -1};
    case Errc::unsupported_media_type: return {415, kRequest, word, false, -1};
    case Errc::idempotency_mismatch: return {422, kRequest, word, false, -1};
    case Errc::rate_limit_exceeded: return {429, kRate, word, false, -1};
    case Errc::concurrency_limit_exceeded: return {429, kRate, word, false, -1};
    case Errc::insufficient_quota: return {429, word, word, false, 0};
    case Errc::headers_too_large: return {431, kRequest, word, false, -1};
    case Errc::cancelled: return {499, kServer, word, false, -1};            // nobody is there to read it
    case Errc::engine_failed: return {500, kServer, word, false, -1};
    case Errc::internal: return {500, kServer, word, true, -1};
    case Errc::bad_file: return {500, kServer, word, true, -1};
    case Errc::io: return {500, kServer, word, true, -1};
    case Errc::server_is_overloaded: return {503, kServer, word, false, -1};
    case Errc::server_draining: return {503, kServer, word, false, -1};
    case Errc::ledger_unavailable: return {503, kServer, word, false, -1};
    case Errc::deadline_exceeded: return {504, kServer, word, false, -1};
  }
  return {500, kServer, name(Errc::internal), true, -1};
}

std::string error_json(const Error& error) {
  const ErrorShape as = shape(error.code);
  std::string out = R"({"error":)";
  JsonObject object(out);
  object.string("message", as.opaque ? "the server met an internal error; quote the x-request-id of this answer when you report it"
                                     : std::string_view(error.message));
  object.string("type", as.type);
  object.string_or_null("param", error.param);
  object.string("code", as.code);
  object.close();
  return out += '}';
}

Reply error_reply(const Error& error) {
  const ErrorShape as = shape(error.code);
  Reply reply;
  reply.status = as.status;
  reply.body = error_json(error);
  if (error.retry_after_ms >= 0 && (as.status == 429 || as.status == 503 || as.status == 409) && as.should_retry != 0) {
    const std::int64_t ms = std::max<std::int64_t>(error.retry_after_ms, 1);
    reply.headers.add("retry-after", std::to_string((ms + 999) / 1000));
    reply.headers.add("retry-after-ms", std::to_string(ms));
  }
  // A window that can never hold the request: asking again brings nothing.
  const bool never = (error.code == Errc::rate_limit_exceeded || error.code == Errc::concurrency_limit_exceeded) && error.retry_after_ms < 0;
  if (never) reply.headers.add("x-should-retry", "false");
  if (as.should_retry >= 0) reply.headers.add("x-should-retry", as.should_retry == 1 ? "true" : "false");
  if (as.status == 401) reply.headers.add("www-authenticate", "Bearer");
  if (as.status == 415) reply.headers.add("accept", "application/json"), reply.headers.add("accept-encoding", "gzip, identity");
  return reply;
}

}  // namespace tokenworks::http
