#include "control.hpp"

#include <curl/curl.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

namespace tokenworks::cli {
namespace {

struct Sink {
  std::string* body;
  const std::function<void(std::string_view)>* on_data;
  CURL* handle;
};

std::size_t receive(char* data, std::size_t size, std::size_t count, void* user) {
  auto* sink = static_cast<Sink*>(user);
  long status = 0;
  curl_easy_getinfo(sink->handle, CURLINFO_RESPONSE_CODE, &status);
  if (*sink->on_data && status < 400) {
    (*sink->on_data)(std::string_view(data, size * count));
  } else {
    sink->body->append(data, size * count);
  }
  return size * count;
}

}  // namespace

Result<Reply> http_request(const std::string& method, const std::string& url, const std::string& body, const std::string& socket,
                           const std::string& bearer, const std::function<void(std::string_view)>& on_data,
                           const std::string& authorities) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl) return error(Errc::io, "libcurl cannot start");
  Reply reply;
  Sink sink{&reply.body, &on_data, curl.get()};
  curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
  headers = curl_slist_append(headers, "Expect:");
  if (!bearer.empty()) headers = curl_slist_append(headers, ("Authorization: Bearer " + bearer).c_str());
  curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  if (!socket.empty()) curl_easy_setopt(curl.get(), CURLOPT_UNIX_SOCKET_PATH, socket.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_CUSTOMREQUEST, method.c_str());
  if (method != "GET") {
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
    curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  }
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT, 5L);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &sink);
  // libcurl does not look at the variable itself.
  const char* const variable = std::getenv("SSL_CERT_FILE");
  const std::string trusted = !authorities.empty() ? authorities : variable == nullptr ? "" : variable;
  if (!trusted.empty()) curl_easy_setopt(curl.get(), CURLOPT_CAINFO, trusted.c_str());
  char why[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, why);
  const CURLcode code = curl_easy_perform(curl.get());
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  curl_slist_free_all(headers);
  if (code != CURLE_OK) {
    std::string message = "cannot reach " + (socket.empty() ? url : socket) + ": " + (*why != '\0' ? why : curl_easy_strerror(code));
    if (code == CURLE_PEER_FAILED_VERIFICATION) message += "; name the authority that signed the server's certificate with --cacert FILE or SSL_CERT_FILE";
    if (code == CURLE_SSL_CACERT_BADFILE) message += " (" + trusted + ")";
    return error(Errc::io, message);
  }
  reply.status = static_cast<int>(status);
  return reply;
}

std::string path_segment(const std::string& text) {
  std::string out;
  for (const char c : text) {
    char hex[4];
    std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned char>(c));
    out += std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.' ? std::string(1, c) : std::string(hex);
  }
  return out;
}

Result<Control> Control::open(const config::Config& config) {
  Control control;
  control.data_dir_ = config.plant.data_dir;
  bool taken = false;
  auto lock = app::DataDirLock::take(config.plant.data_dir, taken);
  if (!lock && !taken) return lock.error();
  if (lock) control.lock_ = std::move(*lock);
  control.clock_ = std::make_unique<SystemClock>();
  return control;
}

Result<std::string> Control::call(const std::string& method, const std::string& path, const std::string& body) const {
  auto reply = http_request(method, "http://localhost" + path, body, data_dir_ + "/control.sock");
  if (!reply) return reply.error();
  if (reply->status < 400) return std::move(reply->body);
  const auto json = nlohmann::json::parse(reply->body, nullptr, false);
  std::string message = "the daemon answered " + std::to_string(reply->status);
  if (json.is_object() && json.contains("error") && json["error"].is_object() && json["error"]["message"].is_string()) {
    message = json["error"]["message"].get<std::string>();
  }
  return error(reply->status < 500 ? Errc::invalid_request : Errc::internal, message);
}

Result<ledger::Ledger*> Control::ledger() {
  if (!ledger_) {
    ledger::LedgerOptions options;
    options.path = data_dir_ + "/ledger.sqlite";
    options.build_id = app::build_id();
    auto opened = ledger::Ledger::open(options, *clock_);
    if (!opened) return opened.error();
    ledger_ = std::move(*opened);
  }
  return ledger_.get();
}

}  // namespace tokenworks::cli
