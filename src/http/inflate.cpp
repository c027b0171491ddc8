#include "inflate.hpp"

#include <zlib.h>

#include <algorithm>

namespace tokenworks::http {

Result<std::string> gunzip(std::string_view compressed, std::size_t most) {
  z_stream stream{};
  constexpr int kGzipOnly = 15 + 16;                 // zlib.h: the largest window, gzip header required
  if (inflateInit2(&stream, kGzipOnly) != Z_OK) return error(Errc::internal, "zlib could not start");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
  stream.avail_in = static_cast<uInt>(compressed.size());
  std::string out;
  std::size_t filled = 0;
  int status = Z_OK;
  while (status == Z_OK && filled <= most) {
    // Room is made when there is none, not for every member: of those without content a body holds half a million.
    if (filled == out.size()) out.resize(filled + std::clamp<std::size_t>(filled, 16 << 10, 1 << 20));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + filled);
    stream.avail_out = static_cast<uInt>(out.size() - filled);
    status = inflate(&stream, Z_NO_FLUSH);
    filled = out.size() - stream.avail_out;
    if (status == Z_STREAM_END && stream.avail_in > 0) status = inflateReset(&stream);   // members may follow each other (RFC 1952 2.2)
    if (status == Z_BUF_ERROR || (status == Z_OK && stream.avail_in == 0 && stream.avail_out > 0)) break;   // it ends too early
  }
  const bool rest = stream.avail_in > 0;
  inflateEnd(&stream);
  if (filled > most) {
    return error(Errc::body_too_large, "the request body is larger than " + std::to_string(most) + " bytes once decompressed");
  }
  if (status != Z_STREAM_END || rest) return error(Errc::invalid_request, "the request body is not valid gzip data");
  out.resize(filled);
  return out;
}

}  // namespace tokenworks::http
