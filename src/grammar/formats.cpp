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

// RFC 3339, appendix A, with at most six digits a number.
std::string duration() {
  const std::string n = R"(\d{1,6})";
  const std::string day = n + "D", month = n + "M(?:" + day + ")?", year = n + "Y(?:" + month + ")?";
  const std::string second = n + "S", minute = n + "M(?:" + second + ")?", hour = n + "H(?:" + minute + ")?";
  const std::string time = "T(?:" + hour + "|" + minute + "|" + second + ")";
  return "P(?:(?:" + day + "|" + month + "|" + year + ")(?:" + time + ")?|" + time + "|" + n + "W)";
}

std::string uuid(const std::string& third = "[0-9a-fA-F]{4}", const std::string& fourth = "[0-9a-fA-F]{4}") {
  return "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-" + third + "-" + fourth + "-[0-9a-fA-F]{12}$";
}

// RFC 9562: the version, and the variant.
std::string uuid_of(char version) { return uuid(version + std::string("[0-9a-fA-F]{3}"), "[89abAB][0-9a-fA-F]{3}"); }

}  // namespace

const std::string* format_pattern(const std::string& format) {
  static const std::map<std::string, std::string> kFormats = {
      {"date", "^" + date() + "$"},
      {"time", "^" + time() + "$"},
      {"date-time", "^" + date() + "T" + time() + "$"},
      {"duration", "^" + duration() + "$"},
      {"uuid", uuid()},
      {"uuid1", uuid_of('1')},
      {"uuid3", uuid_of('3')},
      {"uuid4", uuid_of('4')},
      {"uuid5", uuid_of('5')},
      {"uuid7", uuid_of('7')},
      {"email", "^" + email() + "$"},
      {"hostname", "^" + host() + "{0,3}$"},
      {"ipv4", "^" + ipv4() + "$"},
      {"ipv6", "^" + ipv6() + "$"},
      {"ipvanyaddress", "^(?:" + ipv4() + "|" + ipv6() + ")$"},
      // RFC 4648, sections 4 and 5.
      {"byte", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"},
      {"base64", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"},
      {"base64url", "^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]==|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048]=)?$"},
      // Of texts; numbers have their bounds.
      {"int32", R"(^(?:0|-?[1-9]\d{0,8})$)"},
      {"int64", R"(^(?:0|-?[1-9]\d{0,17})$)"},
      {"float", R"(^-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?$)"},
      {"double", R"(^-?(?:0|[1-9]\d{0,17})(?:\.\d{1,17})?$)"},
      {"uri", "^" + uri() + "$"},
  };
  const auto found = kFormats.find(format);
  return found == kFormats.end() ? nullptr : &found->second;
}

}  // namespace tokenworks::grammar
