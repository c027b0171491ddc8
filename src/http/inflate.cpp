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
  int status = Z_OK;
  while (status == Z_OK && out.size() <= most) {
    const std::size_t used = out.size();
    out.resize(used + std::clamp<std::size_t>(used, 16 << 10, 1 << 20));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + used);
    stream.avail_out = static_cast<uInt>(out.size() - used);
    status = inflate(&stream, Z_NO_FLUSH);
    out.resize(out.size() - stream.avail_out);
    if (status == Z_STREAM_END && stream.avail_in > 0) status = inflateReset(&stream);   // members may follow each other (RFC 1952 2.2)
    if (status == Z_BUF_ERROR || (status == Z_OK && stream.avail_in == 0 && stream.avail_out > 0)) break;   // it ends too early
  }
  const bool rest = stream.avail_in > 0;
  inflateEnd(&stream);
  if (out.size() > most) {
    return error(Errc::body_too_large, "the request body is larger than " + std::to_string(most) + " bytes once decompressed");
  }
  if (status != Z_STREAM_END || rest) return error(Errc::invalid_request, "the request body is not valid gzip data");
  return out;
}

}  // namespace tokenworks::http
