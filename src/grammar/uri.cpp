// Addresses of schemas, as far as references between them need it: RFC 3986 without a look at what the parts mean.
#include <optional>

#include "grammar/schema_index.hpp"

namespace tokenworks::grammar {
namespace {

struct Uri {
  std::string_view scheme, path;
  std::optional<std::string_view> authority, query;
};

bool is_scheme(std::string_view s) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", kMore = "0123456789+-.";
  if (s.empty() || kLetters.find(s[0]) == std::string_view::npos) return false;
  for (const char c : s) {
    if (kLetters.find(c) == std::string_view::npos && kMore.find(c) == std::string_view::npos) return false;
  }
  return true;
}

Uri split(std::string_view text) {
  Uri uri;
  if (const auto query = text.find('?'); query != std::string_view::npos) {
    uri.query = text.substr(query + 1);
    text = text.substr(0, query);
  }
  if (const auto colon = text.find(':'); colon != std::string_view::npos && is_scheme(text.substr(0, colon))) {
    uri.scheme = text.substr(0, colon);
    text.remove_prefix(colon + 1);
  }
  if (text.starts_with("//")) {
    const auto end = std::min(text.find('/', 2), text.size());
    uri.authority = text.substr(2, end - 2);
    text.remove_prefix(end);
  }
  uri.path = text;
  return uri;
}

// 5.2.4: "." and ".." are taken out.
std::string without_dots(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    if (path.starts_with("../")) {
      path.remove_prefix(3);
    } else if (path.starts_with("./")) {
      path.remove_prefix(2);
    } else if (path.starts_with("/./")) {
      path.remove_prefix(2);
    } else if (path == "/.") {
      path = "/";
    } else if (path.starts_with("/../") || path == "/..") {
      out.erase(out.rfind('/') == std::string::npos ? 0 : out.rfind('/'));
      path = path == "/.." ? std::string_view("/") : path.substr(3);
    } else if (path == "." || path == "..") {
      path = {};
    } else {
      const auto end = std::min(path.find('/', 1), path.size());
      out += path.substr(0, end);
      path.remove_prefix(end);
    }
  }
  return out;
}

}  // namespace

std::string resolve_uri(std::string_view base, std::string_view reference) {
  const Uri from = split(base), to = split(reference);
  std::string_view scheme = to.scheme;
  std::optional<std::string_view> authority = to.authority, query = to.query;
  std::string path = scheme == "urn" ? std::string(to.path) : without_dots(to.path);
  if (scheme.empty()) {
    scheme = from.scheme;
    if (!authority) {
      authority = from.authority;
      if (to.path.empty()) {
        path = from.path;
        if (!query) query = from.query;
      } else if (!to.path.starts_with('/')) {
        const auto last = from.path.rfind('/');
        const bool rooted = from.authority && from.path.empty();
        path = without_dots((rooted ? "/" : std::string(from.path.substr(0, last == std::string_view::npos ? 0 : last + 1))) + std::string(to.path));
      }
    }
  }
  std::string out;
  if (!scheme.empty()) out += std::string(scheme) + ":";
  if (authority) out += "//" + std::string(*authority);
  out += path;
  if (query) out += "?" + std::string(*query);
  return out;
}

}  // namespace tokenworks::grammar
