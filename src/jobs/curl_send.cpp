#include <curl/curl.h>

#include <memory>
#include <mutex>

#include "tokenworks/jobs/webhooks.hpp"

namespace tokenworks::jobs {
namespace {

constexpr long kConnectSeconds = 5, kWholeSeconds = 15;
constexpr std::size_t kAnswerMost = 64 * 1024;       // of the answer's body, which nobody reads

std::size_t discard(char*, std::size_t size, std::size_t count, void* read) {
  std::size_t& so_far = *static_cast<std::size_t*>(read);
  so_far += size * count;
  return so_far > kAnswerMost ? 0 : size * count;    // 0 ends the transfer; the status is known by then
}

int look_at_stop(void* stopped, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return (*static_cast<const std::function<bool()>*>(stopped))() ? 1 : 0;
}

struct Cleanup {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

Result<int> send(const std::string& user_agent, const Post& post, const std::function<bool()>& stopped) {
  const std::unique_ptr<CURL, Cleanup> easy(curl_easy_init());
  if (!easy) return error(Errc::internal, "no memory for a transfer");
  std::unique_ptr<curl_slist, Cleanup> headers;
  // An empty Expect: large bodies wait for no "100 Continue".
  headers.reset(curl_slist_append(nullptr, "Expect:"));
  for (const auto& [name, value] : post.headers) {
    headers.reset(curl_slist_append(headers.release(), (name + ": " + value).c_str()));
  }
  std::size_t read = 0;
  char why[CURL_ERROR_SIZE] = "";
  CURL* c = easy.get();
  curl_easy_setopt(c, CURLOPT_URL, post.url.c_str());
  curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);   // an event goes where the configuration says and nowhere else
  curl_easy_setopt(c, CURLOPT_USERAGENT, user_agent.c_str());
  curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(c, CURLOPT_POSTFIELDS, post.body.data());
  curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(post.body.size()));
  curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(c, CURLOPT_TIMEOUT, kWholeSeconds);
  curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
  curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, discard);
  curl_easy_setopt(c, CURLOPT_WRITEDATA, &read);
  curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, look_at_stop);
  curl_easy_setopt(c, CURLOPT_XFERINFODATA, const_cast<std::function<bool()>*>(&stopped));
  const CURLcode code = curl_easy_perform(c);
  long status = 0;
  curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
  if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && read > kAnswerMost)) return static_cast<int>(status);
  return error(Errc::io, std::string("no answer: ") + (*why != '\0' ? why : curl_easy_strerror(code)));
}

}  // namespace

Send curl_send(std::string user_agent) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  return [agent = std::move(user_agent)](const Post& post, const std::function<bool()>& stopped) { return send(agent, post, stopped); };
}

}  // namespace tokenworks::jobs
