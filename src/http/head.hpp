#pragma once
// RequestReader: the bytes of one request, as they come, into an Incoming. Beast's parser does the grammar of heads; the rules that
// keep two parsers from seeing two different requests (RFC 9112: one length, one Host, no folded lines) are checked here,
// before anything acts on the head. Used by one session on its thread; a fresh one per request.
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "exchange.hpp"

namespace tokenworks::http {

class RequestReader {
 public:
  enum class State : std::uint8_t { head, body, done, failed };

  RequestReader(std::size_t header_max, std::size_t body_max);
  ~RequestReader();
  RequestReader(RequestReader&&) noexcept;

  // Takes bytes from the front of `in` and returns how many. Never takes what follows the request. After `failed` the
  // connection cannot be read any further.
  std::size_t feed(std::string_view in);
  State state() const;
  const Error& failure() const;                      // once failed

  // Once the head is there (state body or done). The body is filled in by the time the state is done.
  Incoming& request();
  bool keep_alive() const;
  bool expects_continue() const;                     // "Expect: 100-continue" from an HTTP/1.1 client
  bool bad_expectation() const;                      // any other Expect
  bool has_body() const;

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace tokenworks::http
