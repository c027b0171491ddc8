#include "dispatch.hpp"

#include "errors.hpp"
#include "inflate.hpp"
#include "reply_head.hpp"

namespace tokenworks::http {
namespace {

constexpr std::size_t kInflatedHere = 32 << 10;      // larger bodies are inflated off the IO thread

// Browsers' preflights carry no key, so OPTIONS is answered before one is asked for.
std::optional<Reply> answer_options(const Incoming& request, Plane plane, const Match& found) {
  if (request.method != "OPTIONS") return std::nullopt;
  if (request.path == "*") return options_reply("GET, HEAD, POST, DELETE, OPTIONS", request.headers, plane);
  if (found.allow.empty()) return std::nullopt;
  return options_reply(found.allow, request.headers, plane);
}

std::optional<Reply> refuse_body(const Route& route, const Incoming& request) {
  const std::string_view type = request.headers.get("content-type");
  if (route.json_body && !is_json(type)) {
    return error_reply(error(Errc::unsupported_media_type, "the body's content type is " + media_type(type).substr(0, 100) + "; this route reads application/json"));
  }
  const std::string_view coding = request.headers.get("content-encoding");
  if (coding.empty() || equal_no_case(coding, "identity") || equal_no_case(coding, "gzip") || equal_no_case(coding, "x-gzip")) return std::nullopt;
  return error_reply(error(Errc::unsupported_media_type, "the body's content encoding is not gzip or identity, which are what this server reads"));
}

}  // namespace

Admitted dispatch(const Plant& plant, Plane plane, const Incoming& request) {
  Admitted admitted;
  Match found = match(routes_of(plane), request.method, request.path);
  if (auto reply = answer_options(request, plane, found)) {
    admitted.answer = std::move(reply);
    return admitted;
  }
  if (found.route == nullptr) {
    if (found.allow.empty()) {
      admitted.answer = error_reply(error(Errc::not_found, "there is no route " + request.path.substr(0, 200)));
    } else {
      admitted.answer = error_reply(error(Errc::method_not_allowed, "this route does not take the method " + request.method.substr(0, 32) + "; it takes " + found.allow));
      admitted.answer->headers.add("allow", found.allow);
    }
    return admitted;
  }
  const Route& route = *found.route;
  admitted.route = &route;
  admitted.captures = std::move(found.captures);
  if (route.access != Access::open && plane != Plane::local) {
    const std::string_view key = bearer(request.headers.get("authorization"));
    if (!key.empty()) {
      auto caller = plant.service->authenticate(key);
      if (!caller) {
        admitted.answer = error_reply(caller.error());
        return admitted;
      }
      admitted.caller = std::move(*caller);
    }
  }
  if (const auto entered = may_enter(route, plane, admitted.caller.principal); !entered) {
    admitted.answer = error_reply(entered.error());
    return admitted;
  }
  auto query = Query::parse(request.query);
  if (!query) {
    admitted.answer = error_reply(error(Errc::invalid_request, "the query string has a broken percent escape"));
    return admitted;
  }
  admitted.query = std::move(*query);
  admitted.answer = refuse_body(route, request);
  return admitted;
}

boost::asio::awaitable<Result<>> decode_body(const Plant& plant, Incoming& request) {
  const std::string_view coding = request.headers.get("content-encoding");
  if (request.body.empty() || coding.empty() || equal_no_case(coding, "identity")) co_return Result<>{};
  Result<std::string> plain = std::string();
  const std::function<void()> work = [&] { plain = gunzip(request.body, static_cast<std::size_t>(plant.limits.body_bytes)); };
  if (request.body.size() <= kInflatedHere) {
    work();
  } else {
    co_await on_worker(*plant.workers, work);
  }
  if (!plain) co_return plain.error();
  request.body = std::move(*plain);
  co_return Result<>{};
}

}  // namespace tokenworks::http
