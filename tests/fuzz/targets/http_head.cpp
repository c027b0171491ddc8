// The head and the body of a request as the session reads them: whole and in pieces, with the same outcome.
#include <algorithm>
#include <string>

#include "fuzz/targets.hpp"
#include "http/head.hpp"
#include "http/inflate.hpp"

namespace tokenworks::fuzz {
namespace {

constexpr std::size_t kHeaderMax = 2048, kBodyMax = 4096;

struct Outcome {
  http::RequestReader::State state = http::RequestReader::State::head;
  std::string what, rest;
  bool operator==(const Outcome&) const = default;
};

// `piece`: bytes that arrive at once; what the reader leaves stays in the buffer, as in the session.
Outcome read(std::string_view input, std::size_t piece) {
  using State = http::RequestReader::State;
  http::RequestReader reader(kHeaderMax, kBodyMax);
  std::string buffer;
  std::size_t sent = 0;
  while (reader.state() == State::head || reader.state() == State::body) {
    const std::size_t used = reader.feed(buffer);
    must(used <= buffer.size(), "more was read than was there");
    buffer.erase(0, used);
    if (reader.state() == State::done || reader.state() == State::failed) break;
    if (used > 0) continue;
    if (sent == input.size()) break;
    const std::size_t n = std::min(piece, input.size() - sent);
    buffer += input.substr(sent, n);
    sent += n;
  }
  Outcome out{reader.state(), {}, {}};
  if (out.state == State::failed) {
    out.what = std::to_string(static_cast<int>(reader.failure().code));
    return out;
  }
  if (out.state == State::head) return out;
  const http::Incoming& request = reader.request();
  out.what = request.method + " " + request.path + "?" + request.query + (request.http_1_0 ? " 1.0 " : " ") +
             std::to_string(reader.keep_alive() + 2 * reader.expects_continue() + 4 * reader.bad_expectation());
  must(request.path == "*" || request.path.starts_with('/'), "a path that is none");
  if (out.state == State::done) {
    must(request.body.size() <= kBodyMax, "a body past its limit");
    out.what += "\n" + request.body;
    out.rest = buffer + std::string(input.substr(sent));
  }
  return out;
}

}  // namespace

void http_head(std::string_view input) {
  const Outcome whole = read(input, input.size() + 1);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{100}}) {
    const Outcome pieces = read(input, piece);
    // How early a mistake is seen depends on what has arrived; a request that was read must not be one that is refused.
    using State = http::RequestReader::State;
    if (whole.state == State::failed || pieces.state == State::failed) {
      must(whole.state != State::done && pieces.state != State::done, "pieces of a request are refused, the whole is not, or the reverse");
    } else {
      must(whole == pieces, "a request read in pieces is another one");
    }
  }
  if (const auto inflated = http::gunzip(input, kBodyMax)) must(inflated->size() <= kBodyMax, "inflated past the limit");
}

}  // namespace tokenworks::fuzz
