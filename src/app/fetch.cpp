#include "fetch.hpp"

#include <curl/curl.h>

#include <cstdlib>
#include <memory>

namespace tokenworks::app {
namespace {

constexpr std::size_t kMost = 1 << 20;

std::size_t receive(char* data, std::size_t size, std::size_t count, void* user) {
  auto* text = static_cast<std::string*>(user);
  if (text->size() + size * count > kMost) return 0;
  text->append(data, size * count);
  return size * count;
}

}  // namespace

Result<std::string> fetch_text(const std::string& url) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl) return error(Errc::io, "libcurl cannot start");
  std::string text;
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 5L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 10L);
  curl_easy_setopt(curl.get(), CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &text);
  if (const char* authorities = std::getenv("SSL_CERT_FILE"); authorities != nullptr && *authorities != '\0') {
    curl_easy_setopt(curl.get(), CURLOPT_CAINFO, authorities);
  }
  const CURLcode code = curl_easy_perform(curl.get());
  if (code != CURLE_OK) return error(Errc::io, url + ": " + curl_easy_strerror(code));
  return text;
}

}  // namespace tokenworks::app
