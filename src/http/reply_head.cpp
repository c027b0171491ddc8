#include "reply_head.hpp"

#include <ctime>

#include "json_out.hpp"

namespace tokenworks::http {
namespace {

constexpr std::string_view kExposed =
    "x-request-id, openai-processing-ms, retry-after, retry-after-ms, x-should-retry, x-tokenworks-stop, x-idempotent-replayed, "
    "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, "
    "ratelimit, ratelimit-policy";
constexpr std::string_view kAllowedHeaders =
    "authorization, content-type, idempotency-key, x-request-timeout, x-tokenworks-data-class, openai-organization, openai-project, "
    "openai-beta, x-stainless-lang, x-stainless-package-version, x-stainless-os, x-stainless-arch, x-stainless-runtime, "
    "x-stainless-runtime-version, x-stainless-retry-count, x-stainless-timeout, x-stainless-read-timeout, "
    "x-stainless-async, x-stainless-helper-method, x-stainless-poll-helper, x-stainless-custom-poll-interval";

// A value that came from outside never ends a header line.
void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name);
  out += ": ";
  const std::size_t begin = out.size();
  out.append(value);
  for (std::size_t i = begin; i < out.size(); ++i) {
    if (static_cast<unsigned char>(out[i]) < 0x20 || out[i] == 0x7f) out[i] = ' ';
  }
  out += "\r\n";
}

const std::string& date_now() {
  thread_local std::time_t second = 0;
  thread_local std::string text;
  if (const std::time_t now = std::time(nullptr); now != second) {
    second = now;
    text = http_date(now);
  }
  return text;
}

bool header_list_ok(std::string_view list) {
  return !list.empty() && list.size() <= 4096 &&
         list.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ") == std::string_view::npos;
}

}  // namespace

const char* reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Status";
  }
}

void append_head(std::string& out, int status, std::string_view content_type, std::int64_t length, const Headers& headers,
                 const HeadFacts& facts) {
  out.reserve(out.size() + 1024);
  out += "HTTP/1.1 ";
  append_integer(out, status);
  out += ' ';
  out += reason_phrase(status);
  out += "\r\n";
  append_field(out, "server", facts.plant.server_version);
  append_field(out, "date", date_now());
  if (facts.id != nullptr) append_field(out, "x-request-id", facts.id->to_string());
  append_field(out, "openai-processing-ms", std::to_string(facts.processing_ms));
  if (!facts.organization.empty()) append_field(out, "openai-organization", facts.organization);
  if (!content_type.empty()) append_field(out, "content-type", content_type);
  append_field(out, "x-content-type-options", "nosniff");
  if (facts.cross_origin && facts.plane == Plane::api) {
    append_field(out, "access-control-allow-origin", "*");
    append_field(out, "access-control-expose-headers", kExposed);
  }
  for (const auto& [name, value] : headers.all()) append_field(out, name, value);
  if (facts.chunked) {
    append_field(out, "transfer-encoding", "chunked");
  } else if (length >= 0 && status != 204) {
    append_field(out, "content-length", std::to_string(length));
  }
  if (facts.close) {
    append_field(out, "connection", "close");
  } else if (facts.http_1_0) {
    append_field(out, "connection", "keep-alive");
  }
  out += "\r\n";
}

Reply options_reply(const std::string& allow, const Headers& request, Plane plane) {
  Reply reply;
  reply.status = 204;
  reply.content_type.clear();
  reply.headers.add("allow", allow);
  if (plane != Plane::api || request.get("access-control-request-method").empty()) return reply;
  reply.headers.add("access-control-allow-methods", allow);
  const std::string_view asked = request.get("access-control-request-headers");
  reply.headers.add("access-control-allow-headers", std::string(header_list_ok(asked) ? asked : kAllowedHeaders));
  reply.headers.add("access-control-max-age", "86400");
  return reply;
}

}  // namespace tokenworks::http
