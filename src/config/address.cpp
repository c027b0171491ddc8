#include "address.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

namespace tokenworks::config {
namespace {

bool is_v4(const std::string& host) {
  in_addr ignored;
  return inet_pton(AF_INET, host.c_str(), &ignored) == 1;
}

bool is_v6(const std::string& host) {
  in6_addr ignored;
  return inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &ignored) == 1;   // a link-local one names its interface
}

bool is_name(const std::string& host) {
  return host.size() <= 253 && std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '.' || c == '_';
  });
}

bool is_every(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

}  // namespace

std::string mistake_in_address(const std::string& text, Address& into) {
  const std::string needed = "host:port is needed, such as 0.0.0.0:8080";
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return needed;
  std::string host = text.substr(0, colon);
  const std::string port = text.substr(colon + 1);
  const bool digits = std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (port.empty() || port.size() > 5 || !digits || std::stoi(port) > 65535) return needed;
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  if (host == "*") host = "0.0.0.0";
  const bool numbers = std::all_of(host.begin(), host.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
  if (brackets || host.find(':') != std::string::npos) {
    if (!is_v6(host)) return "'" + host + "' is no IPv6 address; " + needed;
  } else if (numbers) {
    if (!is_v4(host)) return "'" + host + "' is no IPv4 address; " + needed;
  } else if (!is_name(host)) {
    return "'" + host + "' is no host name; " + needed;
  }
  into = {host, std::stoi(port)};
  return {};
}

bool is_loopback(const Address& address) {
  return address.host == "localhost" || address.host == "::1" || (is_v4(address.host) && address.host.starts_with("127."));
}

bool collide(const Address& a, const Address& b) {
  return a.port == b.port && a.port != 0 && (a.host == b.host || is_every(a.host) || is_every(b.host));
}

}  // namespace tokenworks::config
