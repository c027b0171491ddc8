// The formats of JSON Schema as patterns, each within what its RFC allows: dates exist, times have no leap seconds.
#include <map>

#include "grammar/schema.hpp"

namespace tokenworks::grammar {
namespace {

std::string date() {
  const std::string year = R"((?:000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d\d\d))";
  const std::string leap_year = R"((?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00))";
  const std::string long_month = R"((?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01]))";
  const std::string short_month = R"((?:0[469]|11)-(?:0[1-9]|[12]\d|30))";
  const std::string february = R"(02-(?:0[1-9]|1\d|2[0-8]))";
  return "(?:" + year + "-(?:" + long_month + "|" + short_month + "|" + february + ")|" + leap_year + "-02-29)";
}

std::string time() { return R"((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d))"; }

std::string host() {
  const std::string label = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,60}[A-Za-z0-9])?";
  return label + R"((?:\.)" + label + ")";  // the caller says how often the last part may come
}

std::string ipv4() {
  const std::string byte = R"((?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
  return byte + R"((?:\.)" + byte + "){3}";
}

// RFC 4291, section 2.2: "::" stands for the missing groups.
std::string ipv6() {
  const std::string group = "[0-9a-fA-F]{1,4}";
  std::string any = "(?:" + group + ":){7}" + group + "|(?:" + group + ":){1,7}:";
  for (int before = 1; before <= 6; ++before) {  // at least one group on either side of "::"
    any +=
        "|(?:" + group + ":){1," + std::to_string(before) + "}(?::" + group + "){1," + std::to_string(7 - before) + "}";
  }
  return "(?:" + any + "|:(?::" + group + "){1,7}|::)";
}

std::string email() {
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
  return atom + R"((?:\.)" + atom + ")*@" + host() + "+";
}

// RFC 3986: with a host name or an IPv4 address and no user information, or without an authority ("mailto:...").
std::string uri() {
  const std::string character = R"((?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}))";
  const std::string query = R"((?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)";
  const std::string authority = "//" + host() + "*(?::[0-9]{1,5})?(?:/" + character + "*)*";
  const std::string path = "/?(?:" + character + "+(?:/" + character + "*)*)?";
  return "[A-Za-z][A-Za-z0-9+.-]{0,20}:(?:" + authority + "|" + path + R"()(?:\?)" + query + ")?(?:#" + query + ")?";
}

}  // namespace

const std::string* format_pattern(const std::string& format) {
  static const std::map<std::string, std::string> kFormats = {
      {"date", "^" + date() + "$"},
      {"time", "^" + time() + "$"},
      {"date-time", "^" + date() + "T" + time() + "$"},
      {"uuid", "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
      {"email", "^" + email() + "$"},
      {"hostname", "^" + host() + "{0,3}$"},
      {"ipv4", "^" + ipv4() + "$"},
      {"ipv6", "^" + ipv6() + "$"},
      {"uri", "^" + uri() + "$"},
  };
  const auto found = kFormats.find(format);
  return found == kFormats.end() ? nullptr : &found->second;
}

}  // namespace tokenworks::grammar
