#include "head.hpp"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <algorithm>

#include "chunked.hpp"

namespace tokenworks::http {
namespace {

namespace beast = boost::beast::http;

constexpr std::size_t kChunkLineMax = 16 << 10;      // of a chunk's size line, and of all trailers

Error bad(const std::string& why) { return error(Errc::invalid_request, "malformed HTTP request: " + why); }

Error explain(const boost::system::error_code& code, std::size_t body_max) {
  if (code == beast::error::header_limit) return error(Errc::headers_too_large, "the request's headers are too large");
  if (code == beast::error::body_limit) {
    return error(Errc::body_too_large, "the request body is larger than " + std::to_string(body_max) + " bytes");
  }
  return bad(code.message());
}

// Whether `in` may be the start of "METHOD ": a token of at most 32 characters (RFC 9110 5.6.2).
bool may_be_method(std::string_view in) {
  constexpr std::string_view kToken = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
  const std::size_t end = in.find_first_not_of(kToken);
  if (end == std::string_view::npos) return in.size() <= 32;
  return end > 0 && end <= 32 && in[end] == ' ';
}

// uri-host [ ":" port ] (RFC 9110 7.2) without lists; empty is allowed where there is no authority.
bool host_ok(std::string_view host) {
  constexpr std::string_view kName = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+;=", kDigits = "0123456789";
  if (host.size() > 255) return false;
  std::size_t end = std::min(host.find_first_not_of(kName), host.size());
  if (host.starts_with('[')) {
    end = host.find_first_not_of("0123456789abcdefABCDEF:.", 1);
    if (end == std::string_view::npos || end == 1 || host[end] != ']') return false;
    ++end;
  }
  if (end == host.size()) return true;
  const std::string_view port = host.substr(end + 1);
  return host[end] == ':' && port.size() <= 5 && port.find_first_not_of(kDigits) == std::string_view::npos && (port.size() < 5 || port <= "65535");
}

// Splits the target into path and query. Absolute form is accepted, as every server must (RFC 9112 3.2.2).
bool split_target(std::string_view target, Incoming& request) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (target.size() < scheme.size() || !equal_no_case(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    const std::size_t slash = target.find_first_of("/?");
    const std::string_view authority = target.substr(0, slash);
    if (authority.empty() || !host_ok(authority)) return false;
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
    if (target[0] == '?') return false;
    break;
  }
  if (target != "*" && (target.empty() || target[0] != '/')) return false;
  target = target.substr(0, target.find('#'));
  const std::size_t mark = target.find('?');
  request.path = std::string(target.substr(0, mark));
  if (mark != std::string_view::npos) request.query = std::string(target.substr(mark + 1));
  return true;
}

// What the grammar allows and a careful server still refuses.
std::optional<Error> check_head(std::string_view raw, const Incoming& request) {
  if (raw.find("\r\n ") != std::string_view::npos || raw.find("\r\n\t") != std::string_view::npos) {
    return bad("a header is folded over several lines");
  }
  const Headers& headers = request.headers;
  const std::size_t lengths = headers.count("content-length"), codings = headers.count("transfer-encoding");
  if (lengths > 1) return bad("there are several Content-Length headers");
  const std::string_view length = headers.get("content-length");
  if (lengths > 0 && (length.empty() || length.find_first_not_of("0123456789") != std::string_view::npos)) {
    return bad("the Content-Length is not one number");   // "5, 5" is legal to merge, and safer to refuse
  }
  if (lengths > 0 && codings > 0) return bad("both Content-Length and Transfer-Encoding are given");
  if (codings > 1 || (codings == 1 && !equal_no_case(trim(headers.get("transfer-encoding")), "chunked"))) {
    return bad("the only Transfer-Encoding this server reads is chunked");
  }
  if (codings > 0 && request.http_1_0) return bad("HTTP/1.0 has no Transfer-Encoding");
  const std::size_t hosts = headers.count("host");
  if (hosts > 1) return bad("there are several Host headers");
  if (hosts == 0 && !request.http_1_0) return bad("the Host header is missing");
  if (!host_ok(headers.get("host"))) return bad("the Host header is not a host");
  // A proxy in front may look at one of them and this server at the other.
  if (headers.count("authorization") > 1) return bad("there are several Authorization headers");
  return std::nullopt;
}

}  // namespace

struct RequestReader::Inside {
  Inside(std::size_t header_max, std::size_t body_max) : header_max(header_max), body_max(body_max) {
    // The size of the head is bounded below.
    parser.header_limit(static_cast<std::uint32_t>(std::min<std::size_t>(header_max, UINT32_MAX / 2) + kChunkLineMax));
    parser.body_limit(body_max);
  }

