#include "formats/fetch.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <memory>
#include <mutex>

namespace tokenworks::formats {
namespace {

constexpr int kRedirectsMax = 10;

using UrlHandle = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

UrlHandle parse(const std::string& url) {
  UrlHandle handle(curl_url(), &curl_url_cleanup);
  if (handle && curl_url_set(handle.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) handle.reset();
  return handle;
}

std::string part(CURLU* url, CURLUPart what, unsigned flags = 0) {
  char* text = nullptr;
  if (url == nullptr || curl_url_get(url, what, &text, flags) != CURLUE_OK) return "";
  std::string out = text;
  curl_free(text);
  return out;
}

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(),
                         [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return text;
}

bool is_redirect(long status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// Where a redirect leads. A server elsewhere must not steer us at services of this machine.
Result<std::string> next_hop(const std::string& from, const HttpAnswer& answer) {
  const std::string to = resolve_url(from, answer.header("location"));
  if (to.empty()) return error(Errc::io, from + ": redirects to nowhere");
  if (is_loopback(to) && !is_loopback(from)) {
    return error(Errc::io, from + ": redirects to this machine, which is refused");
  }
  return to;
}

Error too_many_redirects(const std::string& url) {
  return error(Errc::io, url + ": redirects more than " + std::to_string(kRedirectsMax) + " times");
}

}  // namespace

std::string HttpAnswer::header(const std::string& name) const {
  const auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

std::string origin_of(const std::string& url) {
  const UrlHandle handle = parse(url);
  const std::string scheme = lower(part(handle.get(), CURLUPART_SCHEME)),
                    host = lower(part(handle.get(), CURLUPART_HOST));
  if ((scheme != "http" && scheme != "https") || host.empty()) return "";
  return scheme + "://" + host + ":" + part(handle.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

bool is_loopback(const std::string& url) {
  const std::string host = lower(part(parse(url).get(), CURLUPART_HOST));
  const bool numeric = !host.empty() && host.find_first_not_of("0123456789.") == std::string::npos;
  return host == "localhost" || host == "[::1]" || (numeric && host.starts_with("127."));
}

std::string resolve_url(const std::string& url, const std::string& location) {
  const UrlHandle handle = parse(url);
  if (!handle || curl_url_set(handle.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK) return "";
  return part(handle.get(), CURLUPART_URL);
}

std::string last_path_segment(const std::string& url) {
  const std::string path = part(parse(url).get(), CURLUPART_PATH, CURLU_URLDECODE);
  return path.substr(path.rfind('/') + 1);
}

std::string url_encode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
        c == '_' || c == '~') {
      out += c;
    } else {
      out += {'%', kHex[u >> 4], kHex[u & 15]};
    }
  }
  return out;
}

// One request and what its callbacks need.
struct Fetcher::Call {
  bool head_only = false;
  std::vector<std::string> headers;
  const Sink* sink = nullptr;
  std::size_t body_bytes_max = 0;                    // of answer.body, when there is no sink
  HttpAnswer answer;
  CURL* handle = nullptr;
  bool began = false, stopped = false, body_too_large = false;

  static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self) {
    auto& call = *static_cast<Call*>(self);
    const std::string_view line(data, size * count);
    if (line.starts_with("HTTP/")) {                 // a new head: an interim answer or a proxy's came before
      call.answer.headers.clear();
    } else if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
      std::string_view value = line.substr(colon + 1);
      const std::size_t begin = value.find_first_not_of(" \t\r\n");
      value = begin == std::string_view::npos ? "" : value.substr(begin, value.find_last_not_of(" \t\r\n") + 1 - begin);
      call.answer.headers[lower(std::string(line.substr(0, colon)))] = std::string(value);
    }
    return size * count;
  }
  static std::size_t on_data(char* data, std::size_t size, std::size_t count, void* self) {
    auto& call = *static_cast<Call*>(self);
    const std::string_view bytes(data, size * count);
    curl_easy_getinfo(call.handle, CURLINFO_RESPONSE_CODE, &call.answer.status);
    if (call.sink == nullptr) {
      if (bytes.size() > call.body_bytes_max - call.answer.body.size()) return call.body_too_large = true, 0;
      call.answer.body += bytes;
    } else if (call.answer.status / 100 == 2) {
      if (!call.begin() || !call.sink->data(bytes)) return call.stopped = true, 0;
    }
    return bytes.size();
  }
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& call = *static_cast<Call*>(self);
    if (call.sink != nullptr && call.sink->alive && !call.sink->alive()) call.stopped = true;
    return call.stopped ? 1 : 0;
  }
  bool begin() {
    if (!began && sink != nullptr && sink->begin && !sink->begin(answer)) return false;
    began = true;
    return true;
  }
};

Fetcher::Fetcher(std::string endpoint, std::string token)
    : endpoint_origin_(origin_of(endpoint)), token_(std::move(token)) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

Result<> Fetcher::allowed(const std::string& url) const {
  const std::string origin = origin_of(url);
  if (origin.empty()) return error(Errc::invalid_request, url + ": is not an http or https URL");
  if (origin.starts_with("https:") || is_loopback(url) || origin == endpoint_origin_) return {};
  return error(Errc::invalid_request, url + ": plain http is only allowed to this machine; use https");
}

Result<HttpAnswer> Fetcher::once(const std::string& url, Call& call) {
  if (auto ok = allowed(url); !ok) return ok.error();
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), &curl_easy_cleanup);
  if (!curl) return error(Errc::io, url + ": libcurl could not start");
  curl_slist* list = nullptr;
  const auto add = [&](const std::string& header) { list = curl_slist_append(list, header.c_str()); };
  add("Accept-Encoding: identity");                  // lengths and ranges must be those of the file
  for (const std::string& header : call.headers) add(header);
  const bool safe = origin_of(url).starts_with("https:") || is_loopback(url);
  if (!token_.empty() && origin_of(url) == endpoint_origin_ && safe) add("Authorization: Bearer " + token_);
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list, &curl_slist_free_all);

  CURL* c = call.handle = curl.get();
  char reason[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(c, CURLOPT_URL, url.c_str());
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(c, CURLOPT_USERAGENT, "tokenworks");
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, reason);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, 30L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, &Call::on_header);
  curl_easy_setopt(c, CURLOPT_HEADERDATA, &call);
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, &Call::on_data);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &call);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, &Call::on_progress);
  curl_easy_setopt(c, CURLOPT_XFERINFODATA, &call);
  if (call.head_only) curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
  if (is_loopback(url)) curl_easy_setopt(c, CURLOPT_NOPROXY, "*");   // no proxy can reach our loopback

  call.answer = {};
  call.answer.url = url;
  const CURLcode code = curl_easy_perform(c);
  curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &call.answer.status);
  if (call.body_too_large) {
    return error(Errc::io, url + ": the answer is larger than " + std::to_string(call.body_bytes_max) + " bytes");
  }
  if (call.stopped) return error(Errc::cancelled, url + ": stopped");
  if (code != CURLE_OK) {
    return error(Errc::io, url + ": " + (reason[0] != '\0' ? reason : curl_easy_strerror(code)));
  }
  return call.answer;
}

