#include "chunked.hpp"

#include <algorithm>

namespace tokenworks::http {
namespace {

Error bad(const char* why) { return error(Errc::invalid_request, std::string("malformed HTTP request: ") + why); }

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool blank(char c) { return c == ' ' || c == '\t'; }
bool printable(char c) { return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F); }
bool of_name(char c) {                               // RFC 9110 5.6.2
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

}  // namespace

Result<std::size_t> ChunkedBody::feed(std::string_view in, std::string& body) {
  std::size_t used = 0;
  while (used < in.size() && at_ != At::end) {
    if (at_ == At::data) {
      const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size() - used));
      body.append(in.substr(used, n));
      used += n;
      left_ -= n;
      if (left_ == 0) at_ = At::data_cr;
      continue;
    }
    if (auto taken = take(in[used], body.size()); !taken) return taken.error();
    ++used;
  }
  return used;
}

Result<> ChunkedBody::take(char c, std::size_t had) {
  if (++line_ > line_max_) return bad("a chunk's size line or the trailers are too long");
  switch (at_) {
    case At::size:
      if (const int d = digit(c); d >= 0) {
        if (left_ >> 59 != 0) return bad("a chunk's size is too large");
        left_ = left_ * 16 + static_cast<std::uint64_t>(d);
        digits_ = true;
        return {};
      }
      if (!digits_) return bad("a chunk's size is not a hexadecimal number");
      at_ = At::padding;
      [[fallthrough]];
    case At::padding:
      if (c == ';') at_ = At::extension;
      else if (c == '\r') at_ = At::size_end;
      else if (!blank(c)) return bad("a chunk's size is not a hexadecimal number");
      return {};
    case At::extension:
      if (c == '\r') at_ = At::size_end;
      else if (!printable(c)) return bad("a control character in a chunk's extension");
      return {};
    case At::size_end:
      if (c != '\n') return bad("a chunk's size line does not end with CR LF");
      if (left_ > most_ - std::min(most_, had)) {
        return error(Errc::body_too_large, "the request body is larger than " + std::to_string(most_) + " bytes");
      }
      at_ = left_ > 0 ? At::data : At::trailer;
      line_ = 0;
      return {};
    case At::data_cr:
      if (c != '\r') return bad("a chunk's data goes on after its size");
      at_ = At::data_lf;
      return {};
    case At::data_lf:
      if (c != '\n') return bad("a chunk's data does not end with CR LF");
      at_ = At::size;
      digits_ = false;
      line_ = 0;
      return {};
    case At::trailer:
      if (c == '\r') at_ = At::last;
      else if (of_name(c)) at_ = At::trailer_name;
      else return bad("a trailer does not begin with a name");
      return {};
    case At::trailer_name:
      if (c == ':') at_ = At::trailer_value;
      else if (!of_name(c)) return bad("a trailer's name has no colon behind it");
      return {};
    case At::trailer_value:
      if (c == '\r') at_ = At::trailer_end;
      else if (!printable(c)) return bad("a control character in a trailer");
      return {};
    case At::trailer_end:
      if (c != '\n') return bad("a trailer does not end with CR LF");
      at_ = At::trailer;
      return {};
    case At::last:
      if (c != '\n') return bad("the chunked body does not end with CR LF");
      at_ = At::end;
      return {};
    case At::data:
    case At::end: return {};
  }
  return {};
}

}  // namespace tokenworks::http
