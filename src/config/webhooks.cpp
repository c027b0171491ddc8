#include <algorithm>
#include <filesystem>
#include <fstream>

#include "parts.hpp"
#include "tokenworks/base/base64.hpp"

namespace tokenworks::config {
namespace {

constexpr std::size_t kMost = 32;                    // each has a thread
constexpr std::string_view kSigned = "whsec_";       // Standard Webhooks: what follows is Base64 of the secret's bytes

bool plain(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
  });
}

// http:// or https://, a host, no user and password (they would stand in logs), no white space.
bool good_url(const std::string& url) {
  const std::size_t scheme = url.starts_with("https://") ? 8 : url.starts_with("http://") ? 7 : 0;
  if (scheme == 0 || url.size() > 2048) return false;
  const std::string host = url.substr(scheme, url.find_first_of("/?#", scheme) - scheme);
  return !host.empty() && host.front() != ':' && host.find('@') == std::string::npos &&
         std::ranges::all_of(url, [](char c) { return c > ' ' && c < 127; });
}

// The bytes that sign; says what is wrong with the text of it, never the text.
void decode(Fields& f, const std::string& key, std::string text, std::string& secret) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.erase(0, 1);
  if (!text.starts_with(kSigned)) {
    secret = std::move(text);
  } else if (auto bytes = from_base64(text.substr(kSigned.size()))) {
    secret = std::move(*bytes);
  } else {
    return f.mistake(key, "begins with whsec_, but what follows is not Base64");
  }
  if (secret.empty()) f.mistake(key, "is empty: anybody could sign with it; use 24 random bytes or more");
}

// Of `secret` or `secret_file`, and of the pair with `old_` before it, which may be left out.
void read_secret(Fields& f, const std::string& key, bool required, std::string& secret) {
  const std::string file_key = key + "_file";
  std::string text, file;
  f.text(key, text);
  f.text(file_key, file);
  if (f.has(key) == f.has(file_key)) {
    if (f.document().asked == nullptr && (required || f.has(key))) {
      f.document().mistake(f.line(), f.path() + (f.has(key) ? " has both " + key + " and " + file_key + "; give it one of the two"
                                                                    : " has no secret: set secret or secret_file"));
    }
    return;
  }
  if (f.has(key)) return decode(f, key, std::move(text), secret);
  const auto path = std::filesystem::absolute(f.document().file).parent_path() / file;
  std::ifstream in(path, std::ios::binary);
  if (file.empty() || !in) return f.mistake(file_key, "is '" + file + "', which cannot be read");
  text.assign(std::istreambuf_iterator<char>(in), {});
  if (text.size() > 4096) return f.mistake(file_key, "is '" + file + "', which is too large for a secret");
  decode(f, file_key, std::move(text), secret);
}

}  // namespace

void read_webhooks(Fields& f, Plant& p) {
  static const std::vector<std::string> kTypes{"*", "budget.threshold", "credit.expired"};
  f.named("webhooks", [&](const std::string& name, Fields& g) {
    Plant::Webhook w;
    w.name = name;
    w.where = g.where();
    if (!plain(name)) g.document().mistake(g.line(), g.path() + ": a webhook's name holds letters, digits and - _ . only, at most 64");
    g.text("url", w.url, true);
    if (!w.url.empty() && !good_url(w.url)) {
      g.mistake("url", "is not an http:// or https:// address with a host and without a user");
    }
    read_secret(g, "secret", true, w.secret);
    read_secret(g, "old_secret", false, w.old_secret);
    if (!w.old_secret.empty() && w.old_secret == w.secret) g.mistake("old_secret", "is the same as secret: leave it out");
    g.texts("events", w.events);
    if (w.events.empty()) g.mistake("events", "names no event: leave it out for all, or name one");
    for (const std::string& type : w.events) {
      if (std::ranges::find(kTypes, type) != kTypes.end()) continue;
      const auto near = nearest(type, kTypes);
      g.mistake("events", "holds '" + type + "', which is no event" + (near ? "; did you mean '" + *near + "'?" : ""));
    }
    p.webhooks.push_back(std::move(w));
  });
  if (p.webhooks.size() > kMost) f.mistake("webhooks", "has more than " + std::to_string(kMost));
}

}  // namespace tokenworks::config