Result<HttpAnswer> Fetcher::head(const std::string& url) {
  std::string at = url;
  for (int hop = 0; hop <= kRedirectsMax; ++hop) {
    Call call;
    call.head_only = true;
    auto answer = once(at, call);
    if (!answer || !is_redirect(answer->status)) return answer;
    const std::string next = resolve_url(at, answer->header("location"));
    if (next.empty() || origin_of(next) != origin_of(at) || !answer->header("x-linked-etag").empty()) return answer;
    at = next;
  }
  return too_many_redirects(url);
}

Result<HttpAnswer> Fetcher::text(const std::string& url, std::size_t bytes_max) {
  std::string at = url;
  for (int hop = 0; hop <= kRedirectsMax; ++hop) {
    Call call;
    call.body_bytes_max = bytes_max;
    auto answer = once(at, call);
    if (!answer || !is_redirect(answer->status)) return answer;
    auto next = next_hop(at, *answer);
    if (!next) return next.error();
    at = std::move(*next);
  }
  return too_many_redirects(url);
}

Result<HttpAnswer> Fetcher::download(const std::string& url, const std::vector<std::string>& headers,
                                     const Sink& sink) {
  std::string at = url;
  for (int hop = 0; hop <= kRedirectsMax; ++hop) {
    Call call;
    call.headers = headers;
    call.sink = &sink;
    auto answer = once(at, call);
    if (!answer) return answer;
    if (answer->status / 100 == 2 && !call.begin()) return error(Errc::cancelled, url + ": stopped");   // an empty body
    if (!is_redirect(answer->status)) return answer;
    auto next = next_hop(at, *answer);
    if (!next) return next.error();
    at = std::move(*next);
  }
  return too_many_redirects(url);
}

}  // namespace tokenworks::formats
