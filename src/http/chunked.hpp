#pragma once
// ChunkedBody: the chunked coding of a request's body (RFC 9112 7.1), byte by byte as it arrives: how the bytes were cut on their
// way never changes what is read, and a mistake is told with the byte that makes it one. Strict where two readers could differ:
// every line ends with CR LF, sizes are hexadecimal digits and, behind them, blanks. Extensions and trailers are checked, bounded and dropped.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tokenworks/base/result.hpp"

namespace tokenworks::http {

class ChunkedBody {
 public:
  // `most`: bytes of the body; `line_max`: of one size line, and of all trailers together.
  ChunkedBody(std::size_t most, std::size_t line_max) : most_(most), line_max_(line_max) {}

  // Takes all of `in`, or less when the body ends within it; data is appended to `body`, nothing else may be in there. After an
  // error (invalid_request, body_too_large) it must not be fed again.
  Result<std::size_t> feed(std::string_view in, std::string& body);
  bool done() const { return at_ == At::end; }

 private:
  enum class At : std::uint8_t { size, padding, extension, size_end, data, data_cr, data_lf, trailer, trailer_name, trailer_value, trailer_end, last, end };

  Result<> take(char c, std::size_t had);            // any byte but data; `had`: of the body so far

  const std::size_t most_, line_max_;
  At at_ = At::size;
  bool digits_ = false;
  std::uint64_t left_ = 0;                           // of the chunk: its size while that is read, then its data to come
  std::size_t line_ = 0;                             // bytes of this size line, or of the trailers
};

}  // namespace tokenworks::http