  std::size_t fail(Error why) {
    failure = std::move(why);
    state = State::failed;
    return 0;
  }
  std::size_t feed_head(std::string_view in);
  std::size_t feed_body(std::string_view in);
  void finish() {
    if (!chunked) request.body = std::move(parser.get().body());
    state = State::done;
  }

  const std::size_t header_max, body_max;
  beast::request_parser<beast::string_body> parser;
  std::optional<ChunkedBody> chunked;                // once the head says so; the parser has done its part then
  State state = State::head;
  std::size_t scanned = 0;                           // of the head: there is no end of headers before this
  bool keep_alive = false;
  Incoming request;
  Error failure;
};

std::size_t RequestReader::Inside::feed_head(std::string_view in) {
  const std::size_t end = in.find("\r\n\r\n", scanned > 3 ? scanned - 3 : 0);
  scanned = in.size();
  if (end == std::string_view::npos ? in.size() > header_max : end + 4 > header_max) {
    return fail(error(Errc::headers_too_large, "the request's headers are larger than " + std::to_string(header_max) + " bytes"));
  }
  // A client that does not speak HTTP is told so at once, not after its timeout. The whole head is held to the same, so that
  // a request is the same however it arrives.
  if (!in.empty() && !may_be_method(in)) return fail(bad("the request does not begin with a method; does the client speak TLS or HTTP/2 to a plain port?"));
  const std::size_t line = in.find('\n');
  if (line != std::string_view::npos && (line == 0 || in[line - 1] != '\r')) return fail(bad("a line does not end with CR LF"));
  if (end == std::string_view::npos) return 0;
  const std::string_view raw = in.substr(0, end + 4);
  boost::system::error_code code;
  std::size_t used = 0;
  while (!code && !parser.is_header_done() && used < raw.size()) {
    const std::size_t step = parser.put(boost::asio::buffer(raw.data() + used, raw.size() - used), code);
    used += step;
    if (step == 0) break;
  }
  if (code && code != beast::error::need_more) return fail(explain(code, body_max));
  if (!parser.is_header_done()) return fail(bad("the head is not complete"));
  auto& message = parser.get();
  request.method = std::string(message.method_string());
  request.http_1_0 = message.version() < 11;
  for (const auto& field : message) request.headers.add(std::string(field.name_string()), std::string(field.value()));
  if (const auto mistake = check_head(raw, request)) return fail(*mistake);
  if (!split_target({message.target().data(), message.target().size()}, request)) return fail(bad("the request target is neither a path nor an http URL"));
  keep_alive = parser.keep_alive();
  state = State::body;
  if (parser.chunked()) chunked.emplace(body_max, kChunkLineMax);
  parser.eager(true);
  if (parser.is_done()) finish();
  return raw.size();
}

// Chunks are read by our own code: Beast 1.81 asserts of its caller that what follows the last chunk's line comes in one piece
// with it, and says nothing of where in a chunk it stands.
std::size_t RequestReader::Inside::feed_body(std::string_view in) {
  if (chunked) {
    const auto used = chunked->feed(in, request.body);
    if (!used) return fail(used.error());
    if (chunked->done()) finish();
    return *used;
  }
  std::size_t used = 0;
  while (used < in.size() && !parser.is_done()) {
    boost::system::error_code code;
    const std::size_t step = parser.put(boost::asio::buffer(in.data() + used, in.size() - used), code);
    used += step;
    if (code && code != beast::error::need_more) return fail(explain(code, body_max));
    if (step == 0) break;
  }
  if (parser.is_done()) finish();
  return used;
}

RequestReader::RequestReader(std::size_t header_max, std::size_t body_max)
    : inside_(std::make_unique<Inside>(header_max, body_max)) {}
RequestReader::~RequestReader() = default;
RequestReader::RequestReader(RequestReader&&) noexcept = default;

std::size_t RequestReader::feed(std::string_view in) {
  std::size_t used = 0;
  if (inside_->state == State::head) used = inside_->feed_head(in);
  if (inside_->state == State::body) used += inside_->feed_body(in.substr(used));
  return used;
}

RequestReader::State RequestReader::state() const { return inside_->state; }
const Error& RequestReader::failure() const { return inside_->failure; }
Incoming& RequestReader::request() { return inside_->request; }
bool RequestReader::keep_alive() const { return inside_->keep_alive; }
bool RequestReader::has_body() const {
  const bool whole = inside_->chunked ? inside_->chunked->done() : inside_->parser.is_done();
  return !whole || !inside_->request.body.empty();
}

bool RequestReader::expects_continue() const {
  return !inside_->request.http_1_0 && equal_no_case(inside_->request.headers.get("expect"), "100-continue");
}
bool RequestReader::bad_expectation() const {
  const std::string_view expect = inside_->request.headers.get("expect");
  return !expect.empty() && !equal_no_case(expect, "100-continue");
}

}  // namespace tokenworks::http
